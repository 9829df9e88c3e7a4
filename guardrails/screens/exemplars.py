"""Small pictures of a pack's examples, so that an explanation can show what a finding is like.

One WebP beside the pack holds them all as a grid, eight in a row, in the order of the rows of `<id>.examples` (or
`<id>.positives`) in the weight file. An operator keeps them only when asked to: a pack without them works the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.screens.views import letterbox

SIDE = 96
COLUMNS = 8
MOST = 64
QUALITY = 70
_LABEL = re.compile(r"example ([1-9][0-9]{0,4})")


def label(row: int) -> str:
    """What row `row` of the examples is called in evidence: "example 1" for row 0."""
    return f"example {row + 1}"


def to_grid(pictures: Sequence[Pixels]) -> bytes:
    """The pictures as one WebP.

    Args:
        pictures: RGB uint8, at least one.
    """
    rows = -(-len(pictures) // COLUMNS)
    grid = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE))
    for number, pixels in enumerate(pictures):
        tile = Image.fromarray(letterbox(pixels)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        grid.paste(tile, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
    return encode(np.asarray(grid), ImageFormat.WEBP, quality=QUALITY)


def picture_of(grid: bytes, name: str) -> Pixels:
    """The small picture that belongs to a label.

    Raises:
        ScreenUnavailable: the file is no such grid, or holds no such example.
        ImageError: the file is no picture.
    """
    found = _LABEL.fullmatch(name)
    return tile(decode(grid).pixels, int(found[1]) - 1 if found else -1)


def tile(grid: Pixels, number: int) -> Pixels:
    """The small picture at a place of a decoded grid, counted from 0.

    Raises:
        ScreenUnavailable: the grid has no such place.
    """
    row, column = divmod(number, COLUMNS)
    if grid.shape[1] != COLUMNS * SIDE or not 0 <= row < grid.shape[0] // SIDE:
        raise ScreenUnavailable(
            f"the thumbnails hold no {label(number)!r}", hint="train the pack again with --thumbnails"
        )
    return grid[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
