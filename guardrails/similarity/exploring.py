"""What a picture is near, over an index of works and several banks, told so that a person can judge it.

1. The index of works is asked; it compares pixels where reference pictures are at hand.
2. The banks are asked; where a bank's works lie in a folder, the nearest are compared as well.
3. All are neighbours, works that keypoints alone led to among them: first by grade, then by agreeing tiles, then by
   distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import Match, MatchState, Rights
from guardrails.errors import OptionError
from guardrails.imaging import Pixels
from guardrails.similarity.banks import Banks, Role, pair_rate
from guardrails.similarity.comparing import Compared, compare_answer
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import HASH_BYTES, PDQ256
from guardrails.similarity.judge import error_rate
from guardrails.similarity.keypoint_index import Located
from guardrails.similarity.levels import PLACED_PAIR_RATE
from guardrails.similarity.parts import State
from guardrails.similarity.placing import MIN_AGREEING
from guardrails.similarity.protocol import WorksIndex
from guardrails.similarity.radii import CANDIDATE_PAIR_RATE, CANDIDATE_RADIUS, COMPARED_CANDIDATES
from guardrails.similarity.stated_rights import stated_rights
from guardrails.similarity.thumbnails import Thumbnails
from guardrails.similarity.verification import Agreement, compare, compare_placed

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
        distance: the least Hamming distance, of `bits`; None where keypoints alone led to it.
        part: where keypoints found it; None where they did not.
        work: the work's picture, RGB, uint8, height x width x 3; None where it is not at hand.
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
    distance: int | None
    bits: int
    region: str
    state: str
    remark: str
    rights: Rights
    part: Located | None
    work: Pixels | None
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
        result = self._works.find(pixels)
        found = [self._of_works(pixels, match, number) for number, match in enumerate(result.matches[:_SHOWN])]
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
        if result.with_parts:
            searched.append(_parts_searched(WORKS, Role.WORKS, result.searched))
        if self._banks is not None:
            fingerprint = Fingerprinter(self._banks.algorithm).fingerprint(pixels, alpha)
            answer = self._banks.match(fingerprint, pixels, limit=_SHOWN)
            compared = compare_answer(self._banks, answer, pixels)
            found += [self._of_bank(one) for one in compared]
            total += len(compared)
            unhashable = unhashable and answer.unhashable and not answer.parts
            for name, entries in answer.searched.items():
                searched.append(self._searched(name, entries))
                if name in self._banks.with_parts:
                    searched.append(_parts_searched(name, self._members[name][0].role, entries))
        found.sort(key=_surest_first)
        return Explored(neighbours=tuple(found[:_SHOWN]), total=total, searched=tuple(searched), unhashable=unhashable)

    def thumbnail(self, index: str, entry_id: str) -> bytes | None:
        """The WebP that shows a work, or None."""
        if index == WORKS:
            return self._works.thumbnail(entry_id)
        return Thumbnails(self._members[index][1].folder).get(entry_id) if index in self._members else None

    def _of_works(self, pixels: Pixels, match: Match, number: int) -> Neighbour:
        # The index has compared it already; it is done again for the nearest, to show where they agree.
        shown = match.agreement is not None and number < COMPARED_CANDIDATES
        part = Located.of(match.entry, match.evidence)
        picture = self._works.picture(match.entry) if shown or part is not None else None
        return Neighbour(
            index=WORKS,
            id=match.entry,
            title=match.title,
            level=match.state,
            grade=match.grade,
            distance=match.distances.get(PDQ256),
            bits=256,
            region="",
            state=State.ACTIVE.value,
            remark=match.remark,
            rights=match.rights,
            part=part,
            work=picture,
            agreement=_agreement(pixels, picture, part) if shown else None,
            error_rate=error_rate(match),
        )

    def _of_bank(self, one: Compared) -> Neighbour:
        store, found = self._members[one.bank][1], one.found
        return Neighbour(
            index=one.bank,
            id=one.id,
            title=one.facts.get("title") or one.facts.get("name") or one.id,
            level=one.match_state,
            grade=one.grade,
            distance=None if found is None else found.distance,
            bits=HASH_BYTES[store.algorithm] * 8,
            region="" if found is None else found.region.name.lower().replace("_", " "),
            state=one.state.value,
            remark=one.remark,
            rights=stated_rights(one.facts),
            part=one.located,
            work=one.work,
            agreement=one.agreement,
            error_rate=one.error_rate,
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


def _parts_searched(index: str, role: Role, entries: int) -> Searched:
    return Searched(
        index=index,
        role=role.value,
        entries=entries,
        threshold=f"parts of works: {MIN_AGREEING} keypoints agree on one place",
        pair_rate=PLACED_PAIR_RATE,
    )


def _agreement(pixels: Pixels, work: Pixels | None, part: Located | None) -> Agreement | None:
    if work is None:
        return None
    return compare(pixels, work) if part is None else compare_placed(pixels, work, part.placement)


def _surest_first(neighbour: Neighbour) -> tuple[int, float, float, str]:
    share = 0.0 if neighbour.agreement is None else neighbour.agreement.share
    # What keypoints alone led to is as far as can be.
    distance = float("inf") if neighbour.distance is None else neighbour.distance
    return -neighbour.grade, -share, distance, neighbour.id
