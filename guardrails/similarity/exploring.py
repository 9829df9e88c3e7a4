"""What a picture is near, over an index of works and several banks, told so that a person can judge it.

1. The index of works is asked; it compares pixels where reference pictures are at hand.
2. The banks are asked; where a bank's works lie in a folder, the nearest are compared as well.
3. All are neighbours: first by grade, then by agreeing tiles, then by distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import UNVERIFIABLE, Match, MatchState, Rights
from guardrails.errors import ImageError, OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.similarity.alignment import Frame
from guardrails.similarity.banks import BankMatch, Banks, Role, pair_rate
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import HASH_BYTES, PDQ256
from guardrails.similarity.judge import error_rate
from guardrails.similarity.levels import ERROR_RATES, STATES, Level
from guardrails.similarity.parts import State
from guardrails.similarity.protocol import WorksIndex
from guardrails.similarity.radii import CANDIDATE_PAIR_RATE, CANDIDATE_RADIUS, COMPARED_CANDIDATES
from guardrails.similarity.stated_rights import stated_rights
from guardrails.similarity.thumbnails import Thumbnails
from guardrails.similarity.verification import Agreement, compare_frames

WORKS = "works"
_SHOWN = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What was asked, and how often it answers wrongly.

    Attributes:
        entries: works that could have been found.
        threshold: in words.
        pair_rate: how often two different works are within it; None where that was not measured.
    """

    index: str
    role: str
    entries: int
    threshold: str
    pair_rate: float | None

    @property
    def expected_false(self) -> float | None:
        """False candidates to be expected for one picture at this size."""
        return None if self.pair_rate is None else self.pair_rate * self.entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A work that a picture is near.

    Attributes:
        index: where it was found.
        level: how sure the match is.
        grade: of replication, 0..5.
        distance: the least Hamming distance, of `bits`.
        region: of the work that came nearest.
        state: of the entry: active, confirmed, deconfirmed, quarantined.
        agreement: of pixels; None where the work's picture is not at hand.
        error_rate: of the level, with its n and bound, in words.
    """

    index: str
    id: str
    title: str
    level: MatchState
    grade: int
    distance: int
    bits: int
    region: str
    state: str
    remark: str
    rights: Rights
    agreement: Agreement | None
    error_rate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """The answer for one picture.

    Attributes:
        neighbours: surest first.
        total: of them, also where fewer are told.
        unhashable: too little detail to be searched, which is not "none found".
    """

    neighbours: tuple[Neighbour, ...]
    total: int
    searched: tuple[Searched, ...]
    unhashable: bool

    @property
    def level(self) -> MatchState | None:
        """Of the surest neighbour."""
        return self.neighbours[0].level if self.neighbours else None


class Explorer:
    """Asks an index of works and banks of one hash.

    Args:
        banks: None for none.

    Raises:
        OptionError: a bank has the index's name, or is a list whose pictures nobody may see.
    """

    def __init__(self, works: WorksIndex, banks: Banks | None = None) -> None:
        self._works = works
        self._banks = banks
        self._members = {} if banks is None else banks.members
        for settings, _ in self._members.values():
            if settings.role is Role.SENSITIVE or settings.name == WORKS:
                raise OptionError(f"the bank {settings.name!r} cannot be explored", hint="leave it out, or rename it")

    def look(self, pixels: Pixels, alpha: NDArray[np.uint8] | None = None) -> Explored:
        """The neighbours of a picture.

        Args:
            pixels: RGB, uint8, height x width x 3.
            alpha: as `imaging.decoding` gives it.
        """
        frame = Frame(pixels)
        result = self._works.find(pixels)
        found = [self._of_works(frame, match, number) for number, match in enumerate(result.matches[:_SHOWN])]
        total, unhashable = len(result.matches), result.unhashable
        searched = [
            Searched(
                index=WORKS,
                role=Role.WORKS.value,
                entries=result.searched,
                threshold=f"PDQ within {CANDIDATE_RADIUS} of 256 bits, any view",
                pair_rate=CANDIDATE_PAIR_RATE,
            )
        ]
        if self._banks is not None:
            answer = self._banks.match(Fingerprinter(self._banks.algorithm).fingerprint(pixels, alpha), limit=_SHOWN)
            found += [self._of_bank(frame, match, number) for number, match in enumerate(answer.matches)]
            total += len(answer.matches)
            unhashable = unhashable and answer.unhashable
            searched += [self._searched(name, entries) for name, entries in answer.searched.items()]
        found.sort(key=_surest_first)
        return Explored(neighbours=tuple(found[:_SHOWN]), total=total, searched=tuple(searched), unhashable=unhashable)

    def thumbnail(self, index: str, entry_id: str) -> bytes | None:
        """The WebP that shows a work, or None."""
        if index == WORKS:
            return self._works.thumbnail(entry_id)
        return Thumbnails(self._members[index][1].folder).get(entry_id) if index in self._members else None

    def _of_works(self, frame: Frame, match: Match, number: int) -> Neighbour:
        # The index has compared it already; it is done again for the nearest, to show where they agree.
        shown = match.agreement is not None and number < COMPARED_CANDIDATES
        picture = self._works.picture(match.entry) if shown else None
        return Neighbour(
            index=WORKS,
            id=match.entry,
            title=match.title,
            level=match.state,
            grade=match.grade,
            distance=match.distances.get(PDQ256, 0),
            bits=256,
            region="",
            state=State.ACTIVE.value,
            remark=match.remark,
            rights=match.rights,
            agreement=None if picture is None else compare_frames(frame, Frame(picture)),
            error_rate=error_rate(match),
        )

    def _of_bank(self, frame: Frame, match: BankMatch, number: int) -> Neighbour:
        settings, store = self._members[match.bank]
        picture = None
        if settings.pictures and number < COMPARED_CANDIDATES:
            picture = _read(Path(settings.pictures), match.found.id)
        agreement = None if picture is None else compare_frames(frame, Frame(picture))
        level = Level.CANDIDATE if agreement is None else agreement.level
        return Neighbour(
            index=match.bank,
            id=match.found.id,
            title=match.found.facts.get("title") or match.found.facts.get("name") or match.found.id,
            level=STATES[level],
            grade=int(max(level, Level.CANDIDATE)),
            distance=match.found.distance,
            bits=HASH_BYTES[store.algorithm] * 8,
            region=match.found.region.name.lower().replace("_", " "),
            state=match.found.state.value,
            remark=UNVERIFIABLE if level is Level.UNVERIFIABLE else "",
            rights=stated_rights(match.found.facts),
            agreement=agreement,
            error_rate=ERROR_RATES[STATES[level]],
        )

    def _searched(self, name: str, entries: int) -> Searched:
        settings, store = self._members[name]
        bits = HASH_BYTES[store.algorithm] * 8
        return Searched(
            index=name,
            role=settings.role.value,
            entries=entries,
            threshold=(
                f"{store.algorithm} within {settings.radius} of {bits} bits,"
                f" without its border within {settings.box_radius}"
            ),
            pair_rate=pair_rate(store.algorithm, settings.radius, settings.box_radius),
        )


def _read(folder: Path, name: str) -> Pixels | None:
    """A work's picture, where it still is."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return None
    try:
        return decode(read_image_bytes(path)).pixels
    except ImageError:
        return None


def _surest_first(neighbour: Neighbour) -> tuple[int, float, int, str]:
    share = 0.0 if neighbour.agreement is None else neighbour.agreement.share
    return -neighbour.grade, -share, neighbour.distance, neighbour.id
