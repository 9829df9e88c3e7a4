"""The radii of the search and the error rates that were measured for them.

Measured by `benchmarks/similarity.py` on the pocket collection, 7,967 drawings by four creators. The radii were chosen
on the same collection, so that the rates are those of this kind of drawing, not of pictures in general.
"""

from __future__ import annotations

# PDQ, inclusive: who is worth a look.
CANDIDATE_RADIUS = 60
# How often drawings of different creators and concepts are within it, any view: 2,189 of 15,330,744 pairs.
CANDIDATE_PAIR_RATE = 1.4e-4

# Where reference pictures are at hand, this many candidates are compared, nearest first.
COMPARED_CANDIDATES = 16

# Where they are not, one view must be near by both hashes and by colour ...
CONFIRMED_PDQ = 40
CONFIRMED_PHASH = 10
CONFIRMED_COLOUR = 8.0
# ... and no work of another creator may be nearly as near: arrows, hearts and clock faces look alike in every set.
CONTESTED_MARGIN = 24
CONTESTED_SHARE = 0.1
_PHASH_WEIGHT = 3

ERROR_RATE_HASHES = (
    "hashes alone: 10 of 2,656 drawings whose creator is not in the index are confirmed as another creator's "
    "(95 % upper bound 0.64 %), all of the same concept; 0 of 15.3 million pairs of other concepts (bound 2.0e-7)"
)


def joint_distance(pdq: int, phash: int) -> int:
    """Both hashes on one scale, for comparing candidates."""
    return pdq + _PHASH_WEIGHT * phash


def jointly_near(pdq: int, phash: int, colour: float) -> bool:
    """True when both hashes and the colour layout are within the radii for confirming without pixels."""
    return pdq <= CONFIRMED_PDQ and phash <= CONFIRMED_PHASH and colour <= CONFIRMED_COLOUR
