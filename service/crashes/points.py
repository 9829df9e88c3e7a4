"""Where a worker dies: when a stage is durable, around calls that make something durable, or at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.settings import Settings

# As the worker names them to `reached`.
STAGES = ("claimed", "screened", "generated", "checked", "marked", "self_verified", "recorded", "finishing", "released")
# Call -> at the latest in its so-manieth use: within the first two jobs or so.
_CALLS: Mapping[str, int] = {"fsync": 16, "rename": 4, "commit": 16, "ledger commit": 4}
# Not by its own hand: soon after its start, and soon after it has claimed its first job.
STARTING, WORKING = "while it starts", "while it works"
POINTS = (*STAGES, *(f"{when} {call}" for call in _CALLS for when in ("before", "after")), STARTING, WORKING)


def latest_use(point: str) -> int:
    """How often a point may be passed before the worker dies there."""
    return _CALLS.get(point.partition(" ")[2], 2)


def arm(settings: Settings, point: str, use: int) -> Callable[[str], None]:
    """Let this process die when it comes to `point` for the `use`-th time.

    Returns:
        What the worker is to call with the name of each stage.
    """
    when, _, call = point.partition(" ")
    death = _Death(use)
    if call in ("fsync", "rename"):
        name = "replace" if call == "rename" else call
        setattr(os, name, _around(getattr(os, name), when, death))
    elif call in _CALLS:
        for kind in _kinds(settings, call):
            kind.transaction = _around_commit(kind.transaction, when, death)

    def reached(stage: str) -> None:
        if stage == point:
            death()

    return reached


class _Death:
    def __init__(self, use: int) -> None:
        self._left = use

    def __call__(self) -> None:
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _around(call: Callable[..., Any], when: str, death: _Death) -> Callable[..., Any]:
    def dying(*arguments: Any, **options: Any) -> Any:
        if when == "before":
            death()
        result = call(*arguments, **options)
        if when == "after":
            death()
        return result

    return dying


def _around_commit(transaction: Callable[[Any], Any], when: str, death: _Death) -> Callable[[Any], Any]:
    @contextlib.contextmanager
    def dying(self: Any) -> Iterator[Any]:
        with transaction(self) as opened:
            yield opened
            if when == "before":
                death()
        if when == "after":
            death()

    return dying


def _kinds(settings: Settings, call: str) -> list[Any]:
    """The classes whose transactions are meant: of the service's own rows, or of the ledger."""
    from guardrails.ledger.sqlite import SqliteStore
    from service.stores.sqlite import SqliteDatabase

    if not settings.database:
        return [SqliteDatabase] if call == "commit" else [SqliteStore]
    from guardrails.ledger.postgres import PostgresStore
    from service.stores.postgres import PostgresDatabase

    return [PostgresDatabase] if call == "commit" else [SqliteStore, PostgresStore]
