"""Gives work, has workers killed, and looks: after each kill at what was released, at the end at everything.

::

    report = kill_workers(settings, kills=100)
    assert report.broken_promises == []

One worker at a time works and is killed by SIGKILL; the next one takes up what it left. That spares what the operating
system holds: whether the disk was flushed is not tested by this. What was counted lies in `crashes.json` in the
installation's folder, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from guardrails import home as homes
from guardrails.audit import Auditor
from guardrails.audit.report import FileVerdict
from guardrails.domain.images import ManifestStatus, MarkVerdict
from guardrails.domain.records import RecordKind
from guardrails.errors import GuardrailsError
from guardrails.files import write_atomically
from guardrails.ledger import Ledger
from guardrails.provenance import Verifier
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark
from service.access.secrets import Secrets
from service.crashes.points import POINTS, STARTING, WORKING, latest_use
from service.crashes.stalls import describe
from service.jobs.model import Job, Status, form_of
from service.jobs.signer import SignerServer, load_key
from service.jobs.table import JobTable
from service.policies import Policies, written
from service.settings import Settings
from service.stores import Database, open_database, open_ledger

COUNTS_FILE = "crashes.json"

# Jobs that wait before a worker starts: enough for the latest use of every point.
_WAITING = 4
# A worker that has not come to its point by then stands still; on an idle machine it takes a second.
_SLOWEST = 120.0
# How long a worker lives that is not killed at a point: while it starts, and after its first claim.
_STARTING_SECONDS, _WORKING_SECONDS = 0.05, 0.3
_TENANT = "local"
# The second and the third tell of the pack and of the key that workers start with.
_EXPECTED = (RecordKind.GENERATION, RecordKind.POLICY_CHANGE, RecordKind.KEY_CHANGE)
_ENDS = (Status.SUCCEEDED, Status.QUARANTINED)
_OPEN = (Status.QUEUED.value, Status.RUNNING.value)


class StalledError(GuardrailsError):
    """A worker neither came to its point nor ended; the message says what everybody waited for."""

    code = "stalled"


@dataclasses.dataclass(slots=True)
class CrashReport:
    """What was found.

    Attributes:
        kills: point -> workers that died there.
        restarts: seconds from the start of a worker to its first claim, one for each that came so far.
        jobs, pictures, records: at the end.
        quarantined: jobs that were at hand when too many workers died; each has a record that says so.
        staged: hidden files beside the pictures at the end, of workers that died before they recorded them.
        broken_promises: one sentence for each thing that must never happen.
        seconds: of all runs together.
    """

    kills: Counter[str] = dataclasses.field(default_factory=collections.Counter)
    restarts: list[float] = dataclasses.field(default_factory=list)
    jobs: int = 0
    pictures: int = 0
    records: int = 0
    quarantined: int = 0
    staged: int = 0
    broken_promises: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def load(cls, path: Path) -> CrashReport:
        """What an earlier run counted; a new report when there was none."""
        if not path.exists():
            return cls()
        fields = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**fields, "kills": Counter(fields["kills"])})

    def to_json(self) -> str:
        # `dataclasses.asdict` makes another counter of a counter.
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


def kill_workers(
    settings: Settings, *, kills: int, seed: int = 0, progress: Callable[[CrashReport], None] = lambda report: None
) -> CrashReport:
    """Kill workers of this installation until `kills` of them are dead, then examine everything.

    Args:
        settings: of an installation that nobody else uses; its model should be a fast one.
        seed: of the draws of where and when a worker dies.
        progress: told of what was counted after each kill.

    Raises:
        StalledError: something did not go on.
    """
    counts = settings.home / COUNTS_FILE
    report, database = CrashReport.load(counts), open_database(settings)
    table = JobTable(database, lease_seconds=settings.lease_seconds, max_attempts=settings.max_attempts)
    submit = _submitter(settings, table)
    before, started = report.seconds, time.monotonic()
    with _signer(settings), _Nursery(settings, database) as nursery:
        for number in range(report.kills.total(), kills):
            chance = random.Random(f"{seed} {number}")  # noqa: S311 - which worker dies where is no secret
            while table.counts().get(Status.QUEUED.value, 0) < _WAITING:
                submit(chance)
            point = POINTS[number % len(POINTS)]
            report.restarts += nursery.kill(point, chance)
            report.kills[point] += 1
            report.broken_promises += _unrecorded(settings, f"kill {number} {point}")
            report.seconds = before + time.monotonic() - started
            write_atomically(counts, report.to_json().encode())
            progress(report)
        nursery.finish(lambda: not any(table.counts().get(status) for status in _OPEN))
    _examine(settings, table, report)
    report.seconds = before + time.monotonic() - started
    return report


class _Nursery:
    """The process that forks workers; see `service.crashes.nursery`."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._lines: queue.Queue[str] = queue.Queue()
        self._worker = 0

    def __enter__(self) -> _Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.crashes.nursery", self._settings.model_dump_json()],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._expect("ready")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()

    def kill(self, point: str, chance: random.Random) -> list[float]:
        """Have one worker die at a point; the seconds to its first claim, if it came so far."""
        self._fork(point, chance.randint(1, latest_use(point)))
        if point == STARTING:
            self._kill_after(chance.uniform(0, _STARTING_SECONDS))
        claimed = self._expect("claimed", "gone")
        if claimed[0] == "claimed" and point == WORKING:
            self._kill_after(chance.uniform(0, _WORKING_SECONDS))
        gone = self._expect("gone") if claimed[0] == "claimed" else claimed
        if int(gone[1]) != -signal.SIGKILL:
            raise StalledError(f"a worker ended by itself with {gone[1]}", hint="see what it wrote on standard error")
        return [float(claimed[1])] if claimed[0] == "claimed" else []

    def finish(self, is_done: Callable[[], bool]) -> None:
        """One more worker, which is left alone until nothing waits, and is then told to stop."""
        self._fork("never", 1)
        until = time.monotonic() + _SLOWEST
        while not is_done():
            if time.monotonic() > until:
                self._stalled("the last worker to finish")
            time.sleep(0.05)
        os.kill(self._worker, signal.SIGTERM)
        while self._expect("claimed", "gone")[0] != "gone":
            pass

    def _fork(self, point: str, use: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([point, use]) + "\n")
        self._process.stdin.flush()
        self._worker = int(self._expect("worker")[1])

    def _kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._worker, signal.SIGKILL)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("ended")

    def _expect(self, *words: str) -> list[str]:
        try:
            line = self._lines.get(timeout=_SLOWEST).split()
        except queue.Empty:
            self._stalled(" or ".join(words))
        if line[0] not in words:
            raise StalledError(f"the nursery said {line[0]!r}, not {words}", hint="see standard error")
        return line

    def _stalled(self, awaited: str) -> None:
        """Have everybody write where they are on standard error, and give up."""
        alive = [self._process.pid, *([self._worker] if self._worker else [])]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGUSR1)
        time.sleep(1)
        report = describe(self._settings, self._database, [os.getpid(), *alive])
        raise StalledError(f"waited {_SLOWEST:.0f} s for: {awaited}\n{report}", hint="stacks are on standard error")


@contextlib.contextmanager
def _signer(settings: Settings) -> Iterator[None]:
    server = SignerServer(settings.signer_socket, *load_key(settings))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _submitter(settings: Settings, table: JobTable) -> Callable[[random.Random], object]:
    """A function that gives one job of one or two pictures."""
    Secrets.load_or_create(settings.folder)
    settings.assets.mkdir(parents=True, exist_ok=True)
    policy = written(settings.policy, Policies(settings.policy_names).get())

    def submit(chance: random.Random) -> object:
        count = chance.choice((1, 1, 2))
        wanted = {
            "prompt": "a red apple",
            "format": chance.choice(("png", "jpeg")),
            "seed": chance.randrange(10_000),
            "count": count,
            "width": 256,
            "height": 256,
        }
        job = Job(
            id=f"job_{uuid.uuid4().hex}",
            tenant=_TENANT,
            api_key="none",
            kind="generation",
            request=wanted,
            ids=tuple(str(uuid.uuid4()) for _ in range(count)),
            policy=policy,
            created_at=time.time(),
            # Every other job is drawn together with others of its form.
            form=form_of("generation", wanted) if chance.random() < 0.5 else "",
        )
        return table.submit(job)

    return submit


@contextlib.contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger with a place for everything that is durable in it."""
    with open_ledger(settings) as ledger:
        while ledger.merge():
            pass
        yield ledger


def _pictures(settings: Settings) -> list[Path]:
    return [path for path in settings.assets.iterdir() if not path.name.startswith(".")]


def _unrecorded(settings: Settings, when: str) -> list[str]:
    with _ledger(settings) as ledger:
        return [
            f"{when}: {path.name} was released and is not recorded"
            for path in _pictures(settings)
            if ledger.find_by_id(path.stem) is None
        ]


def _examine(settings: Settings, table: JobTable, report: CrashReport) -> None:
    """All jobs are done, all they were to make is released, recorded, signed and marked, and nothing else is."""
    broken = report.broken_promises
    jobs = table.of_tenant(_TENANT, sys.maxsize)
    files = {path.stem: path for path in _pictures(settings)}
    ends = {status: [job for job in jobs if job.status is status] for status in Status}
    broken += [f"{len(ends[end])} jobs ended as {end.value}" for end in ends if ends[end] and end not in _ENDS]
    broken += [f"picture {id} was never released" for id in _ids(ends[Status.SUCCEEDED]) - set(files)]
    broken += [f"picture {id} was released and nobody asked for it" for id in set(files) - _ids(jobs)]
    with _ledger(settings) as ledger:
        report.records = ledger.fsck()  # raises where an index is missing
        if ledger.staged_files():
            broken.append("a release still waits after the last restart")
        logged = [ledger.find_by_index(index) for index in range(report.records)]
        broken += itertools.chain.from_iterable(_flaws(settings, ledger, list(files.values())))
    records = [each.record for each in logged if each is not None]
    made = {record.id for record in records if record.kind is RecordKind.GENERATION}
    broken += [f"picture {id} is recorded and not released" for id in made - set(files)]
    report.quarantined = sum(record.facts.get("fault") == "quarantined" for record in records)
    if report.quarantined != len(ends[Status.QUARANTINED]):
        broken.append(f"{len(ends[Status.QUARANTINED])} jobs are quarantined, {report.quarantined} recorded as such")
    known = sum(record.kind in _EXPECTED for record in records) + report.quarantined
    if known != len(records):
        broken.append(f"{len(records) - known} records of refusals, losses or the like")
    report.jobs, report.pictures = len(jobs), len(files)
    report.staged = sum(path.name.startswith(".") for path in settings.assets.iterdir())


def _ids(jobs: Sequence[Job]) -> set[str]:
    return {id for job in jobs for id in job.ids}


def _flaws(settings: Settings, ledger: Ledger, pictures: Sequence[Path]) -> Iterator[list[str]]:
    """What a full check of each file holds against it."""
    _, trust, _ = load_key(settings)
    keyring = Keyring.load_or_create(homes.keys_folder(settings.home))
    auditor = Auditor(Verifier(trust), PixelMark(keyring), ledger)
    for path in pictures:
        found = auditor.verify_file(path, mode="fast")
        flaws = {
            "unsigned": found.manifest.status is not ManifestStatus.TRUSTED,
            "unmarked": found.mark is None or found.mark.verdict is not MarkVerdict.PRESENT,
            "unrecorded": found.verdict is not FileVerdict.CONFIRMED or not found.exact,
        }
        yield [f"picture {path.name} is {flaw}" for flaw, holds in flaws.items() if holds]
