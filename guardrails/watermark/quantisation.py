"""Make a residual survive the quantiser of JPEG.

In a flat block every coefficient of the host is zero and JPEG rounds to zero whatever is smaller than half a
quantiser step. A mark of one grey level rms, spread over all its coefficients, is lost there completely: the flat
areas of a drawing keep nothing at quality 60. The same energy on one or two coefficients of a block crosses the
threshold and is even amplified to a full step. So each block spends its energy on few coefficients that are just large
enough, a different choice in every repetition of the tile; folded together, the repetitions give the whole pattern
back. This is randomised rounding with low-discrepancy thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.carrier import HIGHEST_RADIUS, TILE
from guardrails.watermark.frame import Plane

BLOCK = 8
COEFFICIENTS = BLOCK * BLOCK

Blocks = NDArray[np.float32]

# Luminance table of ITU-T T.81 (JPEG), Table K.1, for quality 50.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_MARGIN, _CHEAPEST = 1.08, 0.3
_FIXED_POINT_STEPS = 3
_PLASTIC = 1.324717957244746
# Rows of blocks are worked on in strips of about this many blocks: they stay in the cache, and memory is bounded.
_STRIP_BLOCKS = 4096


@dataclass(frozen=True, slots=True)
class _Aim:
    """Which quantiser the mark shall survive.

    Attributes:
        quality: of JPEG; what crosses its steps crosses most finer ones too.
        dearest: coefficients that need more than this would starve the others and be seen.
        share: of a block's energy spent on crossing thresholds; the rest stays spread and serves every other attack.
    """

    quality: float
    dearest: float
    share: float

    def half_steps(self) -> NDArray[np.float32]:
        """Half of each quantiser step, shape (64,); 5000 / quality is the scaling of libjpeg."""
        steps = np.floor((_LUMINANCE.reshape(-1) * (5000 / self.quality) + 50) / 100)
        return (steps / 2).astype(np.float32)


# The larger the picture, the more blocks repeat each piece of the tile and the fewer coefficients share the energy of a
# block: few large steps are enough then. A small picture must be content with the finer quantiser.
_SMALL, _LARGE = _Aim(40, 10.0, 0.75), _Aim(25, 13.0, 0.5)
_LARGE_UNIT = 1.5


def harden(host: Plane, residual: Plane, unit: float) -> Plane:
    """Concentrate a residual on coefficients that cross the quantiser's threshold.

    Args:
        host: luma, float32 of shape (height, width).
        residual: the mark, the same shape.
        unit: pixels for each unit of the canonical frame.

    Returns:
        The residual with its energy moved inside each block, never raised.
    """
    height, width = host.shape
    columns, strip = -(-width // BLOCK), max(1, _STRIP_BLOCKS * BLOCK // width)
    period, basis = max(1, round(TILE * unit / BLOCK)), _basis(unit)
    start = np.random.default_rng(0).random((period, period, len(basis)), np.float32)
    aim = _LARGE if unit >= _LARGE_UNIT else _SMALL
    half_steps = aim.half_steps()[_carrying(unit)]
    hardened = np.empty_like(residual)
    for first in range(0, -(-height // BLOCK), strip):
        rows = np.s_[first * BLOCK : min((first + strip) * BLOCK, height)]
        wanted, present = (_blocks(plane[rows]) @ basis.T for plane in (residual, host))
        # JPEG shifts the levels by 128 before the transform.
        present[:, 0] -= 128 * BLOCK
        thresholds = _thresholds(start, first, len(wanted) // columns, columns)
        change = (_harden(wanted, present, aim, half_steps, thresholds) - wanted) @ basis
        hardened[rows] = residual[rows] + _plane(change, *residual[rows].shape)
    return hardened


def _carrying(unit: float) -> NDArray[np.intp]:
    """Indices (of 64, row by row) of the coefficients that the carrier reaches; the others stay as they are."""
    highest = min(BLOCK, math.ceil(2 * BLOCK * HIGHEST_RADIUS / TILE / unit) + 1)
    down, along = np.divmod(np.arange(COEFFICIENTS), BLOCK)
    return np.flatnonzero(np.maximum(down, along) < highest)


def _basis(unit: float) -> NDArray[np.float32]:
    """The two-dimensional DCT-II functions that carry the mark, one in each row: shape (n, 64), orthonormal."""
    k, n = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    functions = np.cos((2 * n + 1) * k * np.pi / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    functions[0] /= np.sqrt(2)
    return np.kron(functions, functions).astype(np.float32)[_carrying(unit)]


def _blocks(plane: Plane) -> Blocks:
    """The 8 x 8 blocks of a plane, the last ones padded by repeating: float32 of shape (blocks, 64), row by row."""
    height, width = plane.shape
    if height % BLOCK or width % BLOCK:
        plane = np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    blocks = plane.reshape(-1, BLOCK, plane.shape[1] // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    return blocks.reshape(-1, COEFFICIENTS)


def _plane(blocks: Blocks, height: int, width: int) -> Plane:
    """Undo `_blocks` and cut to size."""
    columns = -(-width // BLOCK)
    return blocks.reshape(-1, columns, BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(-1, columns * BLOCK)[:height, :width]


def _harden(wanted: Blocks, present: Blocks, aim: _Aim, half_steps: NDArray[np.float32], thresholds: Blocks) -> Blocks:
    needed = np.maximum(half_steps * _MARGIN - np.copysign(present, wanted * present), _CHEAPEST)
    crossing = (np.abs(present) < half_steps) & (needed < aim.dearest)
    cost = needed * needed
    energy = np.einsum("ij,ij->i", wanted, wanted)[:, None]
    # |wanted| ** 1.5 by two square roots is several times faster than a general power.
    size = np.abs(wanted)
    appeal = np.where(crossing, size * np.sqrt(size) / needed, np.float32(0))
    probabilities = _probabilities(appeal, cost, aim.share * energy)
    chosen = thresholds < probabilities
    rest = np.where(chosen, np.float32(0), wanted)
    rest_energy = np.einsum("ij,ij->i", rest, rest)[:, None]
    # A block of texture has few zeros to cross: what they leave of the energy stays with the rest.
    left = energy - np.einsum("ij,ij->i", probabilities, cost)[:, None]
    rest *= np.sqrt(np.minimum(left / (rest_energy + 1e-9), 1))
    return np.where(chosen, np.copysign(needed, wanted), rest)


def _probabilities(appeal: Blocks, cost: Blocks, budget: Blocks) -> Blocks:
    """Probabilities min(1, c * appeal), c chosen per block so that the expected cost is the budget.

    A few fixed-point steps are enough: only the entries that saturate at 1 need them.
    """
    scale = budget / (np.einsum("ij,ij->i", appeal, cost)[:, None] + 1e-9)
    probabilities: Blocks = np.minimum(1, scale * appeal)
    for _ in range(_FIXED_POINT_STEPS):
        spent = np.einsum("ij,ij->i", probabilities, cost)[:, None]
        scale = np.minimum(scale * budget / (spent + 1e-9), 1e6)
        np.multiply(scale, appeal, out=probabilities)
        np.minimum(probabilities, 1, out=probabilities)
    return probabilities


def _thresholds(start: Blocks, first: int, rows: int, columns: int) -> Blocks:
    """Uniform thresholds of shape (rows * columns, n), evenly spread over the repetitions of the tile.

    Each coefficient of each block of the tile starts at a random place; from one repetition to the next it moves along
    the two-dimensional R2 sequence of the plastic number (Roberts 2018).
    """
    period = len(start)
    row, column = np.arange(first, first + rows)[:, None], np.arange(columns)
    move = ((row // period) / _PLASTIC + (column // period) / _PLASTIC**2) % 1
    thresholds = start[row % period, column % period] + move[..., None].astype(np.float32)
    thresholds -= thresholds >= 1
    return thresholds.reshape(rows * columns, -1)
