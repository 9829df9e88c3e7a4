"""How sure a comparison of pixels is: the levels, and the error rates that were measured for them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from guardrails.domain.images import MatchState
from guardrails.similarity.tones import SAME, TONED

# A reference with fewer textured tiles cannot carry evidence at all; fewer agreeing tiles than the second number never
# confirm.
MIN_TEXTURED = 8
CONFIRMED_TILES = 30

CONFIRMED_SHARE = 0.5

_LOOSE_SHARE, _REVIEW_SHARE, _STRICT_SHARE = 0.3, 0.5, 0.8
_INNER_TILES, _INNER_SHARE = 8, 0.5
_STRICT_INNER_SHARE, _STRICT_OUTLINE_SHARE, _STRICT_CORRELATION = 0.75, 0.9, 0.9
# Of a part: two places fix scale and shift; where tiles agree less closely, more of them must be fixed.
_CLOSE_CORRELATION, _FIRM_SHARE = 0.96, 0.7
_FIRM_TILES, _ROUGH_FIRM_TILES, _STRICT_FIRM_TILES = 2, 20, 10


class Level(enum.IntEnum):
    """What pixels bear out, from nothing to nearly all; the numbers are grades of replication, 0 to 5.

    The scale is that of D-Rep (Wang et al., "Image Copy Detection for Diffusion Models", NeurIPS 2024). UNVERIFIABLE:
    the reference is too plain to say anything, which is not "no match".
    """

    UNVERIFIABLE = -1
    NONE = 0
    CANDIDATE = 1
    LOOSE = 2
    REVIEW = 3
    CONFIRMED = 4
    STRICT = 5


STATES = {
    Level.UNVERIFIABLE: MatchState.CANDIDATE,
    Level.NONE: MatchState.CANDIDATE,
    Level.CANDIDATE: MatchState.CANDIDATE,
    Level.LOOSE: MatchState.CANDIDATE,
    Level.REVIEW: MatchState.REVIEW,
    Level.CONFIRMED: MatchState.CONFIRMED,
    Level.STRICT: MatchState.STRICT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCounts:
    """What a tile map comes to.

    Attributes:
        counted: tiles of the reference with texture; covered: those of them that the picture covers.
        agreeing: those that agree in structure and colour.
        inner, inner_agreeing: covered tiles inside the drawing's outline, and those that agree.
        firm, firm_agreeing: covered tiles with texture in both directions, and those that agree. A tile with a straight
            edge agrees wherever along the edge it is laid.
        correlation: of the covered tiles, the lower quartile.
        tone: the change of colours that was needed, see `tones`.
        plain: the drawing is a simple outline with nothing inside.
    """

    counted: int
    covered: int
    agreeing: int
    inner: int
    inner_agreeing: int
    firm: int
    firm_agreeing: int
    correlation: float
    tone: str
    plain: bool

    @property
    def share(self) -> float:
        """Agreeing of all counted tiles."""
        return self.agreeing / max(1, self.counted)

    @property
    def covered_share(self) -> float:
        """Agreeing of the covered tiles."""
        return self.agreeing / max(1, self.covered)

    @property
    def inner_share(self) -> float:
        """Agreeing of the covered tiles inside; where there are hardly any, of all covered ones."""
        return self.inner_agreeing / self.inner if self.inner >= _INNER_TILES else self.covered_share

    @property
    def level(self) -> Level:
        """The strictest level whose rule holds."""
        if self.counted < MIN_TEXTURED or self.plain:
            return Level.UNVERIFIABLE
        if self._strict:
            return Level.STRICT
        if self._confirmed:
            return Level.CONFIRMED
        if self.agreeing >= MIN_TEXTURED and self.share >= _REVIEW_SHARE:
            return Level.REVIEW
        if self.agreeing >= MIN_TEXTURED and self.share >= _LOOSE_SHARE:
            return Level.LOOSE
        return Level.NONE

    @property
    def level_of_part(self) -> Level:
        """The level where keypoints led to the place that was compared.

        Thin rings, outlines and simple shapes have keypoints at the same places and edges in the same directions, and
        part of a work has fewer tiles to tell them apart by: what is fixed in both directions has to agree.
        """
        if self.level < Level.CONFIRMED:
            return self.level
        close = self.correlation >= _CLOSE_CORRELATION
        if self.firm_agreeing < max(_FIRM_TILES if close else _ROUGH_FIRM_TILES, _FIRM_SHARE * self.firm):
            return Level.REVIEW
        return self.level if close and self.firm_agreeing >= _STRICT_FIRM_TILES else Level.CONFIRMED

    @property
    def _strict(self) -> bool:
        return (
            self.agreeing >= CONFIRMED_TILES
            and self.share >= _STRICT_SHARE
            and self.inner_share >= (_STRICT_INNER_SHARE if self.inner >= _INNER_TILES else _STRICT_OUTLINE_SHARE)
            and self.correlation >= _STRICT_CORRELATION
            and self.tone == SAME
        )

    @property
    def _confirmed(self) -> bool:
        if self.agreeing < CONFIRMED_TILES or self.inner_share < _INNER_SHARE:
            return False
        if self.tone not in (SAME, TONED):
            # Where the hues were turned or are gone, colour bears nothing out, so that structure must do more.
            return self.share >= _STRICT_SHARE
        # A crop covers a part of the work, and nearly all of that part must agree.
        part = self.share >= _LOOSE_SHARE and self.covered_share >= _STRICT_SHARE
        return self.share >= CONFIRMED_SHARE or part


_PAIRS = "pairs of drawings by different creators, of the same concept or near by hash"

# Measured by `benchmarks/verification.py` on the concepts that the rules were not chosen on.
ERROR_RATES = {
    MatchState.STRICT: f"pixels compared: 0 of 5,100 {_PAIRS}, reach this (95 % upper bound 0.06 %)",
    MatchState.CONFIRMED: (
        f"pixels compared: 28 of 5,100 {_PAIRS}, reach this (95 % upper bound 0.76 %); with half of the tiles and all "
        "hashes near it is confirmed as well, at most 79 (1.9 %)"
    ),
    MatchState.REVIEW: f"pixels compared: 79 of 5,100 {_PAIRS}, reach this (95 % upper bound 1.9 %)",
    MatchState.CANDIDATE: "none stated: a candidate is a reason to look, not a finding",
}

# How often keypoints place two different works on each other: 445 of 97,788 pairs. Measured by
# `benchmarks/local_features.py` on drawings, photographs and clip art that the rules were not chosen on.
PLACED_PAIR_RATE = 4.6e-3

_PLACED = (
    "pixels compared where keypoints agree: {} of 97,788 pairs of different works reach this (95 % upper bound {})"
)
_VERSIONS = ", each of them two versions of one picture"
ERROR_RATES_PLACED = {
    MatchState.STRICT: _PLACED.format(3, "7.9e-5") + _VERSIONS,
    MatchState.CONFIRMED: _PLACED.format(4, "9.4e-5") + _VERSIONS,
    MatchState.REVIEW: _PLACED.format(24, "3.5e-4") + ", rings, faces and frames of one kind among them",
    MatchState.CANDIDATE: (
        "keypoints alone place 445 of 97,788 pairs of different works on each other (0.46 %): a candidate is a reason "
        "to look, not a finding"
    ),
}


def error_rates(*, placed: bool) -> Mapping[MatchState, str]:
    """How often each state is wrong, in words.

    Args:
        placed: where keypoints led to the place that was compared, not a hash of the whole picture.
    """
    return ERROR_RATES_PLACED if placed else ERROR_RATES
