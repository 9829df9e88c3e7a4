"""How sure a comparison of pixels is: the levels, and the error rates that were measured for them."""

from __future__ import annotations

import enum
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
        correlation: of the covered tiles, the lower quartile.
        tone: the change of colours that was needed, see `tones`.
        plain: the drawing is a simple outline with nothing inside.
    """

    counted: int
    covered: int
    agreeing: int
    inner: int
    inner_agreeing: int
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

# Measured by `benchmarks/local_features.py`, of parts that keypoints led to.
ERROR_RATE_PLACED = (
    "pixels compared where keypoints agree: 4 of 85,280 pairs of different drawings and photographs reach review, none "
    "confirmed (95 % upper bound 3.5e-5); 37 and 11 of 42,640 pairs with clip art, rings of one program among them"
)
