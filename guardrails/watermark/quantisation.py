"""Make a residual survive the quantiser of JPEG.

In a flat block every coefficient of the host is zero and JPEG rounds to zero whatever is smaller than half a
quantiser step. A mark of one grey level rms, spread over all its coefficients, is lost there completely: the flat
areas of a drawing keep nothing at quality 60. The same energy on one or two coefficients of a block crosses the
threshold and is even amplified to a full step. So each block spends its energy on few coefficients that are just large
enough, a different choice in every repetition of the tile; folded together, the repetitions give the whole pattern
back. This is randomised rounding with low-discrepancy thresholds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
# The coarsest quality of everyday life: what crosses its steps crosses finer ones too. 5000 / quality is the scaling of
# libjpeg.
_QUALITY = 25
_HALF_STEPS = (np.floor((_LUMINANCE * np.float32(5000 / _QUALITY) + 50) / 100) / 2).reshape(-1)
_MARGIN = 1.08
# Coefficients that need more than this are too dear: they would starve the others and be seen.
_DEAREST, _CHEAPEST = 13.0, 0.3
# Share of a block's energy spent on crossing thresholds; the rest stays spread and serves every other attack.
_SHARE = 0.5
_FIXED_POINT_STEPS = 3
_PLASTIC = 1.324717957244746
# Rows of blocks are worked on in strips of about this many blocks: they stay in the cache, and memory is bounded.
_STRIP_BLOCKS = 2048


def _cosines() -> NDArray[np.float32]:
    """The orthonormal two-dimensional DCT-II of 8 x 8 samples as one matrix, shape (64, 64)."""
    k, n = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    basis = np.cos((2 * n + 1) * k * np.pi / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    basis[0] /= np.sqrt(2)
    return np.kron(basis, basis).astype(np.float32)


_DCT = _cosines()


def harden(host: Plane, residual: Plane, period: int) -> Plane:
    """Concentrate a residual on coefficients that cross the quantiser's threshold.

    Args:
        host: luma, float32 of shape (height, width).
        residual: the mark, the same shape.
        period: of the tile, in blocks.

    Returns:
        The residual with its energy moved inside each block, never raised.
    """
    height, width = host.shape
    columns = -(-width // BLOCK)
    start = np.random.default_rng(0).random((period, period, COEFFICIENTS), np.float32)
    hardened = np.empty_like(residual)
    strip = max(1, _STRIP_BLOCKS // columns)
    for first in range(0, -(-height // BLOCK), strip):
        rows = np.s_[first * BLOCK : min((first + strip) * BLOCK, height)]
        wanted, present = _block_dct(residual[rows]), _block_dct(host[rows])
        # JPEG shifts the levels by 128 before the transform.
        present[:, 0] -= 128 * BLOCK
        thresholds = _thresholds(start, first, len(wanted) // columns, columns)
        hardened[rows] = _inverse_block_dct(_harden(wanted, present, thresholds), *residual[rows].shape)
    return hardened


def _block_dct(plane: Plane) -> Blocks:
    """DCT of the blocks of a plane, the last ones padded by repeating: float32 of shape (blocks, 64), row by row."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    blocks = padded.reshape(-1, BLOCK, padded.shape[1] // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    return np.asarray(blocks.reshape(-1, COEFFICIENTS) @ _DCT.T, np.float32)


def _inverse_block_dct(blocks: Blocks, height: int, width: int) -> Plane:
    """Undo `_block_dct` and cut to size."""
    columns = -(-width // BLOCK)
    samples = (blocks @ _DCT).reshape(-1, columns, BLOCK, BLOCK).transpose(0, 2, 1, 3)
    return np.asarray(samples.reshape(-1, columns * BLOCK)[:height, :width], np.float32)


def _harden(wanted: Blocks, present: Blocks, thresholds: Blocks) -> Blocks:
    needed = np.maximum(_HALF_STEPS * _MARGIN - np.copysign(present, wanted * present), _CHEAPEST)
    crossing = (np.abs(present) < _HALF_STEPS) & (needed < _DEAREST)
    cost = needed * needed
    energy = np.einsum("ij,ij->i", wanted, wanted)[:, None]
    # |wanted| ** 1.5 by two square roots is several times faster than a general power.
    size = np.abs(wanted)
    appeal = np.where(crossing, size * np.sqrt(size) / needed, np.float32(0))
    probabilities = _probabilities(appeal, cost, _SHARE * energy)
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
    """Uniform thresholds of shape (rows * columns, 64), evenly spread over the repetitions of the tile.

    Each coefficient of each block of the tile starts at a random place; from one repetition to the next it moves along
    the two-dimensional R2 sequence of the plastic number (Roberts 2018).
    """
    period = len(start)
    row, column = np.arange(first, first + rows)[:, None], np.arange(columns)
    move = ((row // period) / _PLASTIC + (column // period) / _PLASTIC**2) % 1
    thresholds = start[row % period, column % period] + move[..., None].astype(np.float32)
    thresholds -= thresholds >= 1
    return thresholds.reshape(-1, COEFFICIENTS)
