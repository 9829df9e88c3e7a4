"""Multi-index hashing: how a code is cut into slots, and how far each slot is searched.

M. Norouzi, A. Punjani, D. Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing" (2014). A code of B bits
is cut into m slots. With `s, a = divmod(radius, m)`, a code within the radius of a query differs by at most s bits in
one of the first a + 1 slots, or by at most s - 1 bits in one of the others: otherwise its distance would be at least
(a + 1)(s + 1) + (m - a - 1) s = radius + 1. So looking up those few neighbouring values of each slot misses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

# Below this many codes a scan is as fast as the look-ups and needs no tables.
MIN_INDEXED = 50_000
MAX_WIDTH = 27

# Nanoseconds of one bucket look-up and of one candidate compared, both mostly waiting for memory.
_LOOKUP_COST = 60
_CANDIDATE_COST = 30
# One code of a scan; the look-ups must beat it.
SCAN_COST = 1.5


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of an index: contiguous bits of the code, read as little-endian 64-bit words.

    Attributes:
        widths: bits of each slot, the wider ones first; they add up to the code. Empty: no tables, every query scans.
    """

    widths: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """First bit of each slot."""
        return tuple(sum(self.widths[:slot]) for slot in range(len(self.widths)))

    def radii(self, radius: int) -> tuple[int, ...]:
        """How far each slot is searched; -1 where it need not be."""
        small, wider = divmod(radius, len(self.widths))
        return tuple(small if slot <= wider else small - 1 for slot in range(len(self.widths)))

    def cost(self, radius: int, rows: int) -> float:
        """Expected nanoseconds of one query, for codes that fill their slots evenly."""
        lookups = candidates = 0.0
        for width, reach in zip(self.widths, self.radii(radius), strict=True):
            neighbours = sum(comb(width, differing) for differing in range(reach + 1))
            lookups += neighbours
            candidates += neighbours * rows / 2**width
        return lookups * _LOOKUP_COST + candidates * _CANDIDATE_COST

    def pays(self, radius: int, rows: int) -> bool:
        """True when looking up is expected to beat a scan."""
        return bool(self.widths) and self.cost(radius, rows) < rows * SCAN_COST


def make_plan(rows: int, bits: int, radius: int) -> Plan:
    """The cheapest number of slots for codes of `bits` bits searched to `radius`."""
    if rows < MIN_INDEXED:
        return Plan(())
    # Tables much larger than what they hold would cost memory and cache for nothing.
    widest = min(MAX_WIDTH, rows.bit_length() + 1)
    plans = [_even(bits, slots) for slots in range(-(-bits // widest), max(bits // 8, -(-bits // widest)) + 1)]
    best = min(plans, key=lambda plan: plan.cost(radius, rows))
    return best if best.pays(radius, rows) else Plan(())


def _even(bits: int, slots: int) -> Plan:
    base, wider = divmod(bits, slots)
    return Plan(tuple(base + (slot < wider) for slot in range(slots)))


@dataclass(frozen=True, slots=True)
class Probes:
    """What a search of one plan at one radius looks up.

    Attributes:
        masks: uint32, all differences of all slots, those of a slot side by side, fewer bits first.
        begins: int64 (slots + 1,), where each slot's masks begin.
        starts, widths, reaches: int64 (slots,).
    """

    masks: NDArray[np.uint32]
    begins: NDArray[np.int64]
    starts: NDArray[np.int64]
    widths: NDArray[np.int64]
    reaches: NDArray[np.int64]


@cache
def make_probes(plan: Plan, radius: int) -> Probes:
    """The masks of one plan and radius; made once."""
    reaches = plan.radii(radius)
    masks = [_masks(width, reach) for width, reach in zip(plan.widths, reaches, strict=True)]
    return Probes(
        masks=np.concatenate(masks),
        begins=np.cumsum([0, *map(len, masks)], dtype=np.int64),
        starts=np.array(plan.starts, dtype=np.int64),
        widths=np.array(plan.widths, dtype=np.int64),
        reaches=np.array(reaches, dtype=np.int64),
    )


@cache
def _masks(width: int, reach: int) -> NDArray[np.uint32]:
    """All numbers of `width` bits with at most `reach` bits set."""
    sets = (combinations(range(width), size) for size in range(reach + 1))
    return np.array([sum(1 << bit for bit in chosen) for group in sets for chosen in group], dtype=np.uint32)
