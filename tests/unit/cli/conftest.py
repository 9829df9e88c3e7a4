from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guardrails.cli.main import main
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, passing_screens


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture
def cli(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """Runs `guardrails` in this test's own installation and folder."""
    monkeypatch.setenv("GUARDRAILS_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Run:
        capsys.readouterr()
        status = main(words)
        captured = capsys.readouterr()
        return Run(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """`guardrails generate` with a generator, screens and an index that need no weights."""
    monkeypatch.setattr("guardrails.cli.generate.load", lambda model, **_: ShapeGenerator())
    monkeypatch.setattr("guardrails.pipeline.guard.default_screens", passing_screens)
    monkeypatch.setattr("guardrails.pipeline.guard.shipped_index", lambda home: FixedIndex())
