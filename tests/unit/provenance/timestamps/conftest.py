"""One authority for all tests, and real servers on loopback."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from guardrails.provenance.timestamps import TimeStampAuthority, create_authority_keys
from guardrails.provenance.timestamps.server import TimeStampApplication


@pytest.fixture(scope="session")
def authority_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    create_authority_keys(folder, now=datetime.now(UTC))
    return folder


@pytest.fixture(scope="session")
def authority(authority_folder: Path) -> TimeStampAuthority:
    return TimeStampAuthority.open(authority_folder)


@pytest.fixture(scope="session")
def anchors(authority_folder: Path) -> bytes:
    return (authority_folder / "tsa" / "root.pem").read_bytes()


@pytest.fixture(scope="session")
def served(authority: TimeStampAuthority) -> Iterator[str]:
    """The address of the authority behind a real HTTP server."""
    config = uvicorn.Config(
        TimeStampApplication(authority), host="127.0.0.1", port=0, lifespan="off", log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def hostile() -> Iterator[Callable[[Callable[[Any, bytes], None]], str]]:
    """Starts a server that answers POST as it is told: (handler, body) -> None; gives its address."""
    with contextlib.ExitStack() as stack:

        def start(answer: Callable[[Any, bytes], None]) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_POST(self) -> None:
                    answer(self, self.rfile.read(int(self.headers["content-length"])))

                def log_message(self, format: str, *args: object) -> None:
                    pass

            server = HTTPServer(("127.0.0.1", 0), Handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()

            def stop() -> None:
                server.shutdown()
                thread.join()
                server.server_close()

            stack.callback(stop)
            return f"http://127.0.0.1:{server.server_port}/tsa"

        yield start
