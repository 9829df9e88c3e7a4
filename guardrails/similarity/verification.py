"""Stage 2: does the picture itself agree with the work that a hash points at?

With the reference picture at hand, `compare` decides; `compare_placed` does where the local-feature tier has found the
work in a part of the picture, or a part of it, so that step 2 is done:

1. Both pictures become frames of one size, plain backgrounds painted white (`alignment.Frame`).
2. Hypotheses lay the picture over the reference: windows first, keypoints where those leave doubt, mirrored keypoints
   and the picture's negative where hardly anything agrees.
3. The reference is cut into 10 x 10 tiles. A tile counts when the reference has texture there; a reference with too
   few such tiles cannot carry evidence, which is not the same as "no match".
4. A counted tile has the same structure when it is found in the laid-over picture within a few pixels.
5. Colours are compared tile by tile after the best of a few global changes (`tones`); a tile agrees when structure and
   colour do. Structure alone would let every square match every square.
6. The hypothesis with the most agreeing tiles wins. How many agree, by number and by share, over the whole drawing and
   inside its outline, gives the level (`levels`): clock faces, hearts and buttons of all sets share their outline.

Without the reference picture hashes alone must do, see `radii`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.domain.canonical import Json
from guardrails.imaging import Pixels
from guardrails.similarity.alignment import (
    Frame,
    Hypothesis,
    by_keypoints,
    by_placement,
    by_windows,
    looks_inverted,
)
from guardrails.similarity.levels import Level, TileCounts
from guardrails.similarity.placing import Placement
from guardrails.similarity.tones import tone_agreement
from guardrails.similarity.views import reachable_from_edges

TILES = 10
_SMOOTHING = 1.5
_SLACK = 3
_MIN_TEXTURE = 6.0
_MIN_PICTURE_TEXTURE = 1.5
# Mean squared gradient across the direction in which a tile changes least, and its share of that along the other.
_MIN_FIRM_GRADIENT, _MIN_FIRM_SHARE = 1.0, 0.1
_MIN_COVER = 0.95
_MIN_CORRELATION = 0.8
_MAX_PLAIN_ROUGHNESS = 2.0
_MIN_SHOWN = 0.2
_WHITE = 255
# Of the tiles of equal structure; where no more have the colours, the drawing was recoloured.
_RECOLOURED = 0.75
# Shares at which no further hypothesis is tried: windows, keypoints, mirrored keypoints.
_SETTLED, _DOUBTFUL, _HOPELESS = 0.9, 0.7, 0.4


class PictureSource(Protocol):
    """Where reference pictures come from, when they are at hand."""

    def picture(self, entry_id: str) -> Pixels | None:
        """The rendering that was hashed, RGB uint8, height x width x 3; None when it cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """What comparing the pixels of two pictures gave.

    Attributes:
        hypothesis: how the picture was laid over the reference, for people.
        tone: the change of colours that fits best: "same", "toned", "turned hue", "grey", or "" for other colours.
        picture, reference: what was compared, uint8 of one shape, the picture as it was laid over.
        counted, inner: bool (10, 10); tiles with texture in the reference, and those of them inside its outline.
        firm: counted tiles with texture in both directions, which agree at one place only.
        covered: tiles that the laid-over picture covers; a crop leaves the others open.
        correlation: of each counted and covered tile with its place in the picture, -1..1; 0 elsewhere.
        structure: tiles of the same structure, whatever their colours.
        agreeing: tiles of the same structure and colour.
        plain: the reference is a simple outline with nothing inside, of which there are many.
        shown: the share of the work's area that was compared; 1 unless the picture shows a part of it.
        placement: where keypoints found the work, see `compare_placed`; None when whole pictures were compared.
    """

    hypothesis: str
    tone: str
    picture: Pixels
    reference: Pixels
    counted: NDArray[np.bool_]
    inner: NDArray[np.bool_]
    firm: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    correlation: NDArray[np.float32]
    structure: NDArray[np.bool_]
    agreeing: NDArray[np.bool_]
    plain: bool
    shown: float = 1.0
    placement: Placement | None = None

    @property
    def counts(self) -> TileCounts:
        """The numbers that the level rests on."""
        covered = self.counted & self.covered
        inside = self.inner & self.covered
        firm = self.firm & self.covered
        return TileCounts(
            counted=int(self.counted.sum()),
            covered=int(covered.sum()),
            agreeing=int(self.agreeing.sum()),
            inner=int(inside.sum()),
            inner_agreeing=int((self.agreeing & inside).sum()),
            firm=int(firm.sum()),
            firm_agreeing=int((self.agreeing & firm).sum()),
            correlation=float(np.percentile(self.correlation[covered], 25)) if covered.any() else 0.0,
            tone=self.tone,
            plain=self.plain,
        )

    @property
    def share(self) -> float:
        """Agreeing of the counted tiles, 0..1; 0 where none counts."""
        return self.counts.share

    @property
    def level(self) -> Level:
        """How much the pixels alone bear out; a small part of a work never more than a reason to look."""
        if self.placement is None:
            return self.counts.level
        level = self.counts.level_of_part
        return level if self.shown >= _MIN_SHOWN else min(level, Level.LOOSE)

    @property
    def summary(self) -> dict[str, Json]:
        """The numbers behind the level, for records."""
        return {
            "hypothesis": self.hypothesis,
            "tone": self.tone or "other colours",
            "agreeing_tiles": int(self.agreeing.sum()),
            "textured_tiles": int(self.counted.sum()),
            "firm_tiles": self.counts.firm_agreeing,
            "shown": round(self.shown, 3),
            "region": None if self.region is None else list(self.region),
        }

    @property
    def other_colours(self) -> bool:
        """True when the structure is the work's and its colours are not: a recoloured variant, or a common shape."""
        alike, agreeing = int(self.structure.sum()), int(self.agreeing.sum())
        recoloured = alike >= _DOUBTFUL * max(1, int(self.counted.sum())) and agreeing <= _RECOLOURED * alike
        return recoloured and Level.NONE <= self.level < Level.CONFIRMED

    @property
    def region(self) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom of the agreeing part of what was compared, in 0..1; None where nothing agrees."""
        rows, columns = np.nonzero(self.agreeing)
        if not len(rows):
            return None
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        left, top, right, bottom = (float(edge) / TILES for edge in box)
        return left, top, right, bottom


def compare(picture: Pixels, reference: Pixels) -> Agreement:
    """Compare two pictures tile by tile.

    Args:
        picture, reference: RGB, uint8, height x width x 3, of any two sizes.
    """
    return compare_frames(Frame(picture), Frame(reference))


def compare_placed(picture: Pixels, work: Pixels, placement: Placement) -> Agreement:
    """Compare what a picture shows of a work, where its keypoints were found; tiles are those of that part.

    Args:
        picture, work: RGB, uint8, height x width x 3, of any two sizes.
    """
    shown = by_placement(picture, work, placement)
    agreement = _lay_over(shown.hypothesis, shown.picture, shown.work, _Tiles(shown.work))
    return replace(agreement, shown=shown.share, placement=placement)


def compare_frames(picture: Frame, reference: Frame) -> Agreement:
    """Compare two prepared pictures; the steps are those of the module's list."""
    tiles = _Tiles(reference)
    attempts: list[Agreement] = []
    for seen, hypothesis in _hypotheses(picture, reference, attempts):
        attempts.append(_lay_over(hypothesis, seen, reference, tiles))
        if attempts[-1].share >= _SETTLED or not tiles.counted.any():
            break
    return max(attempts, key=evidence)


def _hypotheses(picture: Frame, reference: Frame, attempts: list[Agreement]) -> Iterator[tuple[Frame, Hypothesis]]:
    """What is laid over the reference, and how; later ways only where the attempts so far leave doubt."""
    yield from ((picture, hypothesis) for hypothesis in by_windows(picture, reference))
    for mirrored, enough in ((False, _DOUBTFUL), (True, _HOPELESS)):
        found = by_keypoints(picture, reference, mirrored=mirrored) if _best_share(attempts) < enough else None
        if found is not None:
            yield picture, found
    if _best_share(attempts) < _HOPELESS and looks_inverted(picture, reference):
        yield from ((picture.inverted, hypothesis) for hypothesis in by_windows(picture.inverted, reference))


def _best_share(attempts: list[Agreement]) -> float:
    return max(attempt.share for attempt in attempts)


def evidence(agreement: Agreement) -> tuple[int, int]:
    """How much an agreement bears out, to choose between two."""
    return int(agreement.agreeing.sum()), int(agreement.structure.sum())


class _Tiles:
    """The tiles of a reference: where they lie and which count."""

    def __init__(self, reference: Frame) -> None:
        self.grey = _smooth(reference.grey)
        height, width = self.grey.shape
        self.rows = np.linspace(0, height, TILES + 1).round().astype(int)
        self.columns = np.linspace(0, width, TILES + 1).round().astype(int)
        mean = _by_tile(self.grey)
        variance = _by_tile(self.grey**2) - mean**2
        self.counted = np.asarray(variance >= _MIN_TEXTURE**2, dtype=np.bool_)
        self.firm = self.counted & _firm(self.grey)
        surround = _surround(reference.pixels)
        self.drawn = [[np.ascontiguousarray(p) for p in line] for line in self.of((~surround).astype(np.uint8))]
        outline = np.array([[bool(p.any()) for p in line] for line in self.of(surround)], dtype=np.bool_)
        outline[[0, -1]] = outline[:, [0, -1]] = True
        self.inner = self.counted & ~outline
        self.plain = not bool(self.inner.any()) and _roughness(surround) < _MAX_PLAIN_ROUGHNESS
        self.colours = np.array(
            [
                [_mean_colour(part, drawn) if part.size else (0, 0, 0) for part, drawn in zip(*lines, strict=True)]
                for lines in zip(self.of(reference.pixels), self.drawn, strict=True)
            ],
            dtype=np.float32,
        )

    def part(self, padded: Pixels, row: int, column: int, shift: tuple[int, int]) -> Pixels:
        """What lies where a tile was found, in an array that was padded by the slack."""
        top, left = int(self.rows[row]) + shift[1], int(self.columns[column]) + shift[0]
        height, width = self.drawn[row][column].shape
        return np.ascontiguousarray(padded[top : top + height, left : left + width])

    def of(self, array: NDArray[Any], slack: int = 0) -> list[list[NDArray[Any]]]:
        """The 10 x 10 parts of an array of the reference's shape, padded by `slack`, each enlarged by as much."""
        return [
            [array[top : bottom + 2 * slack, left : right + 2 * slack] for left, right in _pairs(self.columns)]
            for top, bottom in _pairs(self.rows)
        ]


def _pairs(edges: NDArray[np.int_]) -> list[tuple[int, int]]:
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _surround(pixels: Pixels) -> NDArray[np.bool_]:
    """The white around a drawing: in those tiles the outline runs."""
    return reachable_from_edges((pixels == _WHITE).all(axis=2))


def _roughness(surround: NDArray[np.bool_]) -> float:
    """How far an outline is from a circle: its squared length by that of a circle of the same area, 1 or more.

    A square has 1.3, a heart 1.4, a triangle 1.7.
    """
    outlines, _ = cv2.findContours((~surround).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    area = sum(cv2.contourArea(outline) for outline in outlines)
    length = sum(cv2.arcLength(outline, True) for outline in outlines)
    return float(length**2 / (4 * np.pi * max(area, 1.0)))


def _by_tile(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means, float32 (10, 10)."""
    return np.asarray(cv2.resize(values, (TILES, TILES), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _firm(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tiles that change in both directions: by the smaller eigenvalue of their structure tensor, bool (10, 10).

    J. Shi, C. Tomasi, "Good Features to Track", CVPR 1994.
    """
    across, down = (np.asarray(cv2.Sobel(grey, cv2.CV_32F, *step, scale=1 / 8)) for step in ((1, 0), (0, 1)))
    xx, xy, yy = (_by_tile(product) for product in (across * across, across * down, down * down))
    mean, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    least, most = mean - apart, mean + apart
    return np.asarray((least >= _MIN_FIRM_GRADIENT) & (least >= _MIN_FIRM_SHARE * most), dtype=np.bool_)


def _smooth(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SMOOTHING), dtype=np.float32)


def _lay_over(hypothesis: Hypothesis, picture: Frame, reference: Frame, tiles: _Tiles) -> Agreement:
    height, width = reference.grey.shape
    laid = np.asarray(
        cv2.warpAffine(
            picture.pixels, hypothesis.matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ),
        dtype=np.uint8,
    )
    whole = np.ones(picture.grey.shape, np.float32)
    cover = np.asarray(cv2.warpAffine(whole, hypothesis.matrix, (width, height)), dtype=np.float32)
    seen = _smooth(np.asarray(cv2.cvtColor(laid, cv2.COLOR_RGB2GRAY), dtype=np.uint8))
    # The picture is padded so that every tile may be sought within the slack.
    patches = tiles.of(np.pad(seen, _SLACK, mode="edge"), _SLACK)
    wanted = tiles.of(tiles.grey)
    covered = np.asarray(_by_tile(cover) >= _MIN_COVER, dtype=np.bool_)
    correlation = np.zeros((TILES, TILES), dtype=np.float32)
    colours = tiles.colours.copy()
    padded = np.pad(laid, ((_SLACK, _SLACK), (_SLACK, _SLACK), (0, 0)), mode="edge")
    for row, column in np.argwhere(tiles.counted & covered):
        correlation[row, column], shift = _sought(wanted[row][column], patches[row][column])
        if correlation[row, column] >= _MIN_CORRELATION:
            # Where the tile was found, or a thin line beside it would be taken for another colour.
            place = tiles.part(padded, row, column, shift)
            colours[row, column] = _mean_colour(place, tiles.drawn[row][column])
    structure = np.asarray(correlation >= _MIN_CORRELATION, dtype=np.bool_)
    tone, coloured = tone_agreement(colours, tiles.colours, structure)
    return Agreement(
        hypothesis=hypothesis.name,
        tone=tone,
        picture=laid,
        reference=reference.pixels,
        counted=tiles.counted,
        inner=tiles.inner,
        firm=tiles.firm,
        covered=covered,
        correlation=correlation,
        structure=structure,
        agreeing=structure & coloured,
        plain=tiles.plain,
    )


def _sought(tile: NDArray[Any], patch: NDArray[Any]) -> tuple[float, tuple[int, int]]:
    """The best correlation of a tile within the slack, and where, as (column, row); 0 where the picture is flat."""
    if cv2.meanStdDev(patch)[1][0, 0] < _MIN_PICTURE_TEXTURE:
        return 0.0, (_SLACK, _SLACK)
    _, best, _, (column, row) = cv2.minMaxLoc(cv2.matchTemplate(patch, tile, cv2.TM_CCOEFF_NORMED))
    return float(best), (int(column), int(row))


def _mean_colour(part: Pixels, drawn: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Of what is drawn in a tile; the white around a drawing has no say, unless there is nothing else."""
    red, green, blue, _ = cv2.mean(part, mask=drawn if drawn.any() else None)
    return red, green, blue
