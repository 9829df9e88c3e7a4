"""The tests of this folder kill processes, not the machine: they need no disk flushes, which take most of the time."""

from __future__ import annotations

import os

import pytest

from guardrails.ledger import sqlite


@pytest.fixture(autouse=True)
def no_disk_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sqlite.SYNCHRONOUS == "FULL"
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
