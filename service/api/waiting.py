"""Until a job is over: one question to the database for everybody who waits."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.concurrency import run_in_threadpool

from guardrails.errors import GuardrailsError
from service.jobs.model import Job, Status
from service.jobs.table import JobTable

_SECONDS = 0.02


class Waiter:
    """Tells requests of this process when their job is over."""

    def __init__(self, table: JobTable) -> None:
        self._table = table
        self._waiting: dict[str, asyncio.Event] = {}
        self._count: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def over(self, id: str, seconds: float) -> Job | None:
        """The job once it is over; None when it is not within `seconds`."""
        event = self._waiting.setdefault(id, asyncio.Event())
        self._count[id] = self._count.get(id, 0) + 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._count[id] -= 1
            if not self._count[id]:
                del self._count[id], self._waiting[id]
        job = await run_in_threadpool(self._table.get, id)
        return job if job.status.is_over else None

    async def _poll(self) -> None:
        while self._waiting:
            # Whoever begins to wait during the question is not in its answer.
            asked = dict(self._waiting)
            # A database that is away for a moment is asked again.
            with contextlib.suppress(GuardrailsError):
                standing = await run_in_threadpool(self._table.standing, list(asked))
                for id, event in asked.items():
                    # A job that is gone is over as well.
                    if id not in standing or Status(standing[id][0]).is_over:
                        event.set()
            await asyncio.sleep(_SECONDS)
