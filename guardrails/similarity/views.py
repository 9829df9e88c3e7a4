"""The views of a picture that are hashed: the full frame, and the drawing alone on white.

A copy is rarely placed as the original was. Where the border has one plain colour, that background is painted white
and the drawing is cut out twice: by its bounding box, which survives changes of the drawing's inside, and by the
centre and spread of its silhouette, which survives soft and bent outlines.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels

NORMALISATION = "plain-background/1"

# PDQ of 64 x 64 pixels neither filters nor decimates, so its eight orientations are exact.
HASHED_SIDE = 64

# Backgrounds are found at one scale, so that a large picture and its thumbnail give the same views.
_WORKING_SIDE = 256

# A pixel belongs to the background when no channel is further than this from the border's median colour.
BACKGROUND_DISTANCE = 24
PLAIN_BORDER_SHARE = 0.6
_BORDER_WIDTH = 2
_NOISE_SIGMA = 1.0
_MIN_DRAWING_PIXELS = 64
_MIN_LINE_SHARE = 0.004
# Half the side of the centred view, in root-mean-square radii of the silhouette: a filled disc has sqrt(2).
_CENTRED_RADII = 1.9
_WHITE = 255


class Kind(enum.IntEnum):
    """Which view a code was computed from; the numbers are stored in indexes."""

    FULL = 0
    BOX = 1
    CENTRED = 3


@dataclass(frozen=True, slots=True)
class Window:
    """A square of the picture, in pixels; it may reach over the edges."""

    left: int
    top: int
    side: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture whose plain background was painted white, and where the drawing stands in it."""

    pixels: Pixels
    box: Window
    centred: Window

    def view(self, kind: Kind, side: int = HASHED_SIDE) -> Pixels:
        """The drawing alone, RGB uint8 (side, side, 3); what lies outside the picture is white."""
        return _resized(_cut(self.pixels, self.box if kind is Kind.BOX else self.centred), side, side)


def full_frame(pixels: Pixels, side: int = HASHED_SIDE) -> Pixels:
    """The whole picture squeezed into a square, RGB uint8 (side, side, 3)."""
    return _resized(pixels, side, side)


def isolate(pixels: Pixels) -> Drawing | None:
    """Find the drawing on a plain background.

    Returns:
        None when less than `PLAIN_BORDER_SHARE` of the border has one colour, or nothing stands before it.
    """
    pixels = _at_working_scale(pixels)
    smooth = cv2.GaussianBlur(pixels, (0, 0), _NOISE_SIGMA).astype(np.float32)
    border = _border(smooth)
    colour = np.median(border, axis=0)
    if np.mean(np.abs(border - colour).max(axis=1) <= BACKGROUND_DISTANCE) < PLAIN_BORDER_SHARE:
        return None
    distance = np.abs(smooth - colour).max(axis=2)
    plain = distance <= BACKGROUND_DISTANCE
    silhouette = ~reachable_from_edges(plain)
    if silhouette.sum() < _MIN_DRAWING_PIXELS:
        return None
    # Holes are painted white, too, though they count as part of the silhouette: in the reference, which stands on
    # white, they cannot be told from white paint.
    opacity = np.where(plain, np.clip(distance / BACKGROUND_DISTANCE - 0.5, 0, 1), 1)[..., None]
    painted = np.rint(pixels * opacity + _WHITE * (1 - opacity)).astype(np.uint8)
    return Drawing(painted, _bounding_square(silhouette), _centred_square(silhouette))


def _border(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    w = _BORDER_WIDTH
    sides = (pixels[:w], pixels[-w:], pixels[:, :w], pixels[:, -w:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def reachable_from_edges(plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of a mask, bool height x width, that is connected to the picture's edges."""
    _, labels = cv2.connectedComponents(plain.astype(np.uint8), connectivity=4)
    edges = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, edges[edges > 0])


def _bounding_square(silhouette: NDArray[np.bool_]) -> Window:
    """The smallest centred square around all lines that hold more than a speck of the silhouette."""
    rows = np.flatnonzero(silhouette.mean(axis=1) > _MIN_LINE_SHARE)
    columns = np.flatnonzero(silhouette.mean(axis=0) > _MIN_LINE_SHARE)
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, silhouette.shape[0])
    left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, silhouette.shape[1])
    side = max(bottom - top, right - left)
    return Window((left + right - side) // 2, (top + bottom - side) // 2, side)


def _centred_square(silhouette: NDArray[np.bool_]) -> Window:
    rows, columns = np.nonzero(silhouette)
    centre_row, centre_column = rows.mean(), columns.mean()
    radius = float(np.sqrt(np.mean((rows - centre_row) ** 2 + (columns - centre_column) ** 2)))
    half = max(_CENTRED_RADII * radius, 8.0)
    return Window(round(centre_column - half), round(centre_row - half), round(2 * half))


def _cut(pixels: Pixels, window: Window) -> Pixels:
    height, width = pixels.shape[:2]
    square = np.full((window.side, window.side, 3), _WHITE, np.uint8)
    top, bottom = max(0, window.top), min(height, window.top + window.side)
    left, right = max(0, window.left), min(width, window.left + window.side)
    square[top - window.top : bottom - window.top, left - window.left : right - window.left] = pixels[
        top:bottom, left:right
    ]
    return square


def _at_working_scale(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = _WORKING_SIDE / max(height, width)
    return _resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    # Area averaging is symmetric, so flips and turns of the picture are flips and turns of the view.
    shrinking = pixels.shape[0] >= height and pixels.shape[1] >= width
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
