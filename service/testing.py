"""A whole service for tests: signer, worker and API as processes of their own, with a drawing double for the model."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardrails.errors import UnavailableError
from service.access.keys import SCOPES
from service.administration import Administration
from service.settings import PREFIX, Settings

DRAWING = "guardrails.testing.guards:drawing"
PASSING = "guardrails.testing.doubles:passing_screens"
_START_SECONDS = 120
_ENDED = "\0ended"


@dataclass
class Running:
    """A service that answers at `url`, and the lines that it logs."""

    url: str
    home: Path
    process: subprocess.Popen[str]
    admin: Administration
    key: str = ""
    lines: list[str] = field(default_factory=list)

    def client(self, key: str = "", **options: Any) -> Any:
        """The unmodified OpenAI client."""
        from openai import OpenAI

        return OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **options)

    def add_key(self, tenant: str, scopes: tuple[str, ...] = SCOPES, **limits: Any) -> str:
        """A new tenant with one key."""
        self.admin.tenants.add(tenant, **limits)
        return self.admin.keys.create(tenant, scopes)[0]

    def log(self) -> list[dict[str, Any]]:
        """What the processes logged."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def stop(self) -> None:
        """Ask the service to stop, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a thread of its own: the driver of the browser tests keeps a loop running in the first one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def start_service(home: Path, *, role: str = "all", **settings: Any) -> Running:
    """`guardrails serve` in a process of its own; returns once it answers.

    Args:
        role: "all", or "api" for one more API process of a service that runs.
        settings: of `service.settings.Settings`; the model is a drawing double unless they say otherwise.

    Raises:
        UnavailableError: it did not start; the message is its log.
    """
    values = {"guard": DRAWING, "screens": PASSING, "port": 0, **settings}
    environment = {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "guardrails.cli", "serve", "--home", str(home), "--role", role],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    admin = Administration.open(Settings(home=home, database=settings.get("database", "")), actor="test")
    running = Running(url="", home=home, process=process, admin=admin)
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, said.put, said.put), daemon=True).start()
    threading.Thread(target=_read, args=(process.stderr, running.lines.append), daemon=True).start()
    for line in iter(lambda: said.get(timeout=_START_SECONDS), _ENDED):
        if "SERVING" in line:
            running.url = line.split()[-1]
            return running
    process.kill()
    process.wait()
    raise UnavailableError("the service did not start: " + "\n".join(running.lines))


def _read(stream: Any, tell: Callable[[str], object], ended: Callable[[str], object] = lambda word: None) -> None:
    for line in stream:
        tell(line.rstrip("\n"))
    ended(_ENDED)
