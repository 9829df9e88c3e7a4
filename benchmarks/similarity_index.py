"""Exact radius search over millions of 256-bit codes: build, open, query, beside faiss, in one run on one core.

::

    OMP_NUM_THREADS=1 python benchmarks/similarity_index.py FOLDER --rows 1e6 1e7 [--multihash] [--codes real.npy]

Codes are random, and 30 % of them stand in clusters, as re-used pictures do. `--codes` takes hashes of real pictures,
uint8 (n, 32), instead of the random ones and repeats them with noise. Queries are codes of the index with up to 31 bits
flipped. Times are CPU time, which on a machine of its own is the time that passes. 20 answers of each size are compared
with a scan of all rows.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.segments import CODES, ENTRY, REGIONS, Segment, engine, open_segment, write_segment
from guardrails.similarity.store import Store

RADIUS = 31
CLUSTERED = 0.3
CHUNK = 1_000_000
QUERIES = 400
Codes = NDArray[np.uint8]


def make_codes(path: Path, rows: int, real: Codes | None) -> Codes:
    """Written piece by piece into a file, so that memory does not grow with the index."""
    codes = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, 32))
    rng = np.random.default_rng(5)
    for begin in range(0, rows, CHUNK):
        size = min(CHUNK, rows - begin)
        if real is None:
            part = rng.integers(0, 256, (size, 32), dtype=np.uint8)
        else:
            part = real[rng.integers(0, len(real), size)] ^ np.packbits(rng.random((size, 256)) < 0.3, axis=1)
        members = int(size * CLUSTERED)
        # Each bit set with probability 1/32.
        noise = np.bitwise_and.reduce([rng.integers(0, 256, (members, 32), dtype=np.uint8) for _ in range(5)])
        part[:members] = (
            part[rng.integers(members, size, max(1, members // 20))][rng.integers(0, max(1, members // 20), members)]
            ^ noise
        )
        codes[begin : begin + size] = part
    codes.flush()
    return np.load(path, mmap_mode="r")


def make_queries(codes: Codes, count: int) -> Codes:
    rng = np.random.default_rng(6)
    queries = np.array(codes[np.sort(rng.integers(0, len(codes), count))])
    for query in queries:
        for bit in rng.choice(256, int(rng.integers(0, RADIUS + 1)), replace=False):
            query[bit // 8] ^= 1 << (bit % 8)
    return rng.permutation(queries)


def timed(function: Callable[..., Any], arguments: list[Any]) -> tuple[list[Any], NDArray[np.float64]]:
    """Answers, and milliseconds of CPU time of each: the machine may be shared."""
    answers, times = [], []
    for argument in arguments:
        started = time.thread_time()
        answers.append(function(argument))
        times.append((time.thread_time() - started) * 1e3)
    return answers, np.array(times)


def best_of(function: Callable[..., Any], arguments: list[Any], rounds: int = 5) -> tuple[list[Any], float, float]:
    """Answers, and median and 95th percentile of the quietest round."""
    answers, quietest = timed(function, arguments)
    for _ in range(rounds - 1):
        _, times = timed(function, arguments)
        quietest = min(quietest, times, key=lambda t: float(np.percentile(t, 95)))
    return answers, float(np.median(quietest)), float(np.percentile(quietest, 95))


def build(folder: Path, codes: Codes) -> Path:
    columns: dict[str, NDArray[Any]] = {
        CODES: codes,
        REGIONS: np.zeros(len(codes), np.uint8),
        ENTRY: np.arange(len(codes), dtype=np.uint32),
    }
    return write_segment(folder, PDQ256, columns, len(codes), {"numbered": "n"}, radius=RADIUS)


def measure(folder: Path, rows: int, multihash: bool, real: Codes | None) -> None:
    """Print the lines of one size."""
    folder.mkdir(parents=True)
    codes = make_codes(folder / "source.npy", rows, real)
    wall, cpu = time.perf_counter(), time.process_time()
    segment_folder = build(folder, codes)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    disk = sum(file.stat().st_size for file in segment_folder.iterdir())
    opening = []
    for _ in range(5):
        started = time.perf_counter()
        segment = open_segment(segment_folder, {})
        opening.append((time.perf_counter() - started) * 1e3)
    print(f"\n{rows:,} codes, {len(segment.plan.widths)} slots of {segment.plan.widths[-1]} bits or one more")
    print(f"build       {wall:8.1f} s wall, {cpu:.1f} s cpu, with digests and sync; disk {disk / 2**20:,.0f} MiB")
    print(f"open        {min(opening):8.2f} ms")
    queries = list(make_queries(codes, QUERIES))
    _, cold = timed(lambda query: segment.within(query, RADIUS), queries[:20])
    segment.warm()
    answers, median, p95 = best_of(lambda query: segment.within(query, RADIUS), queries)
    print(f"look-ups    {median:8.3f} ms median, {p95:.3f} ms p95 warm; first queries {np.median(cold):.2f} ms median")
    compare(segment, queries[:20], answers[:20])
    for radius in (0, 16, 40, 50):
        _, median, p95 = best_of(lambda query, radius=radius: segment.within(query, radius), queries[:100], rounds=2)
        print(f"  radius {radius:2}  {median:8.3f} ms median, {p95:.3f} ms p95")
    if rows <= 10_000_000:
        peers(codes, queries, answers, multihash)
        through_a_store(folder / "store", codes, queries)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory      {peak:8.1f} GiB peak, mapped files counted, of all that ran so far")
    shutil.rmtree(folder)


def compare(segment: Segment, queries: list[Codes], answers: list[Any]) -> None:
    """Every answer against a scan of all rows."""
    scans, median, _ = best_of(lambda query: segment.within(query, RADIUS, tables=False), queries, rounds=1)
    equal = sum(
        sorted(zip(one.rows.tolist(), one.distances.tolist(), strict=True))
        == sorted(zip(other.rows.tolist(), other.distances.tolist(), strict=True))
        for one, other in zip(answers, scans, strict=True)
    )
    found = sum(one.total for one in scans)
    print(f"own scan    {median:8.2f} ms; {equal} of {len(queries)} answers equal, {found} rows in them")


def peers(codes: Codes, queries: list[Codes], answers: list[Any], multihash: bool) -> None:
    """faiss on the same codes and queries; its radius is exclusive."""
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexBinaryFlat(256)
    flat.add(np.ascontiguousarray(codes))
    asked = [query[None] for query in queries[:40]]
    found, median, p95 = best_of(lambda query: flat.range_search(query, RADIUS + 1)[2], asked, rounds=2)
    equal = sum(sorted(a.tolist()) == sorted(b.rows.tolist()) for a, b in zip(found, answers, strict=False))
    print(f"faiss flat  {median:8.2f} ms median, {p95:.2f} ms p95; {equal} of {len(asked)} answers equal to ours")
    if not multihash:
        return
    started = time.process_time()
    index = faiss.IndexBinaryMultiHash(256, 16, 16)
    index.nflip = 1
    index.add(np.ascontiguousarray(codes))
    cpu = time.process_time() - started
    found, median, p95 = best_of(lambda query: index.range_search(query, RADIUS + 1)[2], asked, rounds=2)
    equal = sum(sorted(set(a.tolist())) == sorted(b.rows.tolist()) for a, b in zip(found, answers, strict=False))
    print(
        f"MultiHash   {median:8.2f} ms median, {p95:.2f} ms p95; build {cpu:.1f} s cpu; {equal} of {len(asked)} equal"
    )


def through_a_store(folder: Path, codes: Codes, queries: list[Codes]) -> None:
    """The same through `Store.search`, which also looks for changes, names entries and reads their state."""
    store = Store.create(folder, PDQ256)
    store.add_segment(codes, prefix="n")
    started = time.perf_counter()
    store = Store.open(folder)
    opening = (time.perf_counter() - started) * 1e3
    store.warm()
    _, median, p95 = best_of(lambda query: store.search(query[None], RADIUS), queries)
    print(f"Store       {median:8.3f} ms median, {p95:.3f} ms p95; open {opening:.1f} ms")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the index files; removed again")
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--multihash", action="store_true", help="also faiss's MultiHash: slow to build, much memory")
    parser.add_argument("--codes", type=Path, help="hashes of real pictures")
    options = parser.parse_args()
    real = None if options.codes is None else np.load(options.codes)
    print(f"inner loops: {engine().__name__}; hashes: {'random' if real is None else options.codes.name}")
    for rows in options.rows:
        measure(options.folder / str(int(rows)), int(rows), options.multihash, real)


if __name__ == "__main__":
    main()
