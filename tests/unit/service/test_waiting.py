"""Requests that wait for their jobs: told when those are over, and not before."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from guardrails.errors import StorageError
from service.api.waiting import Waiter
from service.jobs.model import Status
from service.testing import run_apart


class Table:
    """Knows two jobs; answers the first question when it is told to."""

    def __init__(self) -> None:
        self.status = {"a": Status.RUNNING, "b": Status.RUNNING}
        self.asked, self.answer = threading.Event(), threading.Event()
        self.is_away = False

    def standing(self, ids: list[str]) -> dict[str, tuple[str, float]]:
        found = {id: (self.status[id].value, 0.0) for id in ids}
        self.asked.set()
        assert self.answer.wait(10)
        if self.is_away:
            self.is_away = False
            raise StorageError("the database is away", hint="")
        return found

    def get(self, id: str) -> Any:
        return SimpleNamespace(id=id, status=self.status[id])


def test_who_begins_to_wait_during_a_question_waits_on() -> None:
    async def run() -> None:
        table = Table()
        waiter = Waiter(table)  # type: ignore[arg-type]
        first = asyncio.create_task(waiter.over("a", 60))
        assert await asyncio.to_thread(table.asked.wait, 10)
        second = asyncio.create_task(waiter.over("b", 60))
        # It has begun to wait once this loop has run everything that was ready.
        await asyncio.sleep(0)
        table.answer.set()
        early, _ = await asyncio.wait([first, second], timeout=0.3)
        assert early == set()
        table.status = dict.fromkeys(table.status, Status.SUCCEEDED)
        assert [job.id for job in await asyncio.gather(first, second) if job is not None] == ["a", "b"]

    run_apart(run())


def test_a_database_that_is_away_for_a_moment_is_asked_again() -> None:
    async def run() -> None:
        table = Table()
        table.status["a"], table.is_away = Status.SUCCEEDED, True
        table.answer.set()
        job = await asyncio.wait_for(Waiter(table).over("a", 60), 30)  # type: ignore[arg-type]
        assert job is not None

    run_apart(run())
