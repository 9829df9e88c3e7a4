"""The views of one picture that a square network must see so that no part of the picture stays unseen.

Classifiers cut the centre out of a picture, so what is in the side strip of a wide one is invisible to them. Pictures
that are not square are therefore shown whole on a square canvas, and panoramas in square pieces besides. Ordinary
pictures have one view: each further one costs a pass and another chance of a false alarm.
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

    def to_json(self) -> list[int]:
        """[left, top, right, bottom]"""
        return [self.left, self.top, self.right, self.bottom]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A part of a picture as a network sees it, square where possible.

    Attributes:
        box: the part, in pixels of the picture.
        pixels: RGB uint8; the part, letterboxed when it is not square.
    """

    box: Box
    pixels: Pixels


def views(pixels: Pixels) -> list[View]:
    """The whole picture, and the tiles of a panorama."""
    height, width = pixels.shape[:2]
    boxes = [Box(left=0, top=0, right=width, bottom=height)]
    if max(width, height) > PANORAMA_ASPECT * min(width, height):
        boxes += tile_boxes(width, height)
    return [View(box=box, pixels=letterbox(cut(pixels, box))) for box in boxes]


def cut(pixels: Pixels, box: Box) -> Pixels:
    """The pixels inside a box."""
    return pixels[box.top : box.bottom, box.left : box.right]


def letterbox(pixels: Pixels) -> Pixels:
    """The whole picture, centred on a square canvas, proportions kept; a square picture as it is."""
    height, width = pixels.shape[:2]
    if width == height:
        return pixels
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
