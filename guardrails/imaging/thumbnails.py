"""Small pictures for people: they show which work is meant, and are never compared with anything."""

from __future__ import annotations

import cv2
import numpy as np

from guardrails.errors import OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode

SIDE = 128
MAX_BYTES = 4096
_QUALITIES = (80, 60, 40, 20)
_SMALLEST = 16


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """A picture whose long side has at most `side` pixels, in its own proportions.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def thumbnail(pixels: Pixels, *, side: int = SIDE, max_bytes: int = MAX_BYTES) -> bytes:
    """A WebP of at most `max_bytes`: first the quality goes down, then the size; the same pixels give the same bytes.

    Args:
        pixels: RGB, uint8, height x width x 3.
        side: of the long side, in pixels, at most.

    Raises:
        OptionError: not even the smallest picture fits.
    """
    while side >= _SMALLEST:
        small = shrunk(pixels, side)
        for quality in _QUALITIES:
            data = encode(small, ImageFormat.WEBP, quality=quality)
            if len(data) <= max_bytes:
                return data
        side = side * 3 // 4
    raise OptionError(f"no thumbnail fits into {max_bytes} bytes", hint="allow 512 or more")
