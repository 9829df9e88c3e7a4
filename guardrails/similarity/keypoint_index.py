"""The local-feature tier: which works of a protected list a picture shows in part, or within something larger.

A `Store` in the folder `keypoints` of an index, whose rows are keypoints: segments, journal, crash safety and
visibility are those of every index. What a match means is decided elsewhere: states are those of the index, and a
placement is a reason to compare pixels there, not a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.canonical import Json
from guardrails.imaging import Pixels
from guardrails.similarity.hashes import KEYPOINT128
from guardrails.similarity.keypoints import (
    Keypoints,
    Orientation,
    pack_places,
    picture_keypoints,
    unpack_places,
    work_keypoints,
)
from guardrails.similarity.parts import NewEntry, Part
from guardrails.similarity.placing import Pairs, Placement, cells, place
from guardrails.similarity.pointer import POINTER
from guardrails.similarity.store import Store

FOLDER = "keypoints"
Box = tuple[float, float, float, float]
# In the evidence of a match.
PLACEMENT = "placement"
# Bits of the first word, and of all, in which matching keypoints differ at most.
REACH, RADIUS = 6, 22
# Corners and rims that many works have are looked up less widely, and not at all where even that leads to too much.
_REACHES = (REACH, 2)
_BUDGET = 2000
# Rows that one keypoint of a picture may vote for: what is near more than this is near everything.
_MOST_ROWS = 100
_MOST_PLACED = 32
# Each costs a look-up of all keypoints; mirrored pictures are not asked for in their turns.
ASKED = (
    Orientation(1, 1),
    Orientation(-1, 1),
    Orientation(-1, 1, transposed=True),
    Orientation(-1, -1),
    Orientation(1, -1, transposed=True),
)
_WIDTH, _HEIGHT = "width", "height"


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A work that a picture seems to show.

    Attributes:
        agreeing: keypoints that agree on the placement, no two of one spot.
        box: left, top, right, bottom of the whole work, in units of the picture's width and height; a crop shows a part
            of its work, so that it may reach over the edges.
        shown: the same of the whole picture, in units of the work's width and height.
    """

    id: str
    placement: Placement
    agreeing: int
    box: Box
    shown: Box

    @property
    def summary(self) -> dict[str, Json]:
        """For records."""
        return {
            "keypoints": self.agreeing,
            "found_at": list(self.box),
            "shows": list(self.shown),
            PLACEMENT: self.placement.to_json(),
        }

    @classmethod
    def of(cls, name: str, summary: Mapping[str, Any]) -> Located | None:
        """Read back what `summary` gave; None where it tells of no placement."""
        if PLACEMENT not in summary:
            return None
        return cls(
            id=name,
            placement=Placement.from_json(summary[PLACEMENT]),
            agreeing=int(summary["keypoints"]),
            box=_edges(summary["found_at"]),
            shown=_edges(summary["shows"]),
        )


class KeypointIndex:
    """Keypoints of works, searched together; safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def create(cls, folder: Path) -> KeypointIndex:
        """Make an empty one inside an index's folder; see `Store.create`."""
        return cls(Store.create(folder / FOLDER, KEYPOINT128))

    @classmethod
    def of(cls, folder: Path) -> KeypointIndex | None:
        """That of an index's folder; None where it has none. See `Store.open`."""
        return cls(Store.open(folder / FOLDER)) if (folder / FOLDER / POINTER).exists() else None

    def add(self, entries: Iterable[NewEntry]) -> int:
        """Add works, see `keypoint_entry`; those that are there already are left as they are.

        Returns:
            How many were added.
        """
        works = list(entries)
        # Looked for while no other process can add them.
        return self.store.add(entry for entry in works if entry.id not in self.store)

    def find(self, pixels: Pixels, *, most: int = _MOST_PLACED) -> list[Located]:
        """The works that a picture seems to show, those with most agreeing keypoints first.

        Args:
            pixels: RGB, uint8, height x width x 3.
            most: works to place in each orientation.
        """
        keypoints = picture_keypoints(pixels)
        parts = self.store.parts
        height, width = pixels.shape[:2]
        best: dict[str, Located] = {}
        for orientation in ASKED:
            works, pairs = _pairs(keypoints, keypoints.undone(orientation), parts)
            for work, members in cells(works, pairs, orientation, most):
                placed = place(pairs[members], orientation)
                if placed is None:
                    continue
                part, number = _known(parts, work)
                name = part.name(number)
                if name not in best or best[name].agreeing < len(placed[1]):
                    facts = part.facts(number)
                    size = float(facts[_WIDTH]), float(facts[_HEIGHT])
                    best[name] = Located(
                        id=name,
                        placement=placed[0],
                        agreeing=len(placed[1]),
                        box=_box(placed[0].matrix, size, (width, height)),
                        shown=_box(placed[0].inverse, (width, height), size),
                    )
        return sorted(best.values(), key=lambda one: (-one.agreeing, one.id))


def keypoint_entry(name: str, pixels: Pixels) -> NewEntry:
    """What an index keeps of a work.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    keypoints = work_keypoints(pixels)
    height, width = pixels.shape[:2]
    rows = [
        (int(place), code.tobytes()) for place, code in zip(pack_places(keypoints.places), keypoints.codes, strict=True)
    ]
    return NewEntry(name, rows, {_WIDTH: str(width), _HEIGHT: str(height)})


def _pairs(keypoints: Keypoints, codes: NDArray[np.uint8], parts: Iterable[Part]) -> tuple[NDArray[np.int64], Pairs]:
    """Of all rows near any keypoint: the work, numbered through all parts, and both places; the nearest first."""
    points, rows, distances, works, wanted = [], [], [], [], []
    before = 0
    for part in parts:
        for point, code in enumerate(codes):
            near = part.nearby(code, RADIUS, _REACHES, _BUDGET)
            kept = near.rows
            if not len(kept):
                continue
            if len(kept) > _MOST_ROWS:
                chosen = np.argpartition(near.distances, _MOST_ROWS)[:_MOST_ROWS]
                kept, near_distances = kept[chosen], near.distances[chosen]
            else:
                near_distances = near.distances
            points.append(np.full(len(kept), point))
            rows.append(kept)
            distances.append(near_distances)
            works.append(part.entry[kept].astype(np.int64) + before)
            wanted.append(part.regions[kept])
        before += part.entries
    if not points:
        return np.zeros(0, np.int64), Pairs(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64))
    order = np.argsort(np.concatenate(distances), kind="stable")
    asked = np.concatenate(points)[order]
    places = unpack_places(np.concatenate(wanted).astype(np.uint32)[order]).astype(np.float64)
    return np.concatenate(works)[order], Pairs(keypoints.places[asked].astype(np.float64), places, asked)


def _known(parts: Iterable[Part], work: int) -> tuple[Part, int]:
    for part in parts:
        if work < part.entries:
            return part, work
        work -= part.entries
    raise AssertionError("unreachable")


def _box(matrix: NDArray[np.float64], size: tuple[float, float], within: tuple[float, float]) -> Box:
    """Left, top, right, bottom of one picture within another, in units of the other's width and height.

    Args:
        matrix: float64 (2, 3), places of the one to places of the other, in units of their long sides.
        size, within: width and height of both.
    """
    corners = np.array([[0, 0], size]) / max(size) @ matrix[:, :2].T + matrix[:, 2]
    corners = corners * max(within) / within
    return _edges([*corners.min(axis=0), *corners.max(axis=0)])


def _edges(numbers: Iterable[float]) -> Box:
    left, top, right, bottom = (float(number) for number in numbers)
    return left, top, right, bottom
