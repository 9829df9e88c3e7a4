"""The processes of one machine: a signer that alone holds the key, workers that draw, and the API in front of them.

With PostgreSQL there is a sequencer too, which gives the workers' records their places in the log.

`serve` starts them all. On many machines each runs one role alone; they meet in PostgreSQL and in shared folders.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from guardrails.errors import GuardrailsError, OptionError
from service import tracing
from service.observation import log_to_stderr
from service.settings import Settings, refuse_unsafe

if TYPE_CHECKING:
    pass

_log = logging.getLogger(__name__)

# A worker that dies at once dies again; it is not started more often than this.
_RESTART_SECONDS = 1.0


def serve(settings: Settings, *, started: Callable[[str], None] = lambda address: None) -> None:
    """Run everything on this machine until a stop signal, then finish what runs.

    Args:
        started: told the address once it answers.

    Raises:
        OptionError: the address cannot be listened on, or is unsafe to listen on.
        SigningError: the signer did not start.
    """
    refuse_unsafe(settings, dev_keys=not settings.signing_chain)
    log_to_stderr(settings.log_level)
    listening = _listen(settings.host, settings.port)
    settings = _with_port(settings, listening)
    with _Children(settings) as children:
        children.start()
        run_api(settings, listening, started=started)


def run_api(
    settings: Settings, listening: socket.socket | None = None, *, started: Callable[[str], None] = lambda address: None
) -> None:
    """One API process; returns after a stop signal, when the requests that were open are answered."""
    import uvicorn

    from service.app import create_app
    from service.serving import Server

    refuse_unsafe(settings, dev_keys=not settings.signing_chain)
    listening = listening or _listen(settings.host, settings.port)
    settings = _with_port(settings, listening)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=30,
        # For what is still open when the server has drained: see `Server`.
        timeout_graceful_shutdown=1,
        # Who asks is whoever connects, unless a proxy of ours stands in front.
        proxy_headers=settings.behind_tls,
    )
    with tracing.process("api"):
        server = Server(config, app.state.context, lambda: started(settings.base_url), settings.drain_seconds)
        server.run(sockets=[listening])


def run_signer(settings: Settings, *, started: Callable[[str], None] = lambda address: None) -> None:
    """The signer, until it is stopped; `started` is told its socket."""
    from service.jobs.signer import SignerServer, load_key

    stopping = _stop_by_signal()
    server = SignerServer(settings.signer_socket, *load_key(settings))
    with tracing.process("signer"):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started(str(settings.signer_socket))
        stopping.wait()
        server.shutdown()


def run_worker(
    settings: Settings,
    reached: Callable[[str], None] | None = None,
    *,
    started: Callable[[str], None] = lambda name: None,
) -> None:
    """One worker, until it is stopped; the jobs at hand are finished first.

    Args:
        reached: see `Worker`.
        started: told the worker's name once it works.
    """
    from service.jobs.opening import open_worker

    stopping = _stop_by_signal()
    with tracing.process("worker"):
        worker = open_worker(settings, reached)
        started(worker.name)
        worker.run(stopping)


def run_ray(settings: Settings) -> None:
    """The workers of a Ray cluster, until it is stopped; the jobs at hand are finished first."""
    from service.jobs.ray_workers import run_on_ray

    run_on_ray(settings, _stop_by_signal())


def run_sequencer(settings: Settings, *, started: Callable[[str], None] = lambda name: None) -> None:
    """Gives the records that workers stage in PostgreSQL their places, until it is stopped.

    On many machines several may run: one leads, and when it dies another one goes on. `started` is told when one stands
    by.

    Raises:
        OptionError: the ledger is not in PostgreSQL.
        LedgerCorrupt: the log disagrees with its last checkpoint.
    """
    from guardrails.ledger import Sequencer
    from service.stores import open_ledger

    if not settings.database:
        raise OptionError("in SQLite every record gets its place at once", hint="run a sequencer with `database`")
    stopping = _stop_by_signal()
    with open_ledger(settings) as ledger:
        sequencer = Sequencer(ledger, report=lambda error: _log.error("the ledger's database: %s", error.message))
        threading.Thread(target=_then, args=(stopping, sequencer.stop), daemon=True).start()
        started("sequencer")
        sequencer.run()


@dataclass(slots=True)
class _Child:
    name: str
    role: Callable[[Settings], None]
    process: BaseProcess | None = None
    started_at: float = 0.0


class _Children:
    """Signer, sequencer and workers as processes of their own; whichever dies is started again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._stopping = threading.Event()
        self._signer = _Child("signer", run_signer)
        self._sequencers = [_Child("sequencer", run_sequencer)] if settings.database else []
        self._workers = [_Child(f"worker-{number}", run_worker) for number in range(settings.workers)]
        self._all = (self._signer, *self._sequencers, *self._workers)
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        from service.jobs.opening import wait_for_signer

        for child in self._all:
            self._spawn(child)
        self._watcher.start()
        wait_for_signer(self._settings)

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        # The workers first: they may still need the others for the picture at hand.
        self._stop(self._workers, self._settings.drain_seconds)
        self._stop([self._signer, *self._sequencers], 5.0)

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            for child in self._all:
                if child.process is not None and child.process.exitcode is not None:
                    _log.error("%s ended with %s and is started again", child.name, child.process.exitcode)
                    self._stopping.wait(max(0.0, child.started_at + _RESTART_SECONDS - time.monotonic()))
                    self._spawn(child)

    def _spawn(self, child: _Child) -> None:
        child.process = self._context.Process(
            target=_run_child, args=(child.role, self._settings, os.getpid()), name=child.name
        )
        child.started_at = time.monotonic()
        child.process.start()

    @staticmethod
    def _stop(children: list[_Child], seconds: float) -> None:
        for child in children:
            if child.process is not None:
                child.process.terminate()
        until = time.monotonic() + seconds
        for child in children:
            if child.process is not None:
                child.process.join(max(0.1, until - time.monotonic()))
                if child.process.exitcode is None:
                    child.process.kill()


def _run_child(role: Callable[[Settings], None], settings: Settings, parent: int) -> None:
    log_to_stderr(settings.log_level)
    # Ctrl-C reaches the whole group; the parent tells each child when its time has come.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        role(settings)
    except GuardrailsError as error:
        _log.error("%s: %s", error.code, error.message)
        raise SystemExit(error.exit_status) from None


def _leave_with(parent: int) -> None:
    """A process whose parent was killed stops as if it had been told to."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _stop_by_signal() -> threading.Event:
    stopping = threading.Event()
    # A handler interrupts the main thread, maybe in the middle of `stopping.wait`, whose lock `set` needs. It may only
    # do what can be interrupted by itself, such as this; another thread sets the event.
    told: queue.SimpleQueue[int] = queue.SimpleQueue()

    def tell() -> None:
        told.get()
        stopping.set()

    threading.Thread(target=tell, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: told.put(number))
    return stopping


def _then(event: threading.Event, act: Callable[[], None]) -> None:
    event.wait()
    act()


def _with_port(settings: Settings, listening: socket.socket) -> Settings:
    """Port 0 takes any; addresses that clients are told name the one that it took."""
    return settings.model_copy(update={"port": listening.getsockname()[1]})


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OptionError(
            f"cannot listen on {host} port {port}: {error.strerror or error}", hint="choose another host or port"
        ) from error
    # Connections inherit it; asyncio sets it on sockets of its own making alone. Without it the second piece of an
    # answer waits 40 ms for the other side's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
