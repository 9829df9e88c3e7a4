"""Local features: the points of a picture that its parts are recognised by.

Keypoints and gradient histograms are SIFT's (D. Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV
2004; its patent has expired), taken upright: crops and pasted works are rarely turned, and an orientation that is not
estimated cannot be estimated wrongly.

The 4 x 4 x 8 histogram becomes 127 bits without any table that was learnt: square roots (R. Arandjelovic, A. Zisserman,
"Three things everyone should know to improve object retrieval", CVPR 2012), a DCT over both places, a Fourier transform
over directions, the signs of all coefficients but the mean, low frequencies first. As with PDQ, mirroring the picture
negates some coefficients and mirroring it along the diagonal exchanges some, so that the code of a flipped or turned
picture needs no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.similarity.hashes import HASH_BYTES, KEYPOINT128

PROCEDURE = "upright-sift-signs/1"
# Long sides and numbers of keypoints: a work fills a part of the picture that is asked about, so that one has more.
WORK_SIDE, WORK_KEYPOINTS = 384, 200
PICTURE_SIDE, PICTURE_KEYPOINTS = 640, 800
# Below this a picture is enlarged: thumbnails have hardly any keypoints.
_MIN_SIDE = 384

_CONTRAST, _EDGE = 0.006, 15
_CELLS = 4
_PLACES, _DIRECTIONS = 4, 8
_FREQUENCY_OF_DIRECTION = (0, 1, 1, 2, 2, 3, 3, 4)
# Along the diagonal a direction becomes three quarters of a turn minus itself: which wave each one is then, and whether
# negated. The waves are the mean, cosine and sine of one, two and three, and the cosine of four.
_WAVE_ALONG_DIAGONAL = (0, 2, 1, 3, 4, 6, 5, 7)
_NEGATED_ALONG_DIAGONAL = (False, True, True, True, False, False, False, False)
# Of square roots of 0..255: what is nearer to zero is rounding noise.
_ZERO = 1e-3

# A place in 32 bits: across, down and size.
_PLACE_BITS, _SIZE_BITS = 11, 10
_SIZE_STEPS = 64.0


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a picture was flipped or turned: first along its diagonal, or not, then left to right and top to bottom.

    Attributes:
        x, y: 1, or -1 where that axis is mirrored.
        transposed: across and down were exchanged.
    """

    x: int
    y: int
    transposed: bool = False

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Directions in the picture as it was to those in this one, float64 (2, 2)."""
        axes = [[0, self.x], [self.y, 0]] if self.transposed else [[self.x, 0], [0, self.y]]
        return np.array(axes, np.float64)

    def of(self, places: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Places or directions (n, 2) in this picture, about the origin."""
        return np.asarray(places @ self.matrix.T, dtype=np.float64)

    @property
    def name(self) -> str:
        """For people."""
        return _NAMES[self]


_NAMES = {
    Orientation(1, 1): "upright",
    Orientation(-1, 1): "mirrored",
    Orientation(1, -1): "upside down",
    Orientation(-1, -1): "turned 180",
    Orientation(-1, 1, transposed=True): "turned 90",
    Orientation(1, -1, transposed=True): "turned 270",
    Orientation(1, 1, transposed=True): "mirrored, turned 270",
    Orientation(-1, -1, transposed=True): "mirrored, turned 90",
}


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Points of one picture.

    Attributes:
        places: float32 (n, 3): across, down and size, in units of the picture's long side.
        codes: uint8 (n, 16).
    """

    places: NDArray[np.float32]
    codes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.codes)

    def undone(self, orientation: Orientation) -> NDArray[np.uint8]:
        """The codes that these points had before the picture was flipped or turned, uint8 (n, 16)."""
        codes = self.codes ^ _mirroring(orientation.x, orientation.y)
        if not orientation.transposed:
            return codes
        source, changed = _transposing()
        return np.packbits(np.unpackbits(codes, axis=1)[:, source], axis=1) ^ changed


def work_keypoints(pixels: Pixels) -> Keypoints:
    """Of a work, for an index."""
    return _keypoints(pixels, WORK_SIDE, WORK_KEYPOINTS)


def picture_keypoints(pixels: Pixels) -> Keypoints:
    """Of a picture that is asked about."""
    return _keypoints(pixels, PICTURE_SIDE, PICTURE_KEYPOINTS)


def pack_places(places: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Places in 32 bits each: to 1/2048 of the long side, sizes to 1/64 of an octave."""
    limit = 2**_PLACE_BITS - 1
    across, down = np.clip(np.rint(places[:, :2].T * limit), 0, limit).astype(np.uint32)
    steps = np.rint((np.log2(places[:, 2]) + _SIZE_BITS) * _SIZE_STEPS)
    size = np.clip(steps, 0, 2**_SIZE_BITS - 1).astype(np.uint32)
    return np.asarray(across << np.uint32(_PLACE_BITS + _SIZE_BITS) | down << np.uint32(_SIZE_BITS) | size)


def unpack_places(packed: NDArray[np.uint32]) -> NDArray[np.float32]:
    """See `pack_places`."""
    limit = 2**_PLACE_BITS - 1
    across = packed >> np.uint32(_PLACE_BITS + _SIZE_BITS)
    down = packed >> np.uint32(_SIZE_BITS) & np.uint32(limit)
    size = 2.0 ** ((packed & np.uint32(2**_SIZE_BITS - 1)) / _SIZE_STEPS - _SIZE_BITS)
    return np.stack([across / limit, down / limit, size], axis=1).astype(np.float32)


def _keypoints(pixels: Pixels, side: int, count: int) -> Keypoints:
    height, width = pixels.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, _MIN_SIDE), side) / longest
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if scale != 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    sift = cv2.SIFT.create(nfeatures=0, contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)
    points = _spread(sift.detect(grey, None), grey.shape, count)
    if not points:
        return Keypoints(np.zeros((0, 3), np.float32), np.zeros((0, HASH_BYTES[KEYPOINT128]), np.uint8))
    _, histograms = sift.compute(grey, points)
    # Pixel centres lie half a pixel inside their squares.
    places = np.array([(p.pt[0] + 0.5, p.pt[1] + 0.5, p.size) for p in points], np.float32) / max(grey.shape)
    return Keypoints(places, _codes(np.asarray(histograms, dtype=np.float32)))


def _spread(points: Sequence[cv2.KeyPoint], shape: tuple[int, ...], count: int) -> list[cv2.KeyPoint]:
    """The strongest points of every cell in turn, so that each part of the picture has some; all upright."""
    places: dict[tuple[float, ...], cv2.KeyPoint] = {}
    for point in points:
        # SIFT repeats a place for every direction that it finds there.
        places.setdefault((*point.pt, point.size), point)
        point.angle = 0.0
    cells: dict[tuple[int, int], int] = {}
    ranked = []
    for point in sorted(places.values(), key=lambda one: -one.response):
        cell = int(point.pt[0] * _CELLS / shape[1]), int(point.pt[1] * _CELLS / shape[0])
        cells[cell] = cells.get(cell, 0) + 1
        ranked.append((cells[cell], point))
    return [point for _, point in sorted(ranked, key=lambda pair: pair[0])[:count]]


def _codes(histograms: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Signs of the coefficients, uint8 (n, 16)."""
    transform, order, _ = _transform()
    signs = np.sqrt(histograms) @ transform.T[:, order] > _ZERO
    # The mean is left out, so one bit is always zero.
    return np.packbits(np.pad(signs, ((0, 0), (0, 1))), axis=1)


@cache
def _transform() -> tuple[NDArray[np.float32], NDArray[np.int_], NDArray[np.int_]]:
    """The transform, float32 (128, 128); its rows in the order of the bits; down, across and direction of each row."""
    steps = np.arange(_PLACES)
    cosines = np.cos(np.pi / (2 * _PLACES) * np.outer(steps, 2 * steps + 1))
    turns = 2 * np.pi / _DIRECTIONS * np.arange(_DIRECTIONS)
    half = _DIRECTIONS // 2
    waves = [np.ones(_DIRECTIONS)]
    for frequency in range(1, half):
        waves += [np.cos(frequency * turns), np.sin(frequency * turns)]
    waves.append(np.cos(half * turns))
    transform = np.kron(np.kron(cosines, cosines), np.array(waves))
    rows = np.indices((_PLACES, _PLACES, _DIRECTIONS)).reshape(3, -1).T
    frequencies = rows[:, 0] + rows[:, 1] + np.array(_FREQUENCY_OF_DIRECTION)[rows[:, 2]]
    return transform.astype(np.float32), np.argsort(frequencies, kind="stable")[1:], rows


@cache
def _mirroring(x: int, y: int) -> NDArray[np.uint8]:
    """Which bits change when the picture is mirrored, uint8 (16,)."""
    _, order, rows = _transform()
    down, across, wave = rows[order].T
    frequency, is_sine = (wave + 1) // 2, (wave % 2 == 0) & (wave > 0)
    changed = np.zeros(len(order), np.bool_)
    if x < 0:
        # A direction becomes half a turn minus itself.
        changed ^= (across % 2 == 1) ^ (frequency % 2 == 1) ^ is_sine
    if y < 0:
        # A direction becomes its negative.
        changed ^= (down % 2 == 1) ^ is_sine
    return np.packbits(np.append(changed, False))


@cache
def _transposing() -> tuple[NDArray[np.int_], NDArray[np.uint8]]:
    """Where each bit comes from when across and down are exchanged, int (128,); which bits change, uint8 (16,)."""
    _, order, rows = _transform()
    bits = {tuple(row): bit for bit, row in enumerate(rows[order].tolist())}
    source = [bits[across, down, _WAVE_ALONG_DIAGONAL[wave]] for down, across, wave in rows[order].tolist()]
    changed = np.array(_NEGATED_ALONG_DIAGONAL)[rows[order][:, 2]]
    return np.array([*source, len(order)]), np.packbits(np.append(changed, False))
