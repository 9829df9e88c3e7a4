"""Kill a process that appends, at every named step, again and again; then see whether the ledger kept its word.

::

    report = kill_writers(folder, kills=100)
    assert report.broken_promises == []

The killed process records and releases small files, acknowledging each record over a pipe once it has the receipt; in
every second round it leaves the merging to a sequencer, which it runs itself. SIGKILL spares no code, but it spares
what the operating system holds: whether the disk was flushed is not tested by this.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardrails import files
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.ledger import log
from guardrails.ledger.log import Ledger, RecoveryOutcome

# Step -> what is wrapped, and whether the process dies before or after it.
CRASH_POINTS: dict[str, tuple[str, str]] = {
    "before the record is staged": ("store.stage", "before"),
    "record staged, not committed": ("store.stage", "after"),
    "transaction committed": ("store.transaction", "after"),
    "before the waiting records are read": ("store.waiting", "before"),
    "before places are given": ("store.place", "before"),
    "places given, no tiles": ("store.place", "after"),
    "tiles written, no checkpoint": ("store.write_tiles", "after"),
    "before the checkpoint is signed": ("ledger._sign", "before"),
    "checkpoint written, not committed": ("store.set_checkpoint", "after"),
    "checkpoint file staged, not committed": ("log.stage", "after"),
    "committed, file not renamed": ("log.publish", "before"),
    "file renamed": ("log.publish", "after"),
    "before the receipt is signed": ("ledger._receipt", "before"),
    "before the release is closed": ("store.delete_release", "before"),
    "release closed, not committed": ("store.delete_release", "after"),
}

# The last use of a step that a writer survives; drawn, so that crashes fall on full and on partial tiles.
_MOST_USES = 6
_SLOWEST = 60.0
_POLICY = PolicyRef(id="crash", version="1", digest="00" * 32)


@dataclass(slots=True)
class CrashReport:
    """What was found after the kills.

    Attributes:
        kills: step -> how often a process died there.
        acknowledged: records that a process had a receipt for.
        recorded: records in the log at the end, losses included.
        restarts: seconds to open, recover and merge after each kill.
        broken_promises: one sentence for each thing that must never happen.
    """

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    acknowledged: int = 0
    recorded: int = 0
    restarts: list[float] = field(default_factory=list)
    broken_promises: list[str] = field(default_factory=list)


def kill_writers(folder: Path, *, database: str = "", kills: int, seed: int = 0, check_every: int = 1) -> CrashReport:
    """Kill `kills` processes that write to the ledger in `folder`, and check it after each.

    Args:
        database: as for `Ledger.open`.
        seed: of the draws of how often a step is survived.
        check_every: the whole log is walked after every so many kills; the rest is checked after each.
    """
    report, chance = CrashReport(), random.Random(seed)  # noqa: S311
    out = folder.with_name(folder.name + "-out")
    out.mkdir(exist_ok=True)
    for number, point in zip(range(kills), itertools.cycle(CRASH_POINTS), strict=False):
        survives = chance.randrange(_MOST_USES)
        acknowledged = _run_and_kill(folder, database, out, point, survives, merges=number % 2 == 0)
        report.kills[point] += 1
        report.acknowledged += len(acknowledged)
        started = time.perf_counter()
        with Ledger.open(folder, database=database) as ledger:
            recoveries = ledger.recover()
            while ledger.merge():
                pass
            report.restarts.append(time.perf_counter() - started)
            report.broken_promises += [
                f"{point}: the image of record {each.record_id} is lost"
                for each in recoveries
                if each.outcome is RecoveryOutcome.LOST
            ]
            _check(ledger, out, acknowledged, point, report)
            if (number + 1) % check_every == 0 or number + 1 == kills:
                _walk(ledger, point, report)
    return report


def _check(ledger: Ledger, out: Path, acknowledged: list[str], point: str, report: CrashReport) -> None:
    for record_id in acknowledged:
        logged = ledger.find_by_id(record_id)
        if logged is None:
            report.broken_promises.append(f"{point}: record {record_id} was acknowledged and is gone")
        elif ledger.payload(record_id) != {"prompt": record_id}:
            report.broken_promises.append(f"{point}: the payload of record {record_id} is gone")
    # Files are taken away once they are checked, so that each check is of this kill's.
    for path in out.glob("*.png"):
        logged = ledger.find_by_id(path.stem)
        if logged is None or logged.record.image_sha256 != hashlib.sha256(path.read_bytes()).hexdigest():
            report.broken_promises.append(f"{point}: file {path.name} was released and is not recorded")
        path.unlink()
    if ledger.staged_files() or ledger.backlog()[0]:
        report.broken_promises.append(f"{point}: something still waits after the restart")


def _walk(ledger: Ledger, point: str, report: CrashReport) -> None:
    try:
        report.recorded = ledger.fsck()
    except Exception as error:
        report.broken_promises.append(f"{point}: {error}")


def _run_and_kill(folder: Path, database: str, out: Path, point: str, survives: int, *, merges: bool) -> list[str]:
    """Run a writer until it kills itself at `point`; the ids that it acknowledged."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    arguments = (folder, database, out, point, survives, merges, sending)
    writer = multiprocessing.get_context("fork").Process(target=_write_until_killed, args=arguments)
    writer.start()
    sending.close()
    acknowledged = []
    with contextlib.suppress(EOFError):
        while True:
            acknowledged.append(str(receiving.recv()))
    writer.join(_SLOWEST)
    if writer.exitcode != -signal.SIGKILL:
        writer.kill()
        raise RuntimeError(f"the writer ended with {writer.exitcode} instead of dying at: {point}")
    return acknowledged


def _write_until_killed(
    folder: Path, database: str, out: Path, point: str, survives: int, merges: bool, pipe: Any
) -> None:
    ledger = Ledger.open(folder, database=database, merges=merges)
    _arm(ledger, point, survives)
    for number in range(1 << 20):
        identity = ImageId.new()
        image = identity.value.bytes * 20
        record = Record(
            id=str(identity),
            kind=RecordKind.GENERATION,
            created_at="2026-11-24T08:00:00.000Z",
            policy=_POLICY,
            mark_id=identity.mark_id,
            manifest_id=identity.urn,
            image_sha256=hashlib.sha256(image).hexdigest(),
        )
        staged = files.stage(out, image)
        ledger.append(record, {"prompt": record.id}, release=(staged, out / f"{record.id}.png"))
        pipe.send(record.id)
        ledger.finish_release(record.id)
        if not merges and number % 3 == 2:
            ledger.merge()


def _arm(ledger: Ledger, point: str, survives: int) -> None:
    """Let the process kill itself at the step's use number `survives`, counted from 0."""
    where, when = CRASH_POINTS[point]
    owner_name, name = where.split(".")
    owner = {"store": ledger._store, "ledger": ledger, "log": log}[owner_name]
    real, uses = getattr(owner, name), itertools.count()

    def die_in_turn() -> None:
        if next(uses) == survives:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, _around(real, die_in_turn, when) if name != "transaction" else _leaving(real, die_in_turn))


def _around(real: Callable[..., Any], die: Callable[[], None], when: str) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            die()
        result = real(*arguments, **named)
        if when == "after":
            die()
        return result

    return wrapped


def _leaving(real: Callable[[], contextlib.AbstractContextManager[None]], die: Callable[[], None]) -> Callable[[], Any]:
    @contextlib.contextmanager
    def wrapped() -> Any:
        with real():
            yield
        die()

    return wrapped
