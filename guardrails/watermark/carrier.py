"""The carrier: which frequencies of the 64 x 64 tile hold the pilot and which hold the data.

The layout follows the spread-spectrum tradition (Cox et al. 1997) with a synchronisation pilot in the same band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.coding import CODED_BITS

TILE = 64
POOL = 64
LOWEST_RADIUS, HIGHEST_RADIUS = 4.5, 23.0


def _band() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (ky, signed) and columns (kx) of the band's bins in the half spectrum of a real tile.

    Column 0 is left out: its bins come in conjugate pairs inside the half spectrum, so they would weigh differently
    from all others.
    """
    ky, kx = np.meshgrid(np.fft.fftfreq(TILE, 1 / TILE).astype(int), np.arange(TILE // 2 + 1), indexing="ij")
    radius = np.hypot(ky, kx)
    inside = (radius >= LOWEST_RADIUS) & (radius <= HIGHEST_RADIUS) & (kx > 0) & (kx < TILE // 2)
    return ky[inside], kx[inside]


KY, KX = _band()
BINS = len(KY)
RADIUS = np.hypot(KY, KX)
RING = RADIUS.round().astype(np.intp)
FLAT_INDEX = (KY % TILE) * (TILE // 2 + 1) + KX
PILOT_BINS = BINS // 4
DATA_BINS = BINS - PILOT_BINS
DATA_DIMENSIONS = 2 * DATA_BINS
# Each coded bit gets three or four dimensions.
REPETITIONS = -(-DATA_DIMENSIONS // CODED_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One pilot of a pool, with the data layout that belongs to it.

    Attributes:
        pilot: indices into the band, shape (193,).
        phasors: unit complex64 of the pilot bins, shape (193,).
        data: indices into the band, shape (580,).
        bit_of: which coded bit each data dimension carries, shape (1160,): first all real, then all imaginary parts.
        signs: +-1 float32 of each data dimension, shape (1160,).
    """

    pilot: NDArray[np.intp]
    phasors: NDArray[np.complex64]
    data: NDArray[np.intp]
    bit_of: NDArray[np.intp]
    signs: NDArray[np.float32]

    def wanted(self, coded: NDArray[np.uint8]) -> NDArray[np.complex64]:
        """The band that says `coded` (shape (344,)): complex64 of shape (BINS,), every bin of unit magnitude."""
        values = self.signs * (1 - 2 * coded[self.bit_of].astype(np.float32)) / np.sqrt(2)
        band = np.empty(BINS, np.complex64)
        band[self.pilot] = self.phasors
        band[self.data] = values[:DATA_BINS] + 1j * values[DATA_BINS:]
        return band

    def soft_bits(self, band: NDArray[np.complex64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum the data dimensions of each coded bit.

        Args:
            band: received, shape (BINS,), of about unit power.
            weights: reliability of each bin, shape (BINS,).

        Returns:
            float32 of shape (344,), positive where the bit looks like 0.
        """
        received = band[self.data]
        dimensions = np.concatenate([received.real, received.imag]) * self.signs
        weighted = dimensions * np.tile(weights[self.data], 2)
        return np.bincount(self.bit_of, weighted, CODED_BITS).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Carriers of one epoch (64 in use), and their pilots stacked for the detector.

    Attributes:
        pilots: indices into the band, shape (64, 193).
        conjugates: complex64, conjugate pilot phasors, shape (64, 193).
    """

    carriers: tuple[Carrier, ...]
    pilots: NDArray[np.intp]
    conjugates: NDArray[np.complex64]


def make_pool(carriers: tuple[Carrier, ...]) -> Pool:
    """Stack the pilots of `carriers`."""
    return Pool(
        carriers=carriers,
        pilots=np.stack([carrier.pilot for carrier in carriers]),
        conjugates=np.stack([carrier.phasors.conj() for carrier in carriers]),
    )


def make_carrier(stream: KeyStream) -> Carrier:
    """Draw one carrier from a key stream; the order of the draws is part of the scheme and must not change."""
    order = stream.permutation(BINS)
    phases = 2 * np.pi * stream.uniform(PILOT_BINS)
    bit_of = np.concatenate([stream.permutation(CODED_BITS) for _ in range(REPETITIONS)])[:DATA_DIMENSIONS]
    return Carrier(
        pilot=order[:PILOT_BINS],
        phasors=np.exp(1j * phases).astype(np.complex64),
        data=order[PILOT_BINS:],
        bit_of=bit_of,
        signs=stream.signs(DATA_DIMENSIONS),
    )


class KeyStream:
    """Uniform draws from key-stream bytes, defined here bit by bit so that no library release can change them.

    Args:
        data: at least `KeyStream.NEEDED` bytes.
    """

    NEEDED = 8 * (BINS + PILOT_BINS + REPETITIONS * CODED_BITS + DATA_DIMENSIONS)

    def __init__(self, data: bytes) -> None:
        self._words = np.frombuffer(data, "<u8")
        self._used = 0

    def _take(self, count: int) -> NDArray[np.uint64]:
        self._used += count
        return self._words[self._used - count : self._used].astype(np.uint64)

    def permutation(self, count: int) -> NDArray[np.intp]:
        """A uniform permutation of 0..count-1: the order that sorts 64-bit draws."""
        return np.argsort(self._take(count), kind="stable")

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Uniform in [0, 1) with 53 bits."""
        return (self._take(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def signs(self, count: int) -> NDArray[np.float32]:
        """+1 or -1 from the top bit."""
        return 1 - 2 * (self._take(count) >> np.uint64(63)).astype(np.float32)
