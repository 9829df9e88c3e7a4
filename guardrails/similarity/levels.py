"""How sure a comparison of pixels is: the levels, and the error rates that were measured for them."""

from __future__ import annotations

import enum

from guardrails.domain.images import MatchState
from guardrails.similarity.tones import SAME, TONED

# A reference with fewer textured tiles cannot carry evidence at all; one with fewer than the second number never
# confirms.
MIN_TEXTURED = 8
CONFIRMED_TILES = 30

CONFIRMED_SHARE = 0.6

_LOOSE_SHARE, _PART_SHARE, _REVIEW_SHARE, _STRICT_SHARE = 0.3, 0.35, 0.5, 0.8
_INNER_TILES, _INNER_SHARE, _STRICT_INNER_SHARE = 8, 0.6, 0.75


class Level(enum.IntEnum):
    """What pixels bear out, from nothing to nearly all; the numbers are grades of replication, 0 to 5.

    The scale is that of D-Rep (Wang et al., "Image Copy Detection for Diffusion Models", NeurIPS 2024). UNVERIFIABLE:
    the reference has too little texture to say anything, which is not "no match".
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


def level_of(
    *, share: float, covered_share: float, agreeing: int, counted: int, inner_share: float, inner: int, tone: str
) -> Level:
    """The level of a tile map.

    Args:
        share, covered_share: agreeing of all counted tiles, and of those that the picture covers.
        agreeing, counted: numbers of tiles.
        inner_share, inner: agreeing of the covered tiles inside the drawing's outline, and their number.
        tone: the change of colours that was needed, see `tones`.
    """
    if counted < MIN_TEXTURED:
        return Level.UNVERIFIABLE
    enough = agreeing >= CONFIRMED_TILES and inner >= _INNER_TILES
    if enough and share >= _STRICT_SHARE and inner_share >= _STRICT_INNER_SHARE and tone == SAME:
        return Level.STRICT
    # Where the hues were turned or are gone, colour bears nothing out, so that structure must do more.
    least = CONFIRMED_SHARE if tone in (SAME, TONED) else _STRICT_SHARE
    part = share >= _PART_SHARE and covered_share >= _STRICT_SHARE
    if enough and inner_share >= _INNER_SHARE and (share >= least or (part and tone in (SAME, TONED))):
        return Level.CONFIRMED
    if agreeing >= MIN_TEXTURED and share >= _REVIEW_SHARE:
        return Level.REVIEW
    if agreeing >= MIN_TEXTURED and share >= _LOOSE_SHARE:
        return Level.LOOSE
    return Level.NONE


ERROR_RATES = {
    MatchState.STRICT: "",
    MatchState.CONFIRMED: "",
    MatchState.REVIEW: "",
    MatchState.CANDIDATE: "none stated: a candidate is a reason to look, not a finding",
}
