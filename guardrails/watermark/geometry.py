"""What may have happened to the picture's geometry, and what a search over it costs in significance.

A mark is a tile repeated on a lattice, so the autocorrelation of the whitened frame has peaks at the lattice's points.
The lattice is read from those peaks alone. That reading touches no key, so it may try thousands of scales and angles
for nothing: only the few lattices that are then correlated with keyed pilots are tests, and all of them are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.carrier import BINS, FLAT_INDEX, POOL, TILE
from guardrails.watermark.frame import Plane, tiles
from guardrails.watermark.payload import CHECK_BITS

Axis = NDArray[np.float32]

SHIFTS = TILE * TILE
ORIENTATIONS = tuple((turns, mirror) for mirror in (False, True) for turns in range(4))
# How many lattices of each family are correlated with the pilots.
EQUAL_LATTICES, FREE_LATTICES, TURNED_LATTICES = 6, 6, 8
LATTICE_DEMODULATIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One part of the detector's work.

    Attributes:
        stage: the mode that first includes it.
        share: of the whole false-positive budget. Shares sum to 3/4; the last quarter is kept for a latent mark.
        maps: tiles that are correlated.
        shifts: tried in each map.
        demodulations: how many candidates may be decoded; each is one more chance for a check to be right by luck.
    """

    stage: str
    share: float
    maps: int
    shifts: int
    demodulations: int = 1

    def tests(self, epochs: int) -> int:
        """How many standard scores this search looks at."""
        return self.maps * self.shifts * POOL * epochs

    def p_value(self, z: float, epochs: int) -> float:
        """Probability that an unmarked picture reaches `z` anywhere in this search, in units of the whole budget.

        Dividing by the share makes "p <= alpha" the same decision in every stage, and the sum over stages <= alpha
        (weighted Bonferroni).
        """
        return math.exp(min(0.0, self._log_p(z, epochs)))

    def p_value_with_check(self, z: float, epochs: int) -> float:
        """The same for `z` together with a payload whose keyed check is right."""
        return math.exp(min(0.0, self._log_p(z, epochs) + math.log(self.demodulations) - CHECK_BITS * math.log(2)))

    def _log_p(self, z: float, epochs: int) -> float:
        return log_survival(z) + math.log(self.tests(epochs)) - math.log(self.share)


def _lattice_search(stage: str, share: float, lattices: int) -> Search:
    return Search(
        stage=stage, share=share, maps=lattices * len(ORIENTATIONS), shifts=SHIFTS, demodulations=LATTICE_DEMODULATIONS
    )


ALIGNED = Search(stage="fast", share=1 / 8, maps=len(ORIENTATIONS), shifts=1)
SHIFTED = Search(stage="fast", share=1 / 16, maps=len(ORIENTATIONS), shifts=SHIFTS)
CROPPED = _lattice_search("standard", 3 / 16, EQUAL_LATTICES + FREE_LATTICES)
# The same once more behind the learned front end, whose lattices stand out twice as far, and rotation.
LEARNED_ALIGNED = Search(stage="deep", share=1 / 16, maps=len(ORIENTATIONS), shifts=1)
LEARNED_SHIFTED = Search(stage="deep", share=1 / 16, maps=len(ORIENTATIONS), shifts=SHIFTS)
LEARNED_CROPPED = _lattice_search("deep", 1 / 8, EQUAL_LATTICES + FREE_LATTICES)
LEARNED_ROTATED = _lattice_search("deep", 1 / 8, TURNED_LATTICES)
SEARCHES = (
    ALIGNED,
    SHIFTED,
    CROPPED,
    LEARNED_ALIGNED,
    LEARNED_SHIFTED,
    LEARNED_CROPPED,
    LEARNED_ROTATED,
)


def log_survival(z: float) -> float:
    """Natural logarithm of the standard normal upper tail Q(z).

    Beyond z = 8, where erfc would soon underflow, the first terms of the asymptotic series
    Q(z) = phi(z) / z * (1 - 1/z^2 + 3/z^4 - 15/z^6 ...) (Abramowitz and Stegun 26.2.12); relative error under 1e-5.
    """
    if z < 8:
        return math.log(0.5 * math.erfc(z / math.sqrt(2)))
    inverse = 1 / (z * z)
    series = 1 - inverse + 3 * inverse**2 - 15 * inverse**3 + 105 * inverse**4
    return -z * z / 2 - math.log(z) - 0.5 * math.log(2 * math.pi) + math.log(series)


def orient_tile(tile: Plane, shape: tuple[int, ...], turns: int, mirror: bool) -> Plane:
    """The folded tile of a plane that was turned by `turns` * 90 degrees (counter-clockwise), then mirrored.

    Args:
        tile: of the plane as it is.
        shape: of the plane: what lies at its far end comes to lie at the tile's start.
    """
    height, width = shape
    for _ in range(turns):
        tile, height, width = np.roll(np.rot90(tile), width, axis=0), width, height
    return np.roll(tile[:, ::-1], width, axis=1) if mirror else tile


def coherence(whitened: Plane) -> float:
    """How much the tiles of a plane agree beyond chance, in standard deviations of independent tiles.

    For each bin of the carrier's band the power of the sum of all tiles is compared with the sum of their powers; a
    right lattice stands far out, unmarked pictures reach about 4. No key is touched, so looking is no test.
    """
    parts = tiles(whitened).swapaxes(1, 2).reshape(-1, TILE, TILE)
    bins = np.fft.rfft2(parts).reshape(len(parts), -1)[:, FLAT_INDEX]
    total = bins.sum(axis=0)
    apart = (bins.real**2 + bins.imag**2).sum(axis=0)
    ratio = (total.real**2 + total.imag**2) / (apart + 1e-9)
    return (float(np.minimum(ratio, _LOUDEST_BIN).mean()) - 1) * math.sqrt(BINS)


# A bin in which the host itself repeats must not decide alone.
_LOUDEST_BIN = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Where the tiles lie in a frame.

    Attributes:
        period_x, period_y: of the tile, in units of the frame; 64 when nothing happened.
        angle: degrees that the tile's axes are turned, clockwise as seen on the screen.
    """

    period_x: float
    period_y: float
    angle: float = 0.0

    def straighten(self, frame: Plane) -> Plane:
        """Resample a frame so that the tiles are upright and 64 units long again; outside is zero."""
        height, width = frame.shape
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        step_x, step_y = self.period_x / TILE, self.period_y / TILE
        linear = np.array([[cosine * step_x, -sine * step_y], [sine * step_x, cosine * step_y]])
        corners = np.linalg.inv(linear) @ np.array([[0, width, 0, width], [0, 0, height, height]])
        origin = corners.min(axis=1)
        columns, rows = np.ceil(corners.max(axis=1) - origin).astype(int)
        # Pixel centres lie at half units in both frames.
        centre = linear @ (origin + 0.5) - 0.5
        matrix = np.hstack([linear, centre[:, None]])
        straight: Plane = cv2.warpAffine(  # type: ignore[assignment]
            frame, matrix, (int(columns), int(rows)), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderValue=0
        )
        return straight


class Autocorrelation:
    """Generalised autocorrelation of a whitened frame, for lags up to its size.

    Args:
        whitened: float32 of shape (height, width).
    """

    def __init__(self, whitened: Plane) -> None:
        height, width = whitened.shape
        self._reach = (0.8 * height, 0.8 * width)
        shape = tuple(cv2.getOptimalDFTSize(round(1.8 * side)) for side in (height, width))
        lags = np.fft.irfft2(_comb(np.fft.rfft2(whitened, shape)), shape).astype(np.float32)
        self._lags = np.fft.fftshift(lags)
        self._centre = (shape[0] // 2, shape[1] // 2)

    def strength(self, period_x: Axis, period_y: Axis, angle: Axis) -> NDArray[np.float32]:
        """Sum of the autocorrelation over the points of each lattice (2-D arrays of one shape, degrees)."""
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        total = np.zeros(period_x.shape, np.float32)
        for along, down in _LATTICE_POINTS:
            x = along * period_x * cosine - down * period_y * sine
            y = along * period_x * sine + down * period_y * cosine
            inside = (np.abs(y) < self._reach[0]) & (np.abs(x) < self._reach[1])
            value = cv2.remap(
                self._lags,
                (x + self._centre[1]).astype(np.float32),
                (y + self._centre[0]).astype(np.float32),
                cv2.INTER_LINEAR,
            )
            total += np.where(inside, value, 0)
        return total


def _comb(spectrum: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.float32]:
    """Power of a half spectrum relative to its surroundings: a repeated tile has thin lines, a host has not.

    Loud lines are flattened, so that a host with a period of its own does not drown the mark's.
    """
    rows, columns = spectrum.shape
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    half = _SURROUNDINGS // 2
    # Rows are periodic; the border of the columns does not matter, it lies outside the band or is mirrored.
    padded = np.pad(power, ((half, half), (0, 0)), mode="wrap")
    level = cv2.blur(padded, (_SURROUNDINGS, _SURROUNDINGS))[half : half + rows]
    comb: NDArray[np.float32] = np.minimum(power / (level + 1e-9), _LOUDEST_LINE) ** np.float32(_LINE_EXPONENT)
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.arange(columns) / (2 * (columns - 1)))
    comb[(radius < _BAND[0]) | (radius > _BAND[1])] = 0
    return comb


_SURROUNDINGS, _LOUDEST_LINE, _LINE_EXPONENT = 7, 6.0, 0.7
# The carrier's radii, in cycles per unit, at the periods that are looked for.
_BAND = (0.04, 0.40)
# Half of the points within three periods (the autocorrelation is even), the origin left out.
_LATTICE_POINTS = tuple(
    (along, down) for along in range(-3, 4) for down in range(4) if (down > 0 or along > 0) and along**2 + down**2 <= 9
)
# Periods from a 10 % frame around the picture (64 / 1.2 = 53) to half of the area lost and one axis squeezed to .8
# (64 / .707 / .8 = 113), with some room.
_PERIODS = np.arange(50.0, 126.0, 0.4, dtype=np.float32)
_ANGLES = np.arange(-12.5, 12.6, 0.25, dtype=np.float32)
_SEPARATION = 4


def upright_lattices(correlation: Autocorrelation) -> list[Lattice]:
    """The likeliest lattices of a picture that was cropped, framed or squeezed; likeliest first.

    Equal periods are the usual case and a far smaller family, in which weaker peaks stand out; they come first.
    """
    equal = _equal_periods(correlation, np.zeros(1, np.float32), EQUAL_LATTICES)
    free = _highest(lambda x, y: correlation.strength(x, y, np.zeros_like(x)), _PERIODS, _PERIODS, FREE_LATTICES)
    return equal + [Lattice(period_x=x, period_y=y) for x, y in free]


def turned_lattices(correlation: Autocorrelation) -> list[Lattice]:
    """The likeliest lattices of a picture that was rotated by up to 12 degrees and perhaps cropped."""
    return _equal_periods(correlation, _ANGLES, TURNED_LATTICES)


def _equal_periods(correlation: Autocorrelation, angles: Axis, count: int) -> list[Lattice]:
    found = _highest(lambda angle, period: correlation.strength(period, period, angle), angles, _PERIODS, count)
    return [Lattice(period_x=period, period_y=period, angle=angle) for angle, period in found]


def _highest(
    strength: Callable[[Axis, Axis], NDArray[np.float32]], first: Axis, second: Axis, count: int
) -> list[tuple[float, float]]:
    """Coordinates of the highest peaks of a function on the grid first x second, refined around each peak."""
    found = []
    for row, column in _peaks(strength(*np.meshgrid(first, second, indexing="ij")), count):
        fine = np.meshgrid(_around(first, row), _around(second, column), indexing="ij")
        best = int(strength(*fine).argmax())
        found.append((float(fine[0].flat[best]), float(fine[1].flat[best])))
    return found


def _around(axis: Axis, index: int) -> Axis:
    """25 values within 1.5 steps of one value of an axis; an axis of one value stays as it is."""
    if len(axis) == 1:
        return axis
    reach = 1.5 * (axis[1] - axis[0])
    return np.linspace(axis[index] - reach, axis[index] + reach, 25, dtype=np.float32)


def _peaks(score: NDArray[np.float32], count: int) -> list[tuple[int, int]]:
    """The highest points of a map that are not neighbours of a higher one taken before."""
    left = score.copy()
    peaks = []
    for _ in range(count):
        row, column = divmod(int(left.argmax()), left.shape[1])
        peaks.append((row, column))
        rows = slice(max(row - _SEPARATION, 0), row + _SEPARATION + 1)
        left[rows, max(column - _SEPARATION, 0) : column + _SEPARATION + 1] = -np.inf
    return peaks
