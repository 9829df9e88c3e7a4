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
        pictures: RGB uint8, at least one, at most `MOST`.
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
    pixels, found = decode(grid).pixels, _LABEL.fullmatch(name)
    row, column = divmod(int(found[1]) - 1, COLUMNS) if found else (-1, 0)
    if pixels.shape[1] != COLUMNS * SIDE or not 0 <= row < pixels.shape[0] // SIDE:
        raise ScreenUnavailable(f"the thumbnails hold no {name!r}", hint="train the pack again with --thumbnails")
    return pixels[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
