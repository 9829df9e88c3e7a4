"""A disk that fails under a whole guard, at every call that makes something durable: no picture leaves unrecorded."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails.audit import Auditor
from guardrails.errors import StorageError
from guardrails.pipeline import Guard, Sealed

PROMPT = "a red apple on a blue background"


class Disk:
    """Fails at one call, and at every one after it."""

    def __init__(self, number: int, fails_at: int) -> None:
        self.calls = 0
        self._number = number
        self._fails_at = fails_at

    def wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls >= self._fails_at:
                raise OSError(self._number, os.strerror(self._number))
            return real(*args, **options)

        return call


def fault_of(guard: Guard, out: Path, disk: Disk, released: list[str]) -> str:
    """Generate on this disk; what is told of its fault, "" when nothing is. Names of released files go to a list."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace", "link"):
            patch.setattr(os, name, disk.wrapped(getattr(os, name)))
        try:
            outcome = guard.generate(PROMPT, out=out)
        except StorageError as error:
            return error.hint
    if isinstance(outcome, Sealed):
        released.append(f"{outcome.id}.png")
        return ""
    return outcome.fault


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_no_picture_leaves_unrecorded_when_the_disk_fails(
    guard: Guard, home: Path, out: Path, left: Callable[[], list[str]], number: int
) -> None:
    out.mkdir()
    released: list[str] = []
    for step in itertools.count(1):
        disk = Disk(number, step)
        told = fault_of(guard, out, disk, released)
        if disk.calls < step:
            break
        assert told, "the fault was told"
        guard.ledger.recover()
        guard.ledger.fsck()
        for name in left():
            assert guard.ledger.find_by_id(Path(name).stem) is not None, f"{name} lies there unrecorded"
        assert set(released) <= set(left())
    assert step > 5, "the calls were counted"
    # What a fault in the very last step left unsaid is whole too.
    auditor = Auditor.open(home)
    assert {auditor.verify_file(out / name, mode="fast").verdict.value for name in left()} == {"confirmed"}
