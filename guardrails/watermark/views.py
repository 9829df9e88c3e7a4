"""What of a picture is compared with keys, cheapest first. Nothing here touches a key.

So all of it may be looked at, chosen and passed over for nothing; only what a keyed pilot is then correlated with are
tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from guardrails.watermark.carrier import Pool
from guardrails.watermark.frame import Plane, band_of, fold, whiten
from guardrails.watermark.front import guess_pattern
from guardrails.watermark.geometry import (
    ALIGNED,
    CROPPED,
    LEARNED_ALIGNED,
    LEARNED_CROPPED,
    LEARNED_ROTATED,
    LEARNED_SHIFTED,
    ORIENTATIONS,
    SHIFTED,
    Autocorrelation,
    Lattice,
    Search,
    coherence,
    orient_tile,
    turned_lattices,
    upright_lattices,
)
from guardrails.watermark.synchronisation import (
    Band,
    Correlation,
    correlate_aligned,
    correlate_all_shifts,
    prepare,
    prepare_guessed,
)

# Of unmarked pictures' lattices, one in ten reaches this; of those on which a payload can be read, nearly all do.
LEAST_COHERENCE = 2.0

Correlator = Callable[[Band, Pool], Correlation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One folded tile, one way up.

    Attributes:
        band: of the tile, shape (BINS,).
        prepared: the band as it meets the pilots.
        turns, mirror: how the tile was oriented.
        lattice: on which the frame was straightened; None when it was taken as it is.
    """

    band: Band
    prepared: Band
    turns: int
    mirror: bool
    lattice: Lattice | None


def searches(frame: Plane, depth: int) -> Iterator[tuple[Search, Correlator, Iterator[Look]]]:
    """The searches of a canonical luma frame; each one does its work only when it is asked for looks.

    Args:
        depth: 0, 1 or 2 for the modes fast, standard and deep.
    """
    whitened = _View(whiten(frame), prepare)
    yield ALIGNED, correlate_aligned, whitened.looks()
    yield SHIFTED, correlate_all_shifts, whitened.looks()
    if depth == 0:
        return
    yield CROPPED, correlate_all_shifts, whitened.straightened(upright_lattices)
    if depth == 1:
        return
    guessed = _View(guess_pattern(frame), prepare_guessed)
    yield LEARNED_ALIGNED, correlate_aligned, guessed.looks()
    yield LEARNED_SHIFTED, correlate_all_shifts, guessed.looks()
    yield LEARNED_CROPPED, correlate_all_shifts, guessed.straightened(upright_lattices)
    yield LEARNED_ROTATED, correlate_all_shifts, guessed.straightened(turned_lattices)


class _View:
    """A frame behind one of the two fronts.

    Args:
        frame: the front's output, float32 of shape (height, width).
        prepare: what is done to a band of it before it meets the pilots.
    """

    def __init__(self, frame: Plane, prepare: Callable[[Band], Band]) -> None:
        self._frame = frame
        self._prepare = prepare

    @cached_property
    def _correlation(self) -> Autocorrelation:
        """Made when the first lattice is looked for, and kept for the second kind."""
        return Autocorrelation(self._frame)

    def looks(self) -> Iterator[Look]:
        """The frame as it is, in every orientation."""
        yield from self._oriented(self._frame, None)

    def straightened(self, find: Callable[[Autocorrelation], list[Lattice]]) -> Iterator[Look]:
        """Lattices on which the tiles agree, the best first; correlating the others would be a waste of time."""
        straight = [(lattice, lattice.straighten(self._frame)) for lattice in find(self._correlation)]
        ranked = sorted(((coherence(frame), n) for n, (_, frame) in enumerate(straight)), reverse=True)
        for agreement, n in ranked:
            if agreement >= LEAST_COHERENCE:
                lattice, frame = straight[n]
                yield from self._oriented(frame, lattice)

    def _oriented(self, frame: Plane, lattice: Lattice | None) -> Iterator[Look]:
        tile = fold(frame)
        for turns, mirror in ORIENTATIONS:
            band = band_of(orient_tile(tile, frame.shape, turns, mirror))
            yield Look(band=band, prepared=self._prepare(band), turns=turns, mirror=mirror, lattice=lattice)
