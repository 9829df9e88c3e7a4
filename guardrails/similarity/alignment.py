"""Ways to lay one picture over another: every hypothesis is an affine map between two frames.

1. `windows`: the whole frame, the content inside plain borders, or the drawing's centred silhouette of one picture is
   laid over that of the other, in the best of the eight orientations.
2. `by_placement`: where the local-feature tier found a work in a picture, what the picture shows of the
   work is cut out of both, at full resolution.
3. `keypoints`: ORB features (Rublee et al., "ORB", ICCV 2011) of both pictures, matched and fitted by RANSAC; finds
   crops, small turns and a work that stands in a larger scene. Asked again with the picture mirrored, because
   features are not mirror-invariant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.similarity.borders import content_box
from guardrails.similarity.hashes import ORIENTATIONS, oriented
from guardrails.similarity.placing import Placement
from guardrails.similarity.views import isolate

# Long side of a frame, in pixels: enough for the tiles, small enough for milliseconds.
SIDE = 320
_COARSE_SIDE = 32
_FEATURES = 600
_FEATURE_MARGIN = 16
_RATIO = 0.85
_MIN_FEATURES = 6
_MIN_INVERTED_CORRELATION = 0.5
_FRAME = "frame"
_LIKELY_WINDOWS = 2
_RANSAC_PIXELS = 4.0
# A fit that squeezes one axis more than this, or scales beyond these, is an accident.
_MAX_STRETCH, _MAX_SCALE, _MIN_SCALE = 2.2, 6.0, 0.12

# Pixel centres lie half a pixel inside their squares.
_TO_PLACES = np.array([[1, 0, 0.5], [0, 1, 0.5]])
_TO_PIXELS = np.array([[1, 0, -0.5], [0, 1, -0.5]])

# Unit square to unit square, (x, y, 1) -> (x, y), in the numbering of `hashes.oriented`.
_TURNS = np.array(
    [
        [[1, 0, 0], [0, 1, 0]],
        [[0, 1, 0], [-1, 0, 1]],
        [[-1, 0, 1], [0, -1, 1]],
        [[0, -1, 1], [1, 0, 0]],
        [[1, 0, 0], [0, -1, 1]],
        [[-1, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [1, 0, 0]],
        [[0, -1, 1], [-1, 0, 1]],
    ],
    dtype=np.float64,
)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a frame, in its pixels; it may reach over the edges."""

    name: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One way to lay the picture over the reference.

    Attributes:
        name: for people, for example "content box, turned 90 degrees".
        matrix: float64 (2, 3), coordinates of the picture's frame to those of the reference's.
    """

    name: str
    matrix: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a picture shows of a work.

    Attributes:
        picture, work: the parts that correspond.
        share: of the work's area, 0..1.
    """

    picture: Frame
    work: Frame
    hypothesis: Hypothesis
    share: float


class Frame:
    """A picture prepared for comparison, its long side `SIDE` pixels; what is slow is computed when first asked for.

    Attributes:
        pixels: RGB, uint8, height x width x 3; a plain background is painted white, so that it has no say.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._original = pixels
        drawing = isolate(pixels)
        self.pixels = _fitted(pixels if drawing is None else drawing.pixels)
        height, width = self.pixels.shape[:2]
        box = content_box(self.pixels)
        windows = [
            Window(_FRAME, 0, 0, width, height),
            Window("content box", box.left, box.top, box.right - box.left, box.bottom - box.top),
        ]
        if drawing is not None:
            scale = max(height, width) / max(drawing.pixels.shape[:2])
            centred = drawing.centred
            side = centred.side * scale
            windows.append(Window("silhouette", centred.left * scale, centred.top * scale, side, side))
        self.windows = {window.name: window for window in windows}

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """uint8 (height, width)."""
        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

    @cached_property
    def features(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Places, float32 (n, 2), and ORB descriptors, uint8 (n, 32)."""
        return _features(self.grey)

    @cached_property
    def mirrored_features(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Features of the mirrored frame, in the mirrored frame's coordinates."""
        return _features(np.ascontiguousarray(self.grey[:, ::-1]))

    @cached_property
    def glance(self) -> NDArray[np.float32]:
        """The whole picture with its background as it is, 32 x 32, standardised."""
        height, width = self._original.shape[:2]
        return _coarse(self._original, Window(_FRAME, 0, 0, width, height))

    @cached_property
    def inverted(self) -> Frame:
        """The frame of the picture's negative."""
        return Frame(255 - self._original)

    @property
    def mirroring(self) -> NDArray[np.float64]:
        """Frame to mirrored frame, float64 (2, 3)."""
        return np.array([[-1, 0, self.pixels.shape[1] - 1], [0, 1, 0]], dtype=np.float64)


def by_windows(picture: Frame, reference: Frame) -> Iterator[Hypothesis]:
    """The most likely pairs of windows, each in its best orientation, the likeliest first.

    What a dark border surrounds may be the whole reference, with its own margins, so that is tried, too.
    """
    pairs = [(name, name) for name in reference.windows if name in picture.windows]
    found = []
    for seen_name, wanted_name in (*pairs, ("content box", _FRAME)):
        seen, wanted = picture.windows[seen_name], reference.windows[wanted_name]
        correlations = _correlations(_coarse(picture.pixels, seen), _coarse(reference.pixels, wanted))
        turn = int(np.argmax(correlations))
        hypothesis = Hypothesis(f"{seen_name}, orientation {turn}", _between(seen, wanted, turn))
        found.append((correlations[turn], hypothesis))
    found.sort(key=lambda pair: -pair[0])
    yield from (hypothesis for _, hypothesis in found[:_LIKELY_WINDOWS])


def by_placement(picture: Pixels, work: Pixels, placement: Placement) -> Shown:
    """What a picture shows of a work that was found in it, at full resolution.

    Args:
        picture, work: RGB, uint8, height x width x 3.
    """
    longest, work_longest = max(picture.shape[:2]), max(work.shape[:2])
    to_picture = placement.matrix
    to_work = placement.inverse
    frame = np.array([[0, 0], [picture.shape[1], picture.shape[0]]]) / longest
    wanted = _cut_out(work, _through(to_work, frame) * work_longest)
    ends = np.array([[wanted.left, wanted.top], [wanted.left + wanted.width, wanted.top + wanted.height]])
    seen = _cut_out(picture, _through(to_picture, ends / work_longest) * longest)
    # Pixels of the part to places in the picture, to places in the work, to pixels of its part.
    zoom, work_zoom = SIDE / max(seen.width, seen.height), SIDE / max(wanted.width, wanted.height)
    outward = np.array([[1 / zoom, 0, seen.left], [0, 1 / zoom, seen.top]]) / longest
    inward = np.array([[work_longest, 0, -wanted.left], [0, work_longest, -wanted.top]]) * work_zoom
    matrix = _TO_PLACES
    for step in (outward, to_work, inward, _TO_PIXELS):
        matrix = _after(step, matrix)
    return Shown(
        picture=Frame(_inside(picture, seen)),
        work=Frame(_inside(work, wanted)),
        hypothesis=Hypothesis(f"placed by keypoints, {placement.orientation.name}", matrix),
        share=wanted.width * wanted.height / (work.shape[0] * work.shape[1]),
    )


def by_keypoints(picture: Frame, reference: Frame, *, mirrored: bool) -> Hypothesis | None:
    """An affine map that enough ORB matches agree on, or None."""
    places, descriptors = picture.mirrored_features if mirrored else picture.features
    wanted_places, wanted_descriptors = reference.features
    if min(len(places), len(wanted_places)) < _MIN_FEATURES:
        return None
    nearest = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(descriptors, wanted_descriptors, k=2)
    good = [pair[0] for pair in nearest if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
    if len(good) < _MIN_FEATURES:
        return None
    source = places[[match.queryIdx for match in good]]
    target = wanted_places[[match.trainIdx for match in good]]
    cv2.setRNGSeed(0)
    fitted, inliers = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC_PIXELS, maxIters=2000
    )
    if fitted is None or int(inliers.sum()) < _MIN_FEATURES:
        return None
    matrix = np.asarray(fitted, dtype=np.float64)
    if not _plausible(matrix):
        return None
    if mirrored:
        return Hypothesis("mirrored keypoints", _after(matrix, picture.mirroring))
    return Hypothesis("keypoints", matrix)


def _through(matrix: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(places @ matrix[:, :2].T + matrix[:, 2], dtype=np.float64)


def _cut_out(pixels: Pixels, corners: NDArray[np.float64]) -> Window:
    """The part between two corners, in whole pixels and inside the picture."""
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), [left + 1, top + 1], [width, height])
    return Window("part", left, top, right - left, bottom - top)


def _inside(pixels: Pixels, window: Window) -> Pixels:
    left, top = int(window.left), int(window.top)
    return np.ascontiguousarray(pixels[top : top + int(window.height), left : left + int(window.width)])


def looks_inverted(picture: Frame, reference: Frame) -> bool:
    """Whether the negative of the whole picture, in some orientation, resembles the reference at a glance."""
    return min(_correlations(picture.glance, reference.glance)) <= -_MIN_INVERTED_CORRELATION


def _plausible(matrix: NDArray[np.float64]) -> bool:
    larger, smaller = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(smaller >= _MIN_SCALE and larger <= _MAX_SCALE and larger <= _MAX_STRETCH * smaller)


def _after(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map that applies `first`, then `second`."""
    return np.asarray(second @ np.vstack([first, [0, 0, 1]]), dtype=np.float64)


def _between(seen: Window, wanted: Window, turn: int) -> NDArray[np.float64]:
    to_unit = np.array([[1 / seen.width, 0, -seen.left / seen.width], [0, 1 / seen.height, -seen.top / seen.height]])
    from_unit = np.array([[wanted.width, 0, wanted.left], [0, wanted.height, wanted.top]])
    return _after(_TO_PIXELS, _after(from_unit, _after(_TURNS[turn], _after(to_unit, _TO_PLACES))))


def _coarse(pixels: Pixels, window: Window) -> NDArray[np.float32]:
    """The window at 32 x 32 pixels, standardised; all three channels, so that colours help to find the orientation."""
    top, left = int(window.top), int(window.left)
    bottom, right = round(window.top + window.height), round(window.left + window.width)
    height, width = pixels.shape[:2]
    inside = pixels[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)]
    margins = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    if any(margins):
        inside = np.asarray(cv2.copyMakeBorder(inside, *margins, cv2.BORDER_REPLICATE))
    small = cv2.resize(inside, (_COARSE_SIDE, _COARSE_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray((small - small.mean()) / (small.std() + 1e-6), dtype=np.float32)


def _correlations(seen: NDArray[np.float32], wanted: NDArray[np.float32]) -> list[float]:
    """Of two standardised windows, -1..1, for each orientation of the first."""
    turned: list[Any] = [oriented(seen, k) for k in range(ORIENTATIONS)]  # type: ignore[arg-type]
    return [float((one * wanted).mean()) for one in turned]


def _fitted(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _features(grey: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    margin = _FEATURE_MARGIN
    padded = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    orb = cv2.ORB.create(
        nfeatures=_FEATURES, scaleFactor=1.2, nlevels=7, edgeThreshold=10, patchSize=24, fastThreshold=7
    )
    points, descriptors = orb.detectAndCompute(padded, None)
    if not points:
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    places = np.array([point.pt for point in points], dtype=np.float32) - margin
    return places, np.asarray(descriptors, dtype=np.uint8)
