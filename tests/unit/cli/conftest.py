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
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Runs `guardrails` in this process."""

    def call(*words: object) -> Run:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Run(status=status, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def cli(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Run]) -> Callable[..., Run]:
    """`run` in this test's own installation and folder."""
    monkeypatch.setenv("GUARDRAILS_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def one_line_error() -> Callable[[Run, str, int], None]:
    """Checks that a run ended with one line that says what is wrong, one hint, and nothing else."""

    def check(result: Run, code: str, status: int) -> None:
        assert result.status == status, result
        assert result.out == ""
        lines = result.err.splitlines()
        assert len(lines) == 2, result.err
        assert lines[0].startswith(f"error[{code}]: ")
        assert lines[1].startswith("hint: ")

    return check


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`guardrails generate` with a generator, screens and an index that need no weights."""
    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: ShapeGenerator())
    monkeypatch.setattr("guardrails.pipeline.guard.default_screens", lambda **_: passing_screens())
    monkeypatch.setattr("guardrails.pipeline.guard.shipped_index", lambda _: FixedIndex())
