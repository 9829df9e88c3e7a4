"""Look-up in a repository of manifests: CPU time by watermark id, by fingerprint, by digest, and of the first load.

    python benchmarks/repository.py [entries]

Fingerprints are random, as those of unrelated pictures nearly are; a tenth of the queries are kept codes with some
bits flipped, so that there is something to find, and answers are checked against a plain comparison of all bits.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.audit.recovery import ISCC_RADIUS, PDQ_RADIUS
from guardrails.provenance.repository import Entry, Fingerprints, Near, Repository

Codes = NDArray[np.uint8]
Query = tuple[bytes, bytes]

ENTRIES = 100_000
QUERIES = 400
# Of a text-to-image manifest.
STORE_BYTES = 5_800


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ENTRIES
    rng = np.random.default_rng(1)
    iscc = rng.integers(0, 256, (count, 8), dtype=np.uint8)
    pdq = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    rest = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    ids = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(count)]
    marks = [identifier.replace("-", "")[:16] for identifier in ids]
    with tempfile.TemporaryDirectory() as folder:
        with Repository(Path(folder)) as repository:
            added = _fill(repository, ids, marks, iscc, pdq, rest)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        with Repository(Path(folder), create=False) as repository:
            chosen = rng.integers(0, count, QUERIES)
            by_mark = _times(lambda i: _expect(repository.by_mark(marks[i]), ids[i]), chosen)
            by_rest = _times(lambda i: _expect(repository.by_rest(rest[i].tobytes()), ids[i]), chosen)
            began = time.process_time()
            repository.by_fingerprint()
            loading = 1000 * (time.process_time() - began)
            asked = _queries(rng, iscc, pdq, chosen)
            one = _times(lambda n: _find(repository, asked[n], 1), range(QUERIES))
            eight = _times(lambda n: _find(repository, asked[n], 8), range(QUERIES))
            found = _check_search(repository, iscc, pdq, asked, ids)
    print(f"{count} manifests, {size / 1e6:.0f} MB, Python {platform.python_version()}, one thread, CPU ms")
    print(f"search checked against a plain comparison: {found} entries found by 40 queries, none missed or added")
    print(f"added one by one, each durable: {added:.2f} ms; fingerprints loaded once a process: {loading:.0f} ms")
    print(f"{'by':<34}{'median':>8}{'p95':>8}{'max':>8}")
    rows = (
        ("watermark id", by_mark),
        ("digest of the stripped file", by_rest),
        ("fingerprint (ISCC and PDQ)", one),
        ("fingerprint in all orientations", eight),
    )
    for name, values in rows:
        print(f"{name:<34}{np.median(values):8.3f}{np.percentile(values, 95):8.3f}{max(values):8.3f}")
    return 0


def _fill(repository: Repository, ids: list[str], marks: list[str], *codes: Codes) -> float:
    """Add through the public door at first, then in bulk; CPU ms of one durable addition."""
    iscc, pdq, rest = codes
    rng = np.random.default_rng(2)
    body = rng.bytes(STORE_BYTES)

    def entry(i: int) -> Entry:
        return Entry(
            manifest_id=f"urn:c2pa:{ids[i]}",
            mark_id=marks[i],
            fingerprints=Fingerprints(iscc=iscc[i].tobytes(), pdq=pdq[i].tobytes()),
            container=body,
            pieces=((0, len(body)),),
            start=33,
            rest_sha256=rest[i].tobytes(),
            file_sha256=rest[i].tobytes(),
        )

    sample = min(300, len(ids))
    began = time.process_time()
    for i in range(sample):
        repository.add(entry(i))
    added = 1000 * (time.process_time() - began) / sample
    repository.add_all(entry(i) for i in range(sample, len(ids)))
    return added


def _queries(rng: np.random.Generator, iscc: Codes, pdq: Codes, chosen: NDArray[np.int64]) -> list[Query]:
    """Random codes; every tenth is a kept one with 20 bits flipped."""
    asked = [(rng.bytes(8), rng.bytes(32)) for _ in chosen]
    for n in range(0, len(asked), 10):
        bits = np.unpackbits(pdq[chosen[n]])
        bits[rng.choice(256, 20, replace=False)] ^= 1
        asked[n] = (iscc[chosen[n]].tobytes(), np.packbits(bits).tobytes())
    return asked


def _find(repository: Repository, query: Query, orientations: int) -> list[Near]:
    return repository.by_fingerprint(
        iscc=[query[0]] * orientations, iscc_radius=ISCC_RADIUS, pdq=[query[1]] * orientations, pdq_radius=PDQ_RADIUS
    )


def _check_search(repository: Repository, iscc: Codes, pdq: Codes, asked: list[Query], ids: list[str]) -> int:
    """Compare answers with a plain comparison of all bits; the number of entries found."""
    total = 0
    for code, long_code in asked[:40]:
        near = np.unpackbits(iscc ^ np.frombuffer(code, np.uint8), axis=1).sum(axis=1) <= ISCC_RADIUS
        near |= np.unpackbits(pdq ^ np.frombuffer(long_code, np.uint8), axis=1).sum(axis=1) <= PDQ_RADIUS
        expected = {f"urn:c2pa:{ids[i]}" for i in np.flatnonzero(near)}
        found = {one.entry.manifest_id for one in _find(repository, (code, long_code), 1)}
        if found != expected:
            raise SystemExit(f"the search found {len(found)} entries where there are {len(expected)}")
        total += len(found)
    return total


def _expect(found: list[Entry], identifier: str) -> None:
    if [entry.manifest_id for entry in found] != [f"urn:c2pa:{identifier}"]:
        raise SystemExit("a look-up gave something else than what was added")


def _times(call: Callable[[int], object], arguments: NDArray[np.int64] | range) -> list[float]:
    times = []
    for argument in arguments:
        began = time.process_time()
        call(int(argument))
        times.append(1000 * (time.process_time() - began))
    return times


if __name__ == "__main__":
    sys.exit(main())
