"""Where a work lies in a picture: matching keypoints that agree on one scale, one place and one orientation.

1. Every pair of matching keypoints says how large the work is in the picture and where, because keypoints have a size.
2. Pairs of one work and one orientation are gathered in overlapping cells of scale and place (D. Ballard, "Generalizing
   the Hough transform", 1981); cells with few different keypoints are left out.
3. In the fullest cells any two pairs give a placement by their places alone, which are more exact than sizes; the one
   that most pairs agree with is kept and fitted to them by least squares.

No keypoint counts twice on either side, and keypoints of one spot count once: a blob has several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.canonical import Json
from guardrails.similarity.keypoints import Orientation

# A chance placement has three agreeing pairs easily, four sometimes.
MIN_AGREEING = 4
# A work smaller than this part of the picture, or larger than these pictures, is not looked for.
_MIN_SCALE, _MAX_SCALE = 0.08, 8.0
_SCALE_CELL, _PLACE_CELL = 0.7, 0.3
# Of the work's long side in the picture.
_TOLERANCE = 0.02
_SCALE_TOLERANCE = 0.5
_SPOT = 0.015
_MAX_PAIRS = 48
_MIN_APART = 0.05


@dataclass(frozen=True, slots=True)
class Placement:
    """How a work lies in a picture; both in units of their long sides.

    Attributes:
        scale: the work's long side, in long sides of the picture.
        across, down: where the work's upper left corner comes to lie; where it is mirrored, that is not the left one.
    """

    orientation: Orientation
    scale: float
    across: float
    down: float

    def to_json(self) -> dict[str, Json]:
        """For records."""
        flips: list[Json] = [self.orientation.x, self.orientation.y]
        return {
            "flip": flips,
            "transposed": self.orientation.transposed,
            "scale": self.scale,
            "across": self.across,
            "down": self.down,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Placement:
        """Read back what `to_json` gave."""
        numbers = {name: float(record[name]) for name in ("scale", "across", "down")}
        x, y = (int(sign) for sign in record["flip"])
        # Older records have no turns.
        return cls(Orientation(x, y, transposed=bool(record.get("transposed"))), **numbers)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Places of the work to places of the picture, float64 (2, 3)."""
        return np.column_stack([self.scale * self.orientation.matrix, (self.across, self.down)])

    @property
    def inverse(self) -> NDArray[np.float64]:
        """Places of the picture to places of the work, float64 (2, 3)."""
        turned = self.orientation.matrix.T / self.scale
        return np.column_stack([turned, -turned @ (self.across, self.down)])

    def of(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places (n, 2) of the work to places of the picture."""
        return np.asarray(places @ self.matrix[:, :2].T + self.matrix[:, 2], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Matching keypoints; arrays of one length.

    Attributes:
        seen: float (n, 3), places in the picture.
        wanted: float (n, 3), places in the work.
        points: int (n,), which keypoint of the picture.
    """

    seen: NDArray[np.float64]
    wanted: NDArray[np.float64]
    points: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, chosen: NDArray[np.generic]) -> Pairs:
        return Pairs(self.seen[chosen], self.wanted[chosen], self.points[chosen])


def cells(
    works: NDArray[np.int64], pairs: Pairs, orientation: Orientation, most: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The fullest cell of every work, the fullest first: the work, and which pairs are in it.

    Args:
        works: int (n,), of each pair; less than 2 ** 31.
        most: works at most.
    """
    scales = pairs.seen[:, 2] / pairs.wanted[:, 2]
    kept = np.flatnonzero((scales >= _MIN_SCALE) & (scales <= _MAX_SCALE))
    kept = kept[_frequent(works[kept])]
    if not len(kept):
        return
    scale = scales[kept, None]
    centre = pairs.seen[kept, :2] + orientation.of(0.5 - pairs.wanted[kept, :2]) * scale
    level = np.log2(scale[:, 0]) / _SCALE_CELL
    keys, members = [], []
    for shift in np.ndindex(2, 2, 2):
        across_level = np.floor(level + shift[0] / 2)
        # Cells of one level have one width, so that pairs with somewhat different sizes meet.
        width = _PLACE_CELL * 2.0 ** (across_level * _SCALE_CELL)
        across, down = (np.floor(centre[:, axis] / width + shift[axis + 1] / 2) for axis in (0, 1))
        packed = [across_level + 64, np.clip(across + 128, 0, 255), np.clip(down + 128, 0, 255)]
        number = works[kept]
        for value, bits in zip((*packed, np.full(len(kept), int(np.dot(shift, (4, 2, 1))))), (7, 8, 8, 3), strict=True):
            number = number << bits | value.astype(np.int64)
        keys.append(number)
        members.append(kept)
    yield from _fullest(np.concatenate(keys), np.concatenate(members), pairs.points, most)


def place(pairs: Pairs, orientation: Orientation) -> tuple[Placement, NDArray[np.int64]] | None:
    """The placement that most pairs agree with, and which do; None where they are too few."""
    chosen = np.arange(len(pairs))[:_MAX_PAIRS]
    seen, wanted = pairs.seen[chosen], pairs.wanted[chosen]
    turned = orientation.of(wanted[:, :2])
    first, second = np.triu_indices(len(chosen), 1)
    apart = turned[second] - turned[first]
    length = (apart**2).sum(axis=1)
    useful = length >= _MIN_APART**2
    first, second, apart, length = first[useful], second[useful], apart[useful], length[useful]
    scale = ((seen[second, :2] - seen[first, :2]) * apart).sum(axis=1) / length
    sizes = seen[:, 2] / wanted[:, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        fits = np.abs(np.log2(scale / sizes[first])) <= _SCALE_TOLERANCE
    first, second, scale = first[fits], second[fits], scale[fits]
    if not len(first):
        return None
    middle = (seen[first, :2] + seen[second, :2] - scale[:, None] * (turned[first] + turned[second])) / 2
    off = seen[None, :, :2] - middle[:, None] - scale[:, None, None] * turned[None]
    agree = (np.abs(off) <= _TOLERANCE * scale[:, None, None]).all(axis=2)
    agree &= np.abs(np.log2(scale[:, None] / sizes[None])) <= _SCALE_TOLERANCE
    best = int(agree.sum(axis=1).argmax())
    inliers = _distinct(pairs, chosen[agree[best]], float(scale[best]))
    if len(inliers) < MIN_AGREEING:
        return None
    return _fitted(pairs[inliers], orientation), inliers


def _frequent(works: NDArray[np.int64]) -> NDArray[np.bool_]:
    _, inverse, counts = np.unique(works, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] >= MIN_AGREEING, dtype=np.bool_)


def _fullest(
    keys: NDArray[np.int64], members: NDArray[np.int64], points: NDArray[np.int64], most: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(keys, kind="stable")
    keys, members = keys[order], members[order]
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    ends = np.append(begins[1:], len(keys))
    large = ends - begins >= MIN_AGREEING
    begins, ends = begins[large], ends[large]
    # Different keypoints of the picture: one that matches many of the work's says no more than once.
    counts = np.array([len(np.unique(points[members[b:e]])) for b, e in zip(begins, ends, strict=True)], dtype=np.int64)
    done: set[int] = set()
    for number in np.argsort(-counts, kind="stable"):
        work = int(keys[begins[number]] >> 26)
        if counts[number] < MIN_AGREEING or len(done) == most:
            return
        if work not in done:
            done.add(work)
            yield work, members[begins[number] : ends[number]]


def _distinct(pairs: Pairs, chosen: NDArray[np.int64], scale: float) -> NDArray[np.int64]:
    """Those of the chosen pairs of which no two share a spot on either side."""
    kept: list[int] = []
    spots: list[tuple[str, int, int]] = []
    for number in chosen.tolist():
        sides = (("seen", pairs.seen[number], _SPOT * scale), ("wanted", pairs.wanted[number], _SPOT))
        mine = [(name, round(float(at[0] / size)), round(float(at[1] / size))) for name, at, size in sides]
        if not any(spot in spots for spot in mine):
            spots += mine
            kept.append(number)
    return np.array(kept, dtype=np.int64)


def _fitted(pairs: Pairs, orientation: Orientation) -> Placement:
    seen, turned = pairs.seen[:, :2], orientation.of(pairs.wanted[:, :2])
    here, there = seen.mean(axis=0), turned.mean(axis=0)
    scale = float(((seen - here) * (turned - there)).sum() / ((turned - there) ** 2).sum())
    across, down = (here - scale * there).tolist()
    return Placement(orientation, scale, across, down)
