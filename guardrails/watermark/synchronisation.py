"""Correlate a folded tile with the pool of pilots: which pilot, at which shift, how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.carrier import KX, KY, RADIUS, RING, TILE, Pool

Band = NDArray[np.complex64]

# Where the limiter turns down, in units of the usual level.
_LOUD = np.float32(2.0)
# Marks have more of their power at low radii, and codecs leave more of it there.
_TILT_RADIUS, _TILT = 6.0, 0.35

_WEIGHTS = (np.maximum(RADIUS, _TILT_RADIUS) ** -_TILT).astype(np.float32)
_RINGS = np.arange(int(RING.max()) + 1)
_KERNEL = np.exp(-0.5 * (_RINGS[:, None] - _RINGS).astype(np.float64) ** 2)
_RING_COUNTS = _KERNEL @ np.bincount(RING)
# exp(E log |x|) of a complex Gaussian of unit power: exp(-gamma / 2), gamma = 0.5772.
_LOG_MEAN = 0.7493
# 48 is the least even side above twice the highest radius that has small prime factors.
_COARSE, _FINALISTS = 48, 4
# Keeps a perfectly flat picture, whose spectrum is zero, from dividing by zero.
_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """The best shift of one pilot.

    Attributes:
        z: standard score; for a fixed shift of an unmarked image it has mean 0 and variance 1 over the draw of the
            key, whatever the image is, because the pilot's phases are uniform and independent of the image.
        shift: rows and columns in units of the tile, 0..63.
    """

    pilot: int
    z: float
    shift: tuple[int, int]


def ring_level(band: Band) -> NDArray[np.float32]:
    """What is usual for the band's magnitude at each radius, as a root mean square: shape (BINS,).

    The mean of the logarithm, smoothed over neighbouring rings: a host with a period of its own has a few very loud
    bins, which would lift a root mean square and silence all others.
    """
    total = _KERNEL @ np.bincount(RING, np.log(np.abs(band) + _TINY), len(_KERNEL))
    level: NDArray[np.float32] = (np.exp(total / _RING_COUNTS) / _LOG_MEAN).astype(np.float32)[RING]
    return level


def limited(band: Band) -> Band:
    """The band in units of its level; a bin that is far louder than usual is host, and is turned down.

    The limiter x / (1 + |x|^2 / k^2) falls again for large x, as the best one for heavy-tailed interference does
    (Miller and Thomas 1972); it touches no key, so the null distribution stays exact.
    """
    flat = band / ring_level(band)
    soft: Band = flat / (1 + (flat.real**2 + flat.imag**2) / _LOUD**2)
    return soft.astype(np.complex64)


def prepare(band: Band) -> Band:
    """The limited band of a whitened frame, weighted by radius."""
    prepared: Band = limited(band) * _WEIGHTS
    return prepared


def prepare_guessed(band: Band) -> Band:
    """The limited band of the learned front end, whose power at a radius is the weight that the radius deserves."""
    prepared: Band = limited(band) * ring_level(band)
    return prepared


def correlate_aligned(prepared: Band, pool: Pool) -> Correlation:
    """The best pilot at shift 0, the place of a mark in a picture that was not cropped."""
    products = prepared[pool.pilots] * pool.conjugates
    spread = np.sqrt((np.abs(products) ** 2).sum(axis=1) / 2 + _TINY)
    scores = products.real.sum(axis=1) / spread
    pilot = int(scores.argmax())
    return Correlation(pilot=pilot, z=float(scores[pilot]), shift=(0, 0))


def correlate_all_shifts(prepared: Band, pool: Pool) -> Correlation:
    """The best pilot over all 4,096 shifts.

    All pilots are looked at on a grid of 48 x 48 shifts, the fewest that hold the band; a peak between its points may
    lose a third there. The finalists are looked at on the whole grid. What was left out can only raise p-values.
    """
    products = prepared[pool.pilots] * pool.conjugates
    spread = np.sqrt(2 * (products.real**2 + products.imag**2).sum(axis=1) + _TINY)
    coarse = _maps(products, pool.pilots, _COARSE).max(axis=1) * _COARSE**2 / spread
    finalists = np.argpartition(coarse, -min(_FINALISTS, len(coarse)))[-_FINALISTS:]
    maps = _maps(products[finalists], pool.pilots[finalists], TILE)
    scores = maps.max(axis=1) * TILE**2 / spread[finalists]
    best = int(scores.argmax())
    row, column = divmod(int(maps[best].argmax()), TILE)
    return Correlation(pilot=int(finalists[best]), z=float(scores[best]), shift=(row, column))


def _maps(products: NDArray[np.complex64], pilots: NDArray[np.intp], side: int) -> NDArray[np.float32]:
    """Correlation of each pilot at side x side shifts: float32 of shape (pilots, side * side)."""
    half = side // 2 + 1
    spectra = np.zeros((len(products), side * half), np.complex64)
    np.put_along_axis(spectra, ((KY % side) * half + KX)[pilots], products, axis=1)
    maps = np.fft.irfft2(spectra.reshape(-1, side, half), s=(side, side)).reshape(-1, side * side)
    return maps.astype(np.float32, copy=False)


def shift_back(band: Band, shift: tuple[int, int]) -> Band:
    """Undo a shift found by `correlate_all_shifts`."""
    rows, columns = shift
    turned: Band = band * np.exp(2j * np.pi * (KY * rows + KX * columns) / TILE)
    return turned.astype(np.complex64)
