"""The detector: from pixels to a verdict with a p-value that counts every test.

1. Bring the picture to the canonical frame and whiten it.
2. Search, cheapest first: aligned, then shifted (mode "fast"), then cropped ("standard"); then the same once more
   behind the learned front end, and rotated ("deep").
3. Correlate every frame of a search with all pilots of all kept epochs; a lattice on which the tiles do not agree is
   passed over, which takes no key to see, and is counted all the same.
4. Decode the best candidates of a search that are rare enough for a right check to make them present.
5. Stop at the first payload whose keyed check is right and whose p-value is at most 1e-6.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import MarkReading, MarkVerdict
from guardrails.errors import OptionError
from guardrails.imaging import Pixels
from guardrails.watermark.carrier import RING, Carrier
from guardrails.watermark.coding import decode, encode
from guardrails.watermark.frame import Plane, canonical, luma, require_markable
from guardrails.watermark.geometry import Lattice, Search
from guardrails.watermark.keys import EpochKeys
from guardrails.watermark.payload import Payload
from guardrails.watermark.synchronisation import Band, Correlation, limited, shift_back
from guardrails.watermark.views import Correlator, Look, searches

SCHEME = "org.guardrails.watermark.1"
MODES = ("fast", "standard", "deep")
FALSE_POSITIVE_RATE = 1e-6

_RINGS = int(RING.max()) + 1
# Smooths the reliability over neighbouring rings: one ring holds only about ten pilot bins.
_RING_BANDWIDTH = 2.0
_KERNEL = np.exp(-0.5 * ((np.arange(_RINGS)[:, None] - np.arange(_RINGS)) / _RING_BANDWIDTH) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The best pilot of one look."""

    keys: EpochKeys
    look: Look
    correlation: Correlation

    def geometry(self) -> dict[str, float | bool | list[int]]:
        """For the reading: what was done to the picture, as far as the search can tell."""
        lattice = self.look.lattice or Lattice(period_x=64.0, period_y=64.0)
        return {
            "rotation": round((lattice.angle - 90 * self.look.turns) % 360, 2),
            "mirror": self.look.mirror,
            "scale_x": round(lattice.period_x / 64, 4),
            "scale_y": round(lattice.period_y / 64, 4),
            "shift": list(self.correlation.shift),
        }


class Detector:
    """Reads one picture with the keys of some epochs.

    Args:
        epochs: newest first; each one multiplies the number of tests.
    """

    def __init__(self, epochs: tuple[EpochKeys, ...]) -> None:
        self._epochs = epochs
        self._tests = 0
        self._best = MarkReading(
            verdict=MarkVerdict.NOT_DETECTED, scheme=SCHEME, p_value=1.0, z=0.0, tests=0, stage="fast"
        )

    def read(self, pixels: Pixels, mode: str) -> MarkReading:
        """Search as far as `mode` allows.

        Raises:
            OptionError: an unknown mode.
            WatermarkError: pixels that cannot carry a mark, see `frame.require_markable`.
        """
        if mode not in MODES:
            raise OptionError(f"unknown detection mode {mode!r}", hint="use fast, standard or deep")
        require_markable(pixels)
        started = time.perf_counter()
        for search, correlate, looks in searches(canonical(luma(pixels)), MODES.index(mode)):
            if self._run(search, self._candidates(looks, correlate)):
                break
        elapsed = 1000 * (time.perf_counter() - started)
        return replace(self._best, tests=self._tests, milliseconds=round(elapsed, 2))

    def read_aligned(self, frame: Plane) -> MarkReading:
        """Only the cheapest search, on a canonical luma frame: the self-check of the embedder."""
        search, correlate, looks = next(searches(frame, 0))
        self._run(search, self._candidates(looks, correlate))
        return replace(self._best, tests=self._tests)

    def _candidates(self, looks: Iterator[Look], correlate: Correlator) -> Iterator[Candidate]:
        """The best pilot of every look and epoch."""
        for look in looks:
            for keys in self._epochs:
                yield Candidate(keys=keys, look=look, correlation=correlate(look.prepared, keys.pool))

    def _run(self, search: Search, candidates: Iterator[Candidate]) -> bool:
        """Go through one search; True when the mark is present and the rest is not needed.

        A candidate that stands out is decoded at once, the others when the search has seen all, the best first. The
        p-value counts the whole search, also when it stops early.
        """
        self._tests += search.tests(len(self._epochs))
        left = search.demodulations
        waiting: list[Candidate] = []
        for candidate in candidates:
            reading = self._judge(search, candidate)
            if _rank(reading) > _rank(self._best):
                self._best = reading
            if left and reading.verdict is MarkVerdict.SUSPECTED:
                left -= 1
                if self._decode(search, candidate, reading):
                    return True
            elif search.p_value_with_check(candidate.correlation.z, len(self._epochs)) <= FALSE_POSITIVE_RATE:
                waiting.append(candidate)
        waiting.sort(key=lambda candidate: -candidate.correlation.z)
        return any(self._decode(search, candidate, self._judge(search, candidate)) for candidate in waiting[:left])

    def _judge(self, search: Search, candidate: Candidate) -> MarkReading:
        """What the pilot alone says."""
        z = candidate.correlation.z
        p_value = search.p_value(z, len(self._epochs))
        suspected = p_value <= FALSE_POSITIVE_RATE
        return MarkReading(
            verdict=MarkVerdict.SUSPECTED if suspected else MarkVerdict.NOT_DETECTED,
            scheme=SCHEME,
            p_value=p_value,
            z=round(z, 3),
            tests=0,
            stage=search.stage,
            epoch=candidate.keys.epoch if suspected else None,
            geometry=candidate.geometry(),
        )

    def _decode(self, search: Search, candidate: Candidate, reading: MarkReading) -> bool:
        """Demodulate a candidate and keep what it says; False when its check is wrong."""
        decoded = demodulate(candidate)
        if decoded is None:
            return False
        payload, corrected = decoded
        self._best = replace(
            reading,
            verdict=MarkVerdict.PRESENT,
            p_value=search.p_value_with_check(candidate.correlation.z, len(self._epochs)),
            mark_id=payload.mark_id,
            epoch=payload.epoch,
            flags=payload.flags,
            corrected_bits=corrected,
        )
        return True


def _rank(reading: MarkReading) -> tuple[int, float, float]:
    """Order of readings: stronger verdict, then smaller p-value, then larger score (many p-values are 1)."""
    order = (MarkVerdict.NOT_DETECTED, MarkVerdict.SUSPECTED, MarkVerdict.PRESENT)
    return order.index(reading.verdict), -reading.p_value, reading.z


def demodulate(candidate: Candidate) -> tuple[Payload, int] | None:
    """Decode the data that belongs to a found pilot.

    Returns:
        The payload and the number of coded bits that were repaired; None when the keyed check is wrong.
    """
    keys = candidate.keys
    carrier = keys.pool.carriers[candidate.correlation.pilot]
    band = shift_back(candidate.look.band, candidate.correlation.shift)
    flat = limited(band)
    soft = carrier.soft_bits(flat, _reliability(flat, carrier))
    message = decode(soft)
    payload = Payload.from_bits(message, keys.check_key, keys.epoch)
    if payload is None:
        return None
    return payload, int(((soft < 0) != encode(message)).sum())


def _reliability(flat: Band, carrier: Carrier) -> NDArray[np.float32]:
    """Weight of every bin, from how well the pilot came through at its radius.

    With signal share rho of unit power, the log-likelihood ratio of a bin is proportional to rho / (1 - rho^2).
    """
    agreement = (flat[carrier.pilot] * carrier.phasors.conj()).real
    rings = RING[carrier.pilot]
    count, total = np.bincount(rings, minlength=_RINGS), np.bincount(rings, agreement, minlength=_RINGS)
    rho = np.clip(_KERNEL @ total / (_KERNEL @ count), 0.03, 0.95)
    return (rho / (1 - rho**2))[RING].astype(np.float32)
