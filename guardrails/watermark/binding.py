"""Whether the pixels that carry a mark are those that it was made for.

A mark can be lifted: the residual of one marked picture, added to another, carries the payload along. What cannot be
lifted is the picture itself. So the record keeps a coarse map of its edges and colours, and the detector compares.

The map has one cell to 1/32 of the short side. A cell says whether the luma rises, falls or stays about level to its
right and below: signs of differences, which no change of brightness, contrast or gamma touches (as in dHash, Krawetz
2013). Unlike a hash of the whole picture it can be compared in part, so a crop is compared where it lies. Pictures that
share their outlines are told apart by colour: 8 patches to the short side say their mean chroma, compared as
directions, which saturation does not turn. A grey picture says nothing about colour; its edges alone decide.

1. Undo the turn, mirroring, rotation and scale that the mark's pilot revealed.
2. Slide the picture over the map; at every place correlate the cells that overlap. The best place counts.
3. Correlate the patches of colour there.
4. Both must be high enough. The thresholds are calibrated on honest edits and on strangers: `docs/binding.md`.
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

# Cells to the short side, by version of the text.
CELLS = {1: 24, 2: 32}
# Longer pictures keep the cells of their middle: so many times the short side.
LONGEST = 4
# Less of the smaller one of map and picture in common, or less of the map, is no comparison.
LEAST_OVERLAP, LEAST_SHARE = 0.6, 0.2
PHASES = 3
# Calibrated on drawings and photographs: `docs/binding.md`. Version 1 had fewer cells, and strangers reached more.
SAME_PICTURE, SAME_PICTURE_1 = 0.40, 0.46
SAME_COLOURS = 0.5

_VERSION = 2
_TRITS = 5
_POWERS = 3 ** np.arange(_TRITS)
# A difference below this share of the picture's own root mean square is level.
_LEVEL = 0.35
_NOISE_FLOOR = 1.0

# Two pictures without any edges are alike, one without and one with are not.
_PRIOR = 4.0
# A cell counts when nearly all of it lies inside of the picture.
_COVERED = 0.98
# A patch of colour counts when half of it does.
_HALF = 0.5

# Patches of colour to the short side, and the steps on either side of grey that each says.
_PATCHES, _STEPS = 8, 7
# Chroma of BT.601 that is fainter than this (root mean square, levels) is grey: JPEG alone may leave as much.
_GREY = 2.5
_CHROMA = np.array([[-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)

Edges = NDArray[np.float32]
Colours = NDArray[np.complex64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeMap:
    """The map of one picture.

    Attributes:
        edges: -1, 0 or 1, float32 of shape (2, rows, columns): to the right, downwards.
        cells: to the short side of the picture.
        colours: mean chroma of patches in units of the strongest, real Cb and imaginary Cr, complex64 of shape
            (rows, columns); of shape (0, 0) when the record holds none.
    """

    edges: Edges
    cells: int
    colours: Colours

    @classmethod
    def of(cls, pixels: Pixels) -> EdgeMap:
        """The map of RGB uint8 pixels, at least a cell in each direction."""
        height, width = pixels.shape[:2]
        scale = SHORT_SIDE / min(height, width)
        size = (round(width * scale), round(height * scale))
        frame = cv2.resize(luma(pixels), size, interpolation=cv2.INTER_AREA)
        cells = CELLS[_VERSION]
        edges = np.sign(_soft_edges(_cells(np.asarray(frame, np.float32), SHORT_SIDE / cells, 0.0, 0.0)))
        colours = np.zeros((0, 0), np.complex64)
        if max(size) < LONGEST * SHORT_SIDE:
            shape = (size[1] * _PATCHES // SHORT_SIDE, size[0] * _PATCHES // SHORT_SIDE)
            colours = _steps(_patches(pixels, np.diag([1 / scale, 1 / scale, 1.0]), shape)[0])
        return cls(edges=edges, cells=cells, colours=colours)

    def to_text(self) -> str:
        """Base64 of a version byte, rows and columns of cells and patches, the cells (five to a byte), the patches."""
        digits = (self.edges.astype(np.int64) + 1).reshape(-1)
        padded = np.pad(digits, (0, -len(digits) % _TRITS)).reshape(-1, _TRITS)
        steps = self.colours.reshape(-1)
        patches = ((steps.real + _STEPS) * 16 + steps.imag + _STEPS).astype(np.uint8)
        head = bytes([_VERSION, *self.edges.shape[1:], *self.colours.shape])
        return base64.b64encode(head + (padded @ _POWERS).astype(np.uint8).tobytes() + patches.tobytes()).decode(
            "ascii"
        )

    @classmethod
    def parse(cls, text: str) -> EdgeMap:
        """Read `to_text`, of this version or of version 1, which has no patches.

        Raises:
            ValueError: it is something else.
        """
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError("an edge map is base64") from error
        head = {1: 3, 2: 5}.get(data[0] if data else 0, 0)
        if not head or len(data) < head:
            raise ValueError("not an edge map of a known version")
        shape, patches = (2, data[1], data[2]), tuple(data[3:head]) or (0, 0)
        count = math.prod(shape)
        end = head + -(-count // _TRITS)
        if len(data) != end + math.prod(patches):
            raise ValueError("an edge map of another length than it says")
        digits = np.frombuffer(data[head:end], np.uint8).astype(np.int64)[:, None] // _POWERS % 3
        edges = (digits.reshape(-1)[:count].reshape(shape) - 1).astype(np.float32)
        steps = np.frombuffer(data[end:], np.uint8).astype(np.float32).reshape(patches)
        colours = (steps // 16 - _STEPS + 1j * (steps % 16 - _STEPS)).astype(np.complex64)
        return cls(edges=edges, cells=CELLS[data[0]], colours=colours)

    def fit(self, pixels: Pixels, geometry: Mapping[str, Json]) -> Fit:
        """Where a picture fits this map best, and how well.

        Args:
            pixels: RGB uint8, as found.
            geometry: of the mark's reading: "rotation" in degrees, "mirror", "scale_x" and "scale_y"; empty when the
                mark was found as it was written.
        """
        cell = SHORT_SIDE / self.cells
        to_pixels, (rows, columns) = _upright(pixels.shape[:2], geometry)
        step = float(np.abs(to_pixels[:2, :2]).sum(axis=1).max())
        plane = luma(pixels) if step <= 1 else blur(luma(pixels), 0.4 * step)
        frame = _warp(plane, to_pixels, rows, columns, cv2.BORDER_REPLICATE)
        inside = _warp(np.ones_like(plane), to_pixels, rows, columns, cv2.BORDER_CONSTANT)
        fits = []
        for down in range(PHASES):
            for right in range(PHASES):
                offset = (cell * down / PHASES, cell * right / PHASES)
                covered = (_cells(inside, cell, *offset) > _COVERED).astype(np.float32)
                likeness, row, column = _best_place(self.edges, _soft_edges(_cells(frame, cell, *offset)), covered)
                fits.append((likeness, cell * row - offset[0], cell * column - offset[1]))
        likeness, top, left = max(fits)
        to_pixels = to_pixels @ _shift(-left, -top)
        return Fit(
            likeness=likeness,
            colour=self._colour(pixels, to_pixels),
            threshold=SAME_PICTURE_1 if self.cells == CELLS[1] else SAME_PICTURE,
            to_pixels=to_pixels,
        )

    def _colour(self, pixels: Pixels, to_pixels: Matrix) -> float | None:
        """Correlation of the patches' chroma with a picture's; None where one of them is grey."""
        if not self.colours.any():
            return None
        seen, inside = _patches(pixels, to_pixels, self.colours.shape)
        kept = inside > _HALF
        recorded, seen = self.colours[kept], seen[kept]
        if not recorded.any() or float(np.mean(np.abs(seen) ** 2)) < _GREY**2:
            return None
        recorded, seen = _softened(recorded, 1.0), _softened(seen, _GREY)
        energies = float((np.abs(recorded) ** 2).sum()), float((np.abs(seen) ** 2).sum())
        return float((recorded * seen.conj()).real.sum()) / math.sqrt(math.prod(energies))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """The best place of a picture on a map.

    Attributes:
        likeness: correlation of the cells in common, -1..1.
        colour: correlation of the patches' chroma there, -1..1; None where it cannot be compared.
        threshold: the least likeness of the same picture.
        to_pixels: from the units of the recorded picture's frame (short side 256) to pixels of the one at hand, 3 x 3.
    """

    likeness: float
    colour: float | None
    threshold: float
    to_pixels: Matrix

    @property
    def same(self) -> bool:
        """Whether the two are the same picture."""
        return self.likeness >= self.threshold and (self.colour is None or self.colour >= SAME_COLOURS)

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


def _patches(pixels: Pixels, to_pixels: Matrix, shape: tuple[int, ...]) -> tuple[Colours, Plane]:
    """Mean chroma of the recorded picture's patches, and how much of each lies inside: both of `shape`."""
    side = SHORT_SIDE // _PATCHES
    rows, columns = shape
    chroma: Plane = cv2.transform(pixels.astype(np.float32), _CHROMA)  # type: ignore[assignment]
    planes: Plane = cv2.merge([chroma, np.ones(chroma.shape[:2], np.float32)])  # type: ignore[assignment]
    warped = _warp(planes, to_pixels, rows * side, columns * side, cv2.BORDER_CONSTANT)
    means = warped.reshape(rows, side, columns, side, 3).mean(axis=(1, 3))
    inside = means[..., 2]
    colours: Colours = (means[..., 0] + 1j * means[..., 1]) / np.maximum(inside, 1e-3)
    return colours.astype(np.complex64), inside


def _steps(colours: Colours) -> Colours:
    """Whole steps of the strongest chroma; none in a grey picture."""
    if float(np.mean(np.abs(colours) ** 2)) < _GREY**2:
        return np.zeros_like(colours)
    unit = _STEPS / float(np.maximum(np.abs(colours.real), np.abs(colours.imag)).max())
    steps: Colours = np.rint(colours.real * unit) + 1j * np.rint(colours.imag * unit)
    return steps.astype(np.complex64)


def _softened(colours: Colours, least: float) -> Colours:
    """Strong chroma held down to about that of the median patch: one bright box must not outvote the rest."""
    softened: Colours = colours / (np.abs(colours) + max(float(np.median(np.abs(colours))), least))
    return softened


def _cells(frame: Plane, cell: float, down: float, right: float) -> Plane:
    """Means of cells, from an offset; the last part of a cell is left out."""
    rows = max(2, int((frame.shape[0] - down + 0.5) / cell))
    columns = max(2, int((frame.shape[1] - right + 0.5) / cell))
    matrix = np.array([[cell, 0, right + (cell - 1) / 2], [0, cell, down + (cell - 1) / 2]])
    smooth = blur(frame, cell / 3)
    means: Plane = cv2.warpAffine(  # type: ignore[assignment]
        smooth,
        matrix,
        (columns, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    longest = round(LONGEST * SHORT_SIDE / cell)
    top, left = max(0, rows - longest) // 2, max(0, columns - longest) // 2
    return means[top : top + longest, left : left + longest]


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
