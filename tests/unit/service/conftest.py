"""One installation with kept manifests, behind a real server on loopback."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException

from guardrails.audit.matching import Matcher
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance.timestamps import TimeStampAuthority, create_authority_keys
from service import resolution, timestamps

TOKEN = "Bearer fetch-manifests"


def _authorise(authorization: str = Header("")) -> None:
    if authorization != TOKEN:
        raise HTTPException(401, "the scope fetch:manifests is needed")


@pytest.fixture(scope="package")
def service(
    keyed_home: Path, tmp_path_factory: pytest.TempPathFactory, guard_in: Callable[..., Guard]
) -> Iterator[SimpleNamespace]:
    """`url`, and the two pictures `sealed` that were made there."""
    home = Path(shutil.copytree(keyed_home, tmp_path_factory.mktemp("service") / "home"))
    guard = guard_in(home)
    sealed = [guard.generate("a red apple", seed=1), guard.generate("a blue boat", seed=2, format="jpeg")]
    assert all(isinstance(one, Sealed) for one in sealed)
    create_authority_keys(home / "keys", now=datetime.now(UTC))
    application = FastAPI()
    matcher = Matcher.open(home)
    application.include_router(resolution.router(matcher), prefix="/v1")
    application.include_router(resolution.router(matcher, dependencies=[Depends(_authorise)]), prefix="/private")
    application.include_router(timestamps.router(TimeStampAuthority.open(home / "keys")))
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield SimpleNamespace(url=f"http://127.0.0.1:{port}", sealed=sealed, home=home)
    server.should_exit = True
    thread.join()
