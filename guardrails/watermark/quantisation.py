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
# A little coarser than the quality that the self-check asks for; 5000 / quality is the scaling of libjpeg.
_QUALITY = 40
_STEPS = np.floor((_LUMINANCE * np.float32(5000 / _QUALITY) + 50) / 100)
_MARGIN = 1.08
# Coefficients that need more than this are too dear: they would starve the others and be seen.
_DEAREST, _CHEAPEST = 10.0, 0.3
# Share of a block's energy spent on crossing thresholds; the rest stays spread and serves every other attack.
_SHARE = 0.75
_PREFERENCE = 1.4
_PLASTIC = 1.324717957244746


def _cosines() -> NDArray[np.float32]:
    """The orthonormal DCT-II of 8 samples."""
    k, n = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    basis = np.cos((2 * n + 1) * k * np.pi / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


_DCT = _cosines()


def block_dct(plane: Plane) -> Blocks:
    """8 x 8 DCT of a plane, the last blocks padded by repeating: float32 of shape (rows, columns, 8, 8)."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).transpose(0, 2, 1, 3)
    return np.asarray(_DCT @ blocks @ _DCT.T, np.float32)


def inverse_block_dct(blocks: Blocks, height: int, width: int) -> Plane:
    """Undo `block_dct` and cut to size."""
    samples = np.asarray(_DCT.T @ blocks @ _DCT, np.float32).transpose(0, 2, 1, 3)
    return samples.reshape(blocks.shape[0] * BLOCK, -1)[:height, :width]


class DeadZone:
    """Where a host's blocks lie in the quantiser, prepared once for several strengths of a mark.

    Args:
        host: luma, float32 of shape (height, width).
        period: of the tile, in blocks.
    """

    def __init__(self, host: Plane, period: int) -> None:
        self._shape = host.shape
        # JPEG shifts the levels by 128 before the transform.
        self._host = block_dct(host - 128)
        self._zero = np.abs(self._host) < _STEPS / 2
        self._thresholds = _thresholds(self._host.shape[0], self._host.shape[1], period)

    def harden(self, residual: Plane) -> Plane:
        """Concentrate `residual` (float32, the host's shape) without raising any block's energy."""
        wanted = block_dct(residual)
        needed = np.maximum(_STEPS / 2 * _MARGIN - np.sign(wanted) * self._host, _CHEAPEST)
        crossing = self._zero & (needed < _DEAREST)
        energy = (wanted * wanted).sum(axis=(2, 3), keepdims=True)
        appeal = np.where(crossing, np.abs(wanted) ** np.float32(_PREFERENCE) / needed, np.float32(0))
        cost = needed * needed
        probabilities = _probabilities(appeal, cost, _SHARE * energy)
        chosen = self._thresholds < probabilities
        rest = np.where(chosen, 0, wanted)
        rest_energy = (rest * rest).sum(axis=(2, 3), keepdims=True)
        # A block of texture has few zeros to cross: what they leave of the energy stays with the rest.
        left = energy - (probabilities * cost).sum(axis=(2, 3), keepdims=True)
        rest *= np.sqrt(np.minimum(left / (rest_energy + 1e-9), 1))
        hardened = np.where(chosen, np.sign(wanted) * needed, rest)
        return inverse_block_dct(hardened, *self._shape)


def _probabilities(appeal: Blocks, cost: Blocks, budget: Blocks) -> Blocks:
    """Probabilities min(1, c * appeal), c chosen per block so that the expected cost is the budget.

    A few fixed-point steps are enough: only the entries that saturate at 1 need them.
    """
    scale = budget / ((appeal * cost).sum(axis=(2, 3), keepdims=True) + 1e-9)
    for _ in range(4):
        spent = (np.minimum(1, scale * appeal) * cost).sum(axis=(2, 3), keepdims=True)
        scale = np.minimum(scale * budget / (spent + 1e-9), 1e6)
    probabilities: Blocks = np.minimum(1, scale * appeal)
    return probabilities


def _thresholds(rows: int, columns: int, period: int) -> Blocks:
    """Uniform thresholds of shape (rows, columns, 8, 8), evenly spread over the repetitions of the tile.

    Each coefficient of each block of the tile starts at a random place; from one repetition to the next it moves along
    the two-dimensional R2 sequence of the plastic number (Roberts 2018).
    """
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    start = np.random.default_rng(0).random((period, period, BLOCK, BLOCK), np.float32)
    move = (row // period) / _PLASTIC + (column // period) / _PLASTIC**2
    thresholds: Blocks = (start[row % period, column % period] + move[..., None, None].astype(np.float32)) % 1
    return thresholds
