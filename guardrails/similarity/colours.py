"""A coarse colour layout: what the hashes, which see brightness alone, cannot tell apart.

Nearness of colours never makes a match; it only vetoes one (a blue heart is no copy of a red heart).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels

GRID = 4
COLOUR_BYTES = GRID * GRID * 3


def colour_layout(pixels: Pixels) -> NDArray[np.uint8]:
    """Mean colours of a 4 x 4 grid.

    Args:
        pixels: RGB, uint8, square, at least 4 x 4.

    Returns:
        uint8 (48,): rows, columns, channels.
    """
    return np.asarray(cv2.resize(pixels, (GRID, GRID), interpolation=cv2.INTER_AREA), dtype=np.uint8).reshape(-1)


def colour_distance(layout: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two layouts, 0..255."""
    return float(np.abs(layout.astype(np.int16) - other).mean())
