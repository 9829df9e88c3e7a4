"""Uvicorn, which says when it answers and takes no new work once it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.api.context import Context


class Server(uvicorn.Server):
    """One API process.

    Args:
        started: told once it answers.
    """

    def __init__(self, config: uvicorn.Config, context: Context, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._context = context
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._context.draining = True
        super().handle_exit(sig, frame)
        # Uvicorn would raise the signal once more at its end, before the other processes are told to stop.
        self._captured_signals.clear()
