"""Whether the pixels that carry a mark are those that it was made for.

A mark can be lifted: the residual of one marked picture, added to another, carries the payload along. What cannot be
lifted is the picture itself. So the record keeps a coarse map of its edges, and the detector compares.

The map has one cell to about 1/24 of the short side. A cell says whether the luma rises, falls or stays about level to
its right and below: signs of differences, which no change of brightness, contrast or gamma touches (as in dHash,
Krawetz 2013). Unlike a hash of the whole picture it can be compared in part, so a crop is compared where it lies.

1. Undo the turn, mirroring, rotation and scale that the mark's pilot revealed.
2. Slide the picture over the map; at every place correlate the cells that overlap.
3. The best correlation decides. The threshold is calibrated on honest edits and on strangers: `docs/binding.md`.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.domain.canonical import Json
from guardrails.imaging import Pixels
from guardrails.watermark.frame import SHORT_SIDE, Plane, blur, luma

CELLS = 24
CELL = SHORT_SIDE / CELLS
# Longer pictures keep the cells of their middle.
LONGEST = 4 * CELLS
# Less of the smaller one of map and picture in common, or less of the map, is no comparison.
LEAST_OVERLAP, LEAST_SHARE = 0.6, 0.2
PHASES = 3
# Lifted marks reached .38 at most, honest edits .54 at least: `docs/binding.md`.
SAME_PICTURE = 0.46

_VERSION = 1
_TRITS = 5
_POWERS = 3 ** np.arange(_TRITS)
# A difference below this share of the picture's own root mean square is level.
_LEVEL = 0.35
_NOISE_FLOOR = 1.0

# Two pictures without any edges are alike, one without and one with are not.
_PRIOR = 4.0
# A cell counts when nearly all of it lies inside of the picture.
_COVERED = 0.98

Edges = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeMap:
    """The map of one picture.

    Attributes:
        edges: -1, 0 or 1, float32 of shape (2, rows, columns): to the right, downwards.
    """

    edges: Edges

    @classmethod
    def of(cls, pixels: Pixels) -> EdgeMap:
        """The map of RGB uint8 pixels, at least a cell in each direction."""
        height, width = pixels.shape[:2]
        scale = SHORT_SIDE / min(height, width)
        frame = cv2.resize(luma(pixels), (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        return cls(edges=np.sign(_soft_edges(_cells(np.asarray(frame, np.float32), 0.0, 0.0))))

    def to_text(self) -> str:
        """Base64 of a version byte, rows, columns and the cells, five to a byte."""
        _, rows, columns = self.edges.shape
        digits = (self.edges.astype(np.int64) + 1).reshape(-1)
        padded = np.pad(digits, (0, -len(digits) % _TRITS)).reshape(-1, _TRITS)
        body = (padded @ _POWERS).astype(np.uint8).tobytes()
        return base64.b64encode(bytes([_VERSION, rows, columns]) + body).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> EdgeMap:
        """Read `to_text`.

        Raises:
            ValueError: it is something else.
        """
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError("an edge map is base64") from error
        if len(data) < 3 or data[0] != _VERSION:
            raise ValueError("not an edge map of a known version")
        shape = (2, data[1], data[2])
        count = math.prod(shape)
        digits = np.frombuffer(data[3:], np.uint8).astype(np.int64)[:, None] // _POWERS % 3
        if digits.size - count not in range(_TRITS):
            raise ValueError("an edge map of another length than it says")
        return cls(edges=(digits.reshape(-1)[:count].reshape(shape) - 1).astype(np.float32))

    def fit(self, pixels: Pixels, geometry: Mapping[str, Json]) -> Fit:
        """Where a picture fits this map best, and how well.

        Args:
            pixels: RGB uint8, as found.
            geometry: of the mark's reading: "rotation" in degrees, "mirror", "scale_x" and "scale_y"; empty when the
                mark was found as it was written.
        """
        to_pixels, (rows, columns) = _upright(pixels.shape[:2], geometry)
        step = float(np.abs(to_pixels[:2, :2]).sum(axis=1).max())
        plane = luma(pixels) if step <= 1 else blur(luma(pixels), 0.4 * step)
        frame = _warp(plane, to_pixels, rows, columns, cv2.BORDER_REPLICATE)
        inside = _warp(np.ones_like(plane), to_pixels, rows, columns, cv2.BORDER_CONSTANT)
        fits = []
        for down in range(PHASES):
            for right in range(PHASES):
                offset = (CELL * down / PHASES, CELL * right / PHASES)
                covered = (_cells(inside, *offset) > _COVERED).astype(np.float32)
                likeness, row, column = _best_place(self.edges, _soft_edges(_cells(frame, *offset)), covered)
                fits.append((likeness, CELL * row - offset[0], CELL * column - offset[1]))
        likeness, top, left = max(fits)
        return Fit(likeness=likeness, to_pixels=to_pixels @ _shift(-left, -top))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """The best place of a picture on a map.

    Attributes:
        likeness: correlation of the cells in common, -1..1.
        to_pixels: from the units of the recorded picture's frame (short side 256) to pixels of the one at hand, 3 x 3.
    """

    likeness: float
    to_pixels: Matrix

    @property
    def same(self) -> bool:
        """Whether the two are the same picture."""
        return self.likeness >= SAME_PICTURE

    def register(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """The picture laid over the recorded one of `width` x `height` pixels; the missing rest repeats its border."""
        unit = SHORT_SIDE / min(width, height)
        scale = np.array([[unit, 0, (unit - 1) / 2], [0, unit, (unit - 1) / 2], [0, 0, 1]])
        registered: Pixels = cv2.warpAffine(  # type: ignore[assignment]
            pixels,
            (self.to_pixels @ scale)[:2],
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return registered


def _upright(shape: tuple[int, int], geometry: Mapping[str, Json]) -> tuple[Matrix, tuple[int, int]]:
    """From an upright frame in units of the recorded picture to pixels, and the frame's rows and columns."""
    height, width = shape
    turn = float(geometry.get("rotation", 0.0))
    quarters = round(turn / 90)
    angle = math.radians(turn - 90 * quarters)
    unit = min(height, width) / SHORT_SIDE
    # Scales are those of the axes before the quarter turns.
    step_x, step_y = (float(geometry.get(name, 1.0)) * unit for name in ("scale_x", "scale_y"))
    linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * [step_x, step_y]
    corners = np.linalg.inv(linear) @ np.array([[0, width, 0, width], [0, 0, height, height]])
    origin = corners.min(axis=1)
    columns, rows = (int(side) for side in np.ceil(corners.max(axis=1) - origin))
    to_pixels = np.eye(3)
    to_pixels[:2, :2] = linear
    # Pixel centres lie at half units in both.
    to_pixels[:2, 2] = linear @ (origin + 0.5) - 0.5
    for _ in range(quarters % 4):
        # Turned clockwise: x and y of before are y and (rows - 1 - x) of after.
        to_pixels = to_pixels @ np.array([[0, 1, 0], [-1, 0, rows - 1], [0, 0, 1]])
        rows, columns = columns, rows
    if geometry.get("mirror"):
        to_pixels = to_pixels @ np.array([[-1, 0, columns - 1], [0, 1, 0], [0, 0, 1]])
    return to_pixels, (rows, columns)


def _shift(right: float, down: float) -> Matrix:
    return np.array([[1, 0, right], [0, 1, down], [0, 0, 1]], np.float64)


def _warp(plane: Plane, to_pixels: Matrix, rows: int, columns: int, border: int) -> Plane:
    warped: Plane = cv2.warpAffine(  # type: ignore[assignment]
        plane, to_pixels[:2], (columns, rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )
    return warped


def _cells(frame: Plane, down: float, right: float) -> Plane:
    """Means of cells, from an offset; the last part of a cell is left out."""
    rows = max(2, int((frame.shape[0] - down + 0.5) / CELL))
    columns = max(2, int((frame.shape[1] - right + 0.5) / CELL))
    matrix = np.array([[CELL, 0, right + (CELL - 1) / 2], [0, CELL, down + (CELL - 1) / 2]])
    smooth = blur(frame, CELL / 3)
    means: Plane = cv2.warpAffine(  # type: ignore[assignment]
        smooth,
        matrix,
        (columns, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    top, left = max(0, rows - LONGEST) // 2, max(0, columns - LONGEST) // 2
    return means[top : top + LONGEST, left : left + LONGEST]


def _soft_edges(cells: Plane) -> Edges:
    """Differences to the right and downwards, level ones zero, others squeezed towards +-1."""
    edges = np.zeros((2, *cells.shape), np.float32)
    edges[0, :, :-1] = np.diff(cells, axis=1)
    edges[1, :-1, :] = np.diff(cells, axis=0)
    level = max(_NOISE_FLOOR, _LEVEL * float(np.sqrt(np.mean(edges**2))))
    soft: Edges = (np.where(np.abs(edges) < level, 0, edges / (np.abs(edges) + level))).astype(np.float32)
    return soft


def _best_place(recorded: Edges, seen: Edges, covered: Plane) -> tuple[float, int, int]:
    """The highest correlation over all places where enough overlaps, and the row and column of the picture's corner."""
    shape = tuple(a + b for a, b in zip(recorded.shape[1:], covered.shape, strict=True))

    def slide(fixed: Edges, moved: Edges) -> NDArray[np.float64]:
        spectrum = np.fft.rfft2(fixed, shape) * np.fft.rfft2(moved, shape).conj()
        total: NDArray[np.float64] = np.fft.irfft2(spectrum.sum(axis=0), shape)
        return total

    both = np.stack([covered, covered])
    # Two channels, so everything is counted twice.
    overlap = slide(np.ones_like(recorded), both) / 2
    cells = covered.sum()
    size = recorded[0].size
    allowed = overlap >= max(LEAST_OVERLAP * min(size, float(cells)), LEAST_SHARE * size)
    if not allowed.any():
        return 0.0, 0, 0
    products = slide(recorded, seen * covered) + _PRIOR
    energies = (slide(recorded**2, both) + _PRIOR) * (slide(np.ones_like(recorded), (seen * covered) ** 2) + _PRIOR)
    correlation = np.where(allowed, products / np.sqrt(np.maximum(energies, _PRIOR**2)), -1)
    row, column = divmod(int(correlation.argmax()), shape[1])
    # Places before the map's corner come wrapped around.
    row, column = (
        place - side if place >= fixed else place
        for place, side, fixed in zip((row, column), shape, recorded.shape[1:], strict=True)
    )
    return float(correlation.max()), row, column
