from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def entries(home: Path) -> Callable[[], list[str]]:
    """The leaf entries of this test's ledger: what is public and permanent, as JSON texts."""

    def read() -> list[str]:
        with sqlite3.connect(home / "ledger" / "ledger.db") as connection:
            return [
                row[0].decode()
                for row in connection.execute("SELECT entry FROM leaves JOIN records USING (seq) ORDER BY idx")
            ]

    return read


@pytest.fixture
def facts(entries: Callable[[], list[str]]) -> Callable[[], Any]:
    """The facts of the newest record."""
    return lambda: json.loads(entries()[-1])["facts"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def left(out: Path) -> Callable[[], list[str]]:
    """Everything in the output folder, hidden files included."""
    return lambda: sorted(path.name for path in out.iterdir()) if out.exists() else []
