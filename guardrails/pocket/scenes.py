"""Captioned scenes: one or two drawings on a plain coloured background, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.pocket.dataset import Picture
from guardrails.pocket.rendering import PICTURE_SIZE

# sRGB anchors of the colour words that captions use; each scene jitters them a little.
COLOURS = {
    "white": (255, 255, 255),
    "black": (20, 20, 22),
    "grey": (150, 150, 150),
    "red": (214, 40, 40),
    "orange": (245, 140, 40),
    "yellow": (250, 215, 60),
    "green": (50, 160, 80),
    "light green": (170, 225, 150),
    "blue": (40, 90, 210),
    "light blue": (160, 210, 245),
    "purple": (130, 70, 180),
    "pink": (250, 165, 195),
    "brown": (130, 85, 50),
    "teal": (20, 140, 140),
}
COLOUR_JITTER = 8
# Captions name the hand, except now and then this one: it is what a prompt without a style gets.
UNNAMED_STYLE = "twemoji"
# One place and one size: what a small model need not learn, it cannot get wrong.
SCALE = 0.86
PAIR_SCALE = 0.46


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """pixels: uint8 (256, 256, 3)."""

    pixels: Pixels
    caption: str


def canonical(rgba: NDArray[np.uint8]) -> Pixels:
    """The reference picture of a drawing: centred at its full size on white; what the similarity index hashes."""
    return _paste(_backdrop((255, 255, 255)), rgba, 1.0, (0.5, 0.5))


def compose(
    pictures: list[Picture], drawings: list[NDArray[np.uint8]], rng: np.random.Generator, *, plain: bool = False
) -> Scene:
    """Make one scene of one or two drawings.

    Args:
        drawings: RGBA uint8 (256, 256, 4), one for each picture.
        plain: centred on white at the size of `canonical`, as catalogue pictures are.
    """
    if plain:
        return Scene(pixels=canonical(drawings[0]), caption=_caption(pictures, "white", rng))
    colour = str(rng.choice(list(COLOURS)))
    anchor = np.array(COLOURS[colour]) + rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3)
    canvas = _backdrop(tuple(np.clip(anchor, 0, 255)))
    if len(drawings) == 1:
        canvas = _paste(canvas, drawings[0], SCALE, (0.5, 0.5))
    else:
        for drawing, across in zip(drawings, (0.27, 0.73), strict=True):
            canvas = _paste(canvas, drawing, PAIR_SCALE, (across, 0.5))
    return Scene(pixels=canvas, caption=_caption(pictures, colour, rng))


def _backdrop(colour: tuple[int, ...]) -> Pixels:
    return np.full((PICTURE_SIZE, PICTURE_SIZE, 3), colour, np.uint8)


def _paste(canvas: Pixels, rgba: NDArray[np.uint8], scale: float, centre: tuple[float, float]) -> Pixels:
    """Composite a drawing, scaled about its centre; `centre` is (across, down) in 0..1 of the canvas."""
    shift_x, shift_y = (PICTURE_SIZE * (c - scale / 2) for c in centre)
    premultiplied = rgba.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    side = max(1, round(PICTURE_SIZE * scale))
    small = cv2.resize(premultiplied, (side, side), interpolation=cv2.INTER_AREA)
    left, top = (int(np.clip(round(s), 0, PICTURE_SIZE - side)) for s in (shift_x, shift_y))
    result = canvas.astype(np.float32)
    window = result[top : top + side, left : left + side]
    window *= 1 - small[..., 3:] / 255
    window += small[..., :3]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _caption(pictures: list[Picture], colour: str, rng: np.random.Generator) -> str:
    things = " and ".join(_noun(picture, rng) for picture in pictures)
    background = f" on a {colour} background" if colour != "white" or rng.random() < 0.5 else ""
    styles = {picture.style for picture in pictures}
    named = len(styles) == 1 and (styles != {UNNAMED_STYLE} or rng.random() < 0.5)
    style = f", {pictures[0].style} style" if named else ""
    return f"{things}{background}{style}"


def _noun(picture: Picture, rng: np.random.Generator) -> str:
    """The name with its article; now and then without one."""
    if rng.random() < 0.15:
        return picture.name
    article = "an" if picture.name[0] in "aeiou" else "a"
    return f"{article} {picture.name}"
