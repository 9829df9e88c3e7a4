"""The views of one picture that a square network must see so that no part of the picture stays unseen.

Classifiers squash a picture to a square or cut its centre out. Either way something in the side strip of a wide
picture is invisible, so such pictures are also shown whole on a square canvas, and panoramas in square pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from guardrails.imaging import Pixels

PANORAMA_ASPECT = 2.0
MAX_TILES = 15
# The letterboxed picture is made no larger than a network can use.
LETTERBOX_SIDE = 512
# ImageNet's mean colour: networks see it as zero.
LETTERBOX_COLOUR = (123, 117, 104)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Pixels [left, right) x [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int


def views(pixels: Pixels) -> list[Pixels]:
    """The picture itself; if it is not square, the whole of it letterboxed; if it is a panorama, its tiles."""
    height, width = pixels.shape[:2]
    result = [pixels]
    if width != height:
        result.append(letterbox(pixels))
    if max(width, height) > PANORAMA_ASPECT * min(width, height):
        result += [pixels[box.top : box.bottom, box.left : box.right] for box in tile_boxes(width, height)]
    return result


def letterbox(pixels: Pixels) -> Pixels:
    """The whole picture, centred on a square canvas, proportions kept."""
    height, width = pixels.shape[:2]
    side = min(max(width, height), LETTERBOX_SIDE)
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (side, side), LETTERBOX_COLOUR)
    shrunk = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    canvas.paste(shrunk, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(canvas)


def tile_boxes(width: int, height: int) -> list[Box]:
    """Tiles along the longer side, from edge to edge; each overlaps the next by half or more.

    Tiles are square up to an aspect of 8; beyond that they grow longer instead of more than `MAX_TILES`.
    """
    long, short = max(width, height), min(width, height)
    count = min(MAX_TILES, max(1, -(-2 * long // short) - 1))
    length = min(long, max(short, -(-2 * long // (count + 1))))
    starts = [round(i * (long - length) / (count - 1)) for i in range(count)] if count > 1 else [0]
    if width >= height:
        return [Box(left=start, top=0, right=start + length, bottom=height) for start in starts]
    return [Box(left=0, top=start, right=width, bottom=start + length) for start in starts]
