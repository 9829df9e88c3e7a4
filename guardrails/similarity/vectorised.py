"""The inner loops of the index in numpy, for where numba is missing: the same functions, answers and files, slower."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVER_BUDGET, DAMAGED = -1, -2
_WORD = 64
_CHUNK = 1 << 18

Words = NDArray[np.uint64]


def fill_slot(codes: Words, start: int, width: int, offsets: NDArray[np.uint32], ids: NDArray[np.uint32]) -> None:
    """See `kernels.fill_slot`."""
    values = _slot_values(codes, start, width)
    ids[:] = np.argsort(values, kind="stable")
    np.cumsum(np.bincount(values, minlength=len(offsets) - 1), out=offsets[1:])


def probe(
    codes: Words,
    offsets: NDArray[np.uint32],
    begins: NDArray[np.int64],
    ids: NDArray[np.uint32],
    masks: NDArray[np.uint32],
    mask_begins: NDArray[np.int64],
    starts: NDArray[np.int64],
    widths: NDArray[np.int64],
    reaches: NDArray[np.int64],
    query: Words,
    radius: int,
    budget: int,
    found: NDArray[np.uint32],
    distances: NDArray[np.uint16],
) -> int:
    """See `kernels.probe`; `reaches` is implied by the masks."""
    candidates = []
    for slot in range(len(starts)):
        key = _slot_values(query[None], int(starts[slot]), int(widths[slot]))[0]
        buckets = begins[slot] + (key ^ masks[mask_begins[slot] : mask_begins[slot + 1]].astype(np.int64))
        first, last = offsets[buckets].astype(np.int64), offsets[buckets + 1].astype(np.int64)
        sizes = last - first
        if (first > last).any() or (last > len(codes)).any():
            return DAMAGED
        budget -= int(sizes.sum())
        if budget < 0:
            return OVER_BUDGET
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        candidates.append(ids[slot][np.repeat(first, sizes) + within])
    rows = np.unique(np.concatenate(candidates))
    if len(rows) and rows[-1] >= len(codes):
        return DAMAGED
    return _keep(rows, _distances(codes[rows], query), radius, 0, found, distances)


def scan(codes: Words, query: Words, radius: int, found: NDArray[np.uint32], distances: NDArray[np.uint16]) -> int:
    """See `kernels.scan`."""
    count = 0
    for begin in range(0, len(codes), _CHUNK):
        part = codes[begin : begin + _CHUNK]
        rows = np.arange(begin, begin + len(part), dtype=np.uint32)
        count = _keep(rows, _distances(part, query), radius, count, found, distances)
    return count


def _keep(
    rows: NDArray[np.uint32],
    measured: NDArray[np.uint16],
    radius: int,
    count: int,
    found: NDArray[np.uint32],
    distances: NDArray[np.uint16],
) -> int:
    near = np.flatnonzero(measured <= radius)
    kept = near[: max(0, len(found) - count)]
    found[count : count + len(kept)] = rows[kept]
    distances[count : count + len(kept)] = measured[kept]
    return count + len(near)


def _distances(codes: Words, query: Words) -> NDArray[np.uint16]:
    return np.asarray(np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.uint16))


def _slot_values(codes: Words, start: int, width: int) -> NDArray[np.int64]:
    word, shift = divmod(start, _WORD)
    values = codes[:, word] >> np.uint64(shift)
    if shift + width > _WORD:
        values |= codes[:, word + 1] << np.uint64(_WORD - shift)
    return (values & np.uint64((1 << width) - 1)).astype(np.int64)
