"""Stage 2: does the picture itself agree with the work that a hash points at?

With the reference picture at hand, `compare` decides:

1. Both pictures are normalised the same three ways: full frame, bounding box, centred silhouette.
2. For each, the best of the eight orientations is chosen by correlation at 32 x 32 pixels.
3. The square is cut into 10 x 10 tiles. A tile counts when the reference has texture there.
4. A counted tile agrees when its structure is found in the picture within a few pixels, and its mean colour is the
   reference's after one bounded shift of all colours. Structure alone would let every square match every square.
5. The way with the most agreeing tiles wins. It confirms by itself when enough tiles agree, by number and by share,
   both over the whole drawing and over its inside: clock faces, hearts and buttons of all sets share their outline.

Without the reference picture hashes alone must do, see `radii`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.similarity.hashes import ORIENTATIONS, oriented
from guardrails.similarity.views import Drawing, Kind, full_frame, isolate, reachable_from_edges

SIDE = 160
TILES = 10
_TILE = SIDE // TILES
_COARSE_SIDE = 32
_SMOOTHING = 1.0
_SLACK = 4
_MIN_TEXTURE = 6.0
_MIN_PICTURE_TEXTURE = 1.5
_MIN_CORRELATION = 0.8
_MAX_COLOUR_SHIFT = 24.0
_MAX_COLOUR_DISTANCE = 32.0

CONFIRMED_SHARE = 0.6
CONFIRMED_TILES = 30
CONFIRMED_INNER_TILES = 8
_WHITE = 255


class PictureSource(Protocol):
    """Where reference pictures come from, when they are at hand."""

    def picture(self, entry_id: str) -> Pixels | None:
        """The rendering that was hashed, RGB uint8, height x width x 3; None when it cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """What comparing the pixels of two pictures gave.

    Attributes:
        picture, reference: the two views that were compared, uint8 (160, 160, 3), the picture already turned.
        counted, inner, agreeing: bool (10, 10); tiles with texture in the reference, those of them inside its outline,
            and those that agree.
    """

    kind: Kind
    orientation: int
    picture: Pixels
    reference: Pixels
    counted: NDArray[np.bool_]
    inner: NDArray[np.bool_]
    agreeing: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Of the counted tiles, 0..1; 0 where none counts."""
        return _share(self.agreeing, self.counted)

    @property
    def agrees(self) -> bool:
        """True when the pixels bear out what the hashes say."""
        return self.share >= CONFIRMED_SHARE

    @property
    def confirms(self) -> bool:
        """True when the pixels suffice by themselves: never with little texture, where other works agree as well."""
        inside = self.agreeing & self.inner
        return (
            self.agrees
            and _share(inside, self.inner) >= CONFIRMED_SHARE
            and int(self.agreeing.sum()) >= CONFIRMED_TILES
            and int(inside.sum()) >= CONFIRMED_INNER_TILES
        )


def compare(picture: Pixels, reference: Pixels) -> Agreement:
    """Compare two pictures tile by tile; the steps are those of the module's list.

    Args:
        picture, reference: RGB, uint8, height x width x 3, of any two sizes.
    """
    drawings = isolate(picture), isolate(reference)
    attempts = []
    for kind in Kind:
        # 1.
        seen, wanted = (_view(p, drawing, kind) for p, drawing in zip((picture, reference), drawings, strict=True))
        # 2.
        orientation = _best_orientation(seen, wanted)
        # 3. and 4.
        attempts.append(_compare_tiles(kind, orientation, oriented(seen, orientation), wanted))
    # 5.
    return max(attempts, key=lambda attempt: (int(attempt.agreeing.sum()), attempt.share))


def _view(pixels: Pixels, drawing: Drawing | None, kind: Kind) -> Pixels:
    return full_frame(pixels, SIDE) if kind is Kind.FULL or drawing is None else drawing.view(kind, SIDE)


def _best_orientation(seen: Pixels, wanted: Pixels) -> int:
    coarse = _standardised(_coarse(wanted))
    small = _coarse(seen)
    scores = [float((_standardised(oriented(small, k)) * coarse).sum()) for k in range(ORIENTATIONS)]
    return int(np.argmax(scores))


def _coarse(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, (_COARSE_SIDE, _COARSE_SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _standardised(pixels: Pixels) -> NDArray[np.float32]:
    # All three channels, so that the colours help to find the orientation.
    values = pixels.astype(np.float32)
    return np.asarray((values - values.mean()) / (values.std() + 1e-6), dtype=np.float32)


def _compare_tiles(kind: Kind, orientation: int, seen: Pixels, wanted: Pixels) -> Agreement:
    grey_seen, grey_wanted = _smooth_grey(seen), _smooth_grey(wanted)
    # The picture is padded so that every tile may be sought within the slack.
    padded = np.pad(grey_seen, _SLACK, mode="edge")
    counted = np.zeros((TILES, TILES), dtype=np.bool_)
    found = np.zeros((TILES, TILES), dtype=np.bool_)
    for row in range(TILES):
        for column in range(TILES):
            top, left = row * _TILE, column * _TILE
            tile = grey_wanted[top : top + _TILE, left : left + _TILE]
            counted[row, column] = tile.std() >= _MIN_TEXTURE
            if counted[row, column]:
                patch = padded[top : top + _TILE + 2 * _SLACK, left : left + _TILE + 2 * _SLACK]
                found[row, column] = _structure_found(tile, patch)
    inner = counted & ~_outline_tiles(wanted)
    agreeing = found & (_colour_distances(seen, wanted, counted) <= _MAX_COLOUR_DISTANCE)
    return Agreement(kind, orientation, seen, wanted, counted, inner, agreeing)


def _outline_tiles(wanted: Pixels) -> NDArray[np.bool_]:
    """Tiles that hold some of the white surround or lie at the edge, where it begins; bool (10, 10)."""
    surround = reachable_from_edges((wanted == _WHITE).all(axis=2))
    outline = np.asarray(surround.reshape(TILES, _TILE, TILES, _TILE).any(axis=(1, 3)), dtype=np.bool_)
    outline[[0, -1]] = outline[:, [0, -1]] = True
    return outline


def _smooth_grey(pixels: Pixels) -> NDArray[np.float32]:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), _SMOOTHING), dtype=np.float32)


def _structure_found(tile: NDArray[np.float32], patch: NDArray[np.float32]) -> bool:
    if patch.std() < _MIN_PICTURE_TEXTURE:
        return False
    return bool(cv2.matchTemplate(patch, tile, cv2.TM_CCOEFF_NORMED).max() >= _MIN_CORRELATION)


def _colour_distances(seen: Pixels, wanted: Pixels, counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Largest channel difference of tile means, float32 (10, 10), after one shift of all colours.

    The shift is bounded: a tint is forgiven, another colour of the same shape is not.
    """
    difference = _tile_means(seen) - _tile_means(wanted)
    if counted.any():
        shift = np.clip(np.median(difference[counted], axis=0), -_MAX_COLOUR_SHIFT, _MAX_COLOUR_SHIFT)
        difference -= shift
    return np.asarray(np.abs(difference).max(axis=2), dtype=np.float32)


def _tile_means(pixels: Pixels) -> NDArray[np.float32]:
    values = pixels.astype(np.float32)
    return np.asarray(cv2.resize(values, (TILES, TILES), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum() / max(1, whole.sum()))
