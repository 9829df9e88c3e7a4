"""What is left of a picture when plain borders are peeled off: padding, letterbox bars, plain backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels

# Boxes are found at one scale, so that a picture and its thumbnail give the same box.
_WORKING_SIDE = 256
# A line is plain when nearly all its pixels are this near to the line's own median colour.
_PLAIN_DIFFERENCE = 12
_PLAIN_SHARE = 0.97
_MIN_SIDE = 24
# Lines are looked at from the edges inwards, a few at a time.
_CHUNK = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def view(self, pixels: Pixels) -> Pixels:
        """The part, without copying it."""
        return pixels[self.top : self.bottom, self.left : self.right]

    def cut(self, pixels: Pixels) -> Pixels:
        """The part, as a contiguous array."""
        return np.ascontiguousarray(self.view(pixels))

    def is_whole(self, pixels: Pixels) -> bool:
        """True when nothing is cut off."""
        return (self.top, self.left) == (0, 0) and (self.bottom, self.right) == pixels.shape[:2]


def content_box(pixels: Pixels) -> Box:
    """The part inside all plain lines at the edges.

    Lines are judged by their own colour, so that a white frame around a black bar around a picture is peeled, too.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    if scale == 1:
        return Box(*_peel(pixels))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    top, bottom, left, right = _peel(small)
    # Found small, then to the pixel: half a pixel at the small size would cost bits.
    vertical, horizontal = height / small.shape[0], width / small.shape[1]
    coarse = Box(
        top=max(0, int((top - 1) * vertical)),
        bottom=min(height, int(np.ceil((bottom + 1) * vertical))),
        left=max(0, int((left - 1) * horizontal)),
        right=min(width, int(np.ceil((right + 1) * horizontal))),
    )
    top, bottom, left, right = _peel(coarse.view(pixels))
    return Box(coarse.top + top, coarse.top + bottom, coarse.left + left, coarse.left + right)


def _peel(small: Pixels) -> tuple[int, int, int, int]:
    """Top, bottom, left, right; peeling rows can make columns plain, so all sides are tried until nothing changes."""
    top, bottom, left, right = 0, small.shape[0], 0, small.shape[1]
    while True:
        before = top, bottom, left, right
        above, below = _plain_margins(small[top:bottom, left:right])
        top, bottom = top + above, bottom - below
        beside, behind = _plain_margins(small[top:bottom, left:right].transpose(1, 0, 2))
        left, right = left + beside, right - behind
        if (top, bottom, left, right) == before:
            return before


def _plain_margins(lines: Pixels) -> tuple[int, int]:
    """How many lines are plain at the beginning and at the end; none where the rest would be too small to be hashed."""
    begin = _leading_plain(lines)
    if len(lines) - begin < _MIN_SIDE:
        return 0, 0
    end = _leading_plain(lines[::-1])
    return (begin, end) if len(lines) - begin - end >= _MIN_SIDE else (0, 0)


def _leading_plain(lines: Pixels) -> int:
    for begin in range(0, len(lines), _CHUNK):
        plain = _plain_lines(lines[begin : begin + _CHUNK])
        if not plain.all():
            return begin + int(np.argmin(plain))
    return len(lines)


def _plain_lines(lines: Pixels) -> NDArray[np.bool_]:
    """Which lines have one colour, bool (lines,)."""
    # Selecting the median is vectorised for 16 bits, not for 8.
    channels = np.ascontiguousarray(lines.transpose(0, 2, 1), dtype=np.int16)
    middle = channels.shape[2] // 2
    median = np.partition(channels, middle, axis=2)[:, :, middle, None]
    near = (np.abs(channels - median) < _PLAIN_DIFFERENCE).all(axis=1)
    return np.asarray(near.mean(axis=1) >= _PLAIN_SHARE, dtype=np.bool_)
