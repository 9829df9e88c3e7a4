"""Uvicorn, which says when it answers, and goes on answering until what was open is done once it is told to stop."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.api.context import Context


class Server(uvicorn.Server):
    """One API process.

    Told to stop, it is not ready any more and takes no new work, but listens on: whoever balances the load sees that,
    and requests that wait for their pictures get them. It ends when nothing is open, or when the time is up. A second
    signal ends it at once.

    Args:
        started: told once it answers.
        drain_seconds: that open requests have after the signal.
    """

    def __init__(
        self, config: uvicorn.Config, context: Context, started: Callable[[], None], drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._context = context
        self._tell = started
        self._drain_seconds = drain_seconds
        self._until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    async def on_tick(self, counter: int) -> bool:
        if self._until and (not self.server_state.tasks or time.monotonic() > self._until):
            self.should_exit = True
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._until:
            super().handle_exit(sig, frame)
        self._context.draining = True
        self._until = self._until or time.monotonic() + self._drain_seconds
        # Uvicorn would raise the signal once more at its end, before the other processes are told to stop.
        self._captured_signals.clear()
