"""The canonical frame: luma with a short side of 256 units, whitened, folded onto one tile."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.errors import WatermarkError
from guardrails.imaging import Pixels
from guardrails.watermark.carrier import FLAT_INDEX, TILE

SHORT_SIDE = 256
MINIMUM_SIDE = 128

Plane = NDArray[np.float32]

# Luma of ITU-R BT.601, the one JPEG codes.
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_HIGH_PASS_SIGMA = 2.2
_ENERGY_SIGMA = 3.0
# Keeps areas that are flatter than the mark itself from being blown up by rounding noise.
_ENERGY_FLOOR = 1.0
# Between 0.5 (equal power everywhere) and 1 (best for a mark of constant amplitude in Gaussian noise): the mask makes
# the mark louder in texture, but less than proportionally.
_WHITENING_EXPONENT = 0.65


def require_markable(pixels: Pixels) -> None:
    """Check the one contract of pixels and the smallest size.

    Raises:
        WatermarkError: not RGB uint8 of shape (height, width, 3), or a side under 128 pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise WatermarkError(
            f"a mark needs RGB uint8 pixels of shape (height, width, 3), not {pixels.dtype} {pixels.shape}",
            hint="decode the file with guardrails.imaging",
        )
    height, width = pixels.shape[:2]
    if min(height, width) < MINIMUM_SIDE:
        raise WatermarkError(
            f"{width} x {height} pixels are too few for a mark: both sides must be at least {MINIMUM_SIDE}",
            hint="generate a larger picture",
        )


def luma(pixels: Pixels) -> Plane:
    """Luma of RGB uint8 pixels: float32 of shape (height, width), 0..255."""
    plane: Plane = cv2.transform(pixels.astype(np.float32), _LUMA)  # type: ignore[assignment]
    return plane


def resize(plane: Plane, height: int, width: int) -> Plane:
    """Resample: area averages when shrinking, cubic when enlarging."""
    if plane.shape == (height, width):
        return plane
    shrinking = height * width < plane.shape[0] * plane.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    resized: Plane = cv2.resize(plane, (width, height), interpolation=method)  # type: ignore[assignment]
    return resized


def canonical_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the canonical frame of a picture: the short side becomes 256."""
    scale = SHORT_SIDE / min(height, width)
    return round(height * scale), round(width * scale)


def canonical(plane: Plane) -> Plane:
    """Resample a luma plane to its canonical size, so that every uncropped resize is undone."""
    return resize(plane, *canonical_size(*plane.shape))


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur with mirrored borders, cut at three standard deviations."""
    size = 2 * math.ceil(3 * sigma) + 1
    blurred: Plane = cv2.GaussianBlur(  # type: ignore[assignment]
        plane, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    return blurred


def whiten(frame: Plane) -> Plane:
    """High-pass, then divide by the local energy: where the host is loud, the mark is heard less."""
    detail = frame - blur(frame, _HIGH_PASS_SIGMA)
    energy = blur(detail * detail, _ENERGY_SIGMA) + _ENERGY_FLOOR
    whitened: Plane = detail * energy**-_WHITENING_EXPONENT
    return whitened


def tiles(whitened: Plane) -> Plane:
    """The tiles of a plane, padded with zeros to whole ones: float32 of shape (rows, 64, columns, 64)."""
    height, width = whitened.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), np.float32)
    padded[:height, :width] = whitened
    return padded.reshape(rows, TILE, columns, TILE)


def fold(whitened: Plane) -> Plane:
    """Add all 64 x 64 tiles of a plane: float32 of shape (64, 64)."""
    folded: Plane = tiles(whitened).sum(axis=(0, 2))
    return folded


def band_of(tile: Plane) -> NDArray[np.complex64]:
    """The carrier's bins of a tile's spectrum: complex64 of shape (BINS,)."""
    spectrum: NDArray[np.complex64] = np.fft.rfft2(tile).reshape(-1).astype(np.complex64)
    band: NDArray[np.complex64] = spectrum[FLAT_INDEX]
    return band
