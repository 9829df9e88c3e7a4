"""Find what a picture resembles in a rights-bearing index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from guardrails.domain.findings import Check, CheckStatus, Component
from guardrails.domain.images import OTHER_COLOURS, SAME_FAMILY, UNVERIFIABLE, Match, MatchState
from guardrails.errors import IndexFormatError
from guardrails.imaging import Pixels
from guardrails.imaging.thumbnails import thumbnail
from guardrails.similarity.alignment import Frame
from guardrails.similarity.colours import colour_distance
from guardrails.similarity.description import Description, describe
from guardrails.similarity.entries import EntryTable, read_entries
from guardrails.similarity.families import family_of
from guardrails.similarity.hashes import HASH_BYTES, PDQ256, PHASH64, ImageHash
from guardrails.similarity.index import HashIndex, Hit, open_index
from guardrails.similarity.keypoint_index import KeypointIndex, Located
from guardrails.similarity.levels import STATES, Level
from guardrails.similarity.radii import (
    CANDIDATE_RADIUS,
    COMPARED_CANDIDATES,
    CONTESTED_MARGIN,
    CONTESTED_SHARE,
    joint_distance,
    jointly_near,
)
from guardrails.similarity.thumbnails import Thumbnails
from guardrails.similarity.verification import Agreement, PictureSource, compare_frames, compare_placed, evidence
from guardrails.similarity.views import Kind

NAME = "similarity"
VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The answer of one search.

    Attributes:
        matches: best first: confirmed before candidates, then by agreement, then by distance.
        unhashable: the picture has too little detail for any hash. Then nothing was searched, which is not "no match".
        searched: works in the index. No match means "not found among these within `radius`", nothing more.
        radius: Hamming radius of PDQ, inclusive.
        with_parts: parts of works were looked for as well.
    """

    matches: tuple[Match, ...]
    unhashable: bool
    searched: int
    radius: int
    with_parts: bool = False

    def check(self, component: Component, milliseconds: float) -> Check:
        """The search as the record of a guard's run; a picture that cannot be hashed was not checked."""
        if self.unhashable:
            return Check(
                component=component,
                status=CheckStatus.UNAVAILABLE,
                reason="unhashable: too little detail",
                milliseconds=milliseconds,
            )
        states = [match.state for match in self.matches]
        return Check(
            component=component,
            status=CheckStatus.RAN,
            scores={state.value: float(states.count(state)) for state in MatchState},
            milliseconds=milliseconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One entry's nearest view: all its distances, in the orientation that PDQ found."""

    entry: int
    kind: Kind
    pdq: int
    phash: int
    colour: float

    @property
    def joint(self) -> int:
        return joint_distance(self.pdq, self.phash)

    @property
    def near(self) -> bool:
        # The radii for confirming were calibrated on normalised views.
        return self.kind is not Kind.FULL and jointly_near(self.pdq, self.phash, self.colour)


class SimilarityIndex:
    """An opened index with its entry table and, where the caller has them, the reference pictures."""

    def __init__(
        self,
        index: HashIndex,
        entries: EntryTable,
        pictures: PictureSource | None = None,
        thumbnails: Thumbnails | None = None,
        keypoints: KeypointIndex | None = None,
    ) -> None:
        self._index = index
        self._entries = entries
        self._pictures = pictures
        self._thumbnails = thumbnails
        self._keypoints = keypoints
        self._numbers = {entry.id: number for number, entry in enumerate(entries.entries)}

    @classmethod
    def open(
        cls, folder: Path, pictures: PictureSource | None = None, *, entries: Path | None = None
    ) -> SimilarityIndex:
        """Open an index folder.

        Keypoints of the works are used where there are some beside the folder, see `building.build_keypoints`.

        Args:
            pictures: gives reference pictures for comparison; without it only hashes can confirm.
            entries: the entry table; by default `manifest.csv` beside the folder.

        Raises:
            IndexFormatError: damaged, of another format, or built from another entry table.
        """
        index = open_index(folder)
        table_path = entries or folder.parent / "manifest.csv"
        table = read_entries(table_path)
        if table.identity != index.entries_identity:
            raise IndexFormatError(
                f"{folder} was not built from {table_path}", hint="build the index again from this table"
            )
        return cls(index, table, pictures, Thumbnails(folder), KeypointIndex.of(folder.parent))

    @property
    def component(self) -> Component:
        return Component(name=NAME, version=VERSION, digest=self._index.digest)

    def picture(self, entry_id: str) -> Pixels | None:
        """The reference picture of a work, where it is at hand."""
        return None if self._pictures is None else self._pictures.picture(entry_id)

    def thumbnail(self, entry_id: str) -> bytes | None:
        """A WebP that shows a work: the one that was kept, else one of its picture, where that is at hand."""
        kept = None if self._thumbnails is None else self._thumbnails.get(entry_id)
        if kept is not None:
            return kept
        picture = self.picture(entry_id)
        return None if picture is None else thumbnail(picture)

    def __len__(self) -> int:
        """Number of works."""
        return len(self._entries)

    def find(self, pixels: Pixels) -> SearchResult:
        """Search for the works that a picture resembles.

        Args:
            pixels: RGB, uint8, height x width x 3.
        """
        description = describe(pixels)
        candidates = sorted(self._candidates(description), key=lambda candidate: (candidate.joint, candidate.entry))
        located = self._locate(pixels)
        agreements = self._compare(pixels, candidates[:COMPARED_CANDIDATES])
        for number, one in located.items():
            agreements |= self._compare_placed(pixels, number, one, agreements.get(number))
        matches = [self._match(candidate, candidates, agreements) for candidate in candidates]
        hashed = {candidate.entry for candidate in candidates}
        matches += [self._part(number, agreements) for number in located if number not in hashed]
        placed = {
            self._entries[number].id: one
            for number, one in located.items()
            if number not in agreements or agreements[number].placement is not None
        }
        matches = [_with_place(match, placed.get(match.entry)) for match in matches]
        return SearchResult(
            matches=tuple(sorted(matches, key=_best_first)),
            unhashable=not description.views and not located,
            searched=len(self._entries),
            radius=CANDIDATE_RADIUS,
            with_parts=self._keypoints is not None,
        )

    def _locate(self, pixels: Pixels) -> dict[int, Located]:
        """Entry to where its keypoints were found, those with most keypoints first."""
        if self._keypoints is None:
            return {}
        found = self._keypoints.find(pixels)
        numbers = ((self._numbers.get(one.id), one) for one in found)
        return dict(islice(((n, one) for n, one in numbers if n is not None), COMPARED_CANDIDATES))

    def _compare_placed(
        self, pixels: Pixels, number: int, located: Located, before: Agreement | None
    ) -> dict[int, Agreement]:
        """The entry's agreement, where the reference picture is at hand and bears out more than it did before."""
        work = None if self._pictures is None else self._pictures.picture(self._entries[number].id)
        if work is None:
            return {}
        agreement = compare_placed(pixels, work, located.placement)
        return {number: agreement} if before is None or evidence(agreement) > evidence(before) else {}

    def _part(self, number: int, agreements: dict[int, Agreement]) -> Match:
        """A match that keypoints alone led to."""
        entry = self._entries[number]
        match = Match(
            entry=entry.id,
            title=entry.title,
            rights=entry.rights,
            state=MatchState.CANDIDATE,
            distances={},
            sha256=entry.sha256,
        )
        return self._compared(match, number, False, agreements) if number in agreements else match

    def _candidates(self, description: Description) -> list[_Measured]:
        """The nearest view of every entry within the radius."""
        nearest: dict[int, _Measured] = {}
        for kind, view in description.views.items():
            for hit in self._index.search(view.pdq.codes, CANDIDATE_RADIUS, kind):
                measured = self._measure(description, kind, hit)
                best = nearest.get(measured.entry)
                if best is None or (not measured.near, measured.joint) < (not best.near, best.joint):
                    nearest[measured.entry] = measured
        return list(nearest.values())

    def _measure(self, description: Description, kind: Kind, hit: Hit) -> _Measured:
        arrays = self._index.arrays
        entry = int(arrays.entry[hit.row])
        stored = ImageHash(PHASH64, arrays.phash64[hit.row].tobytes())
        return _Measured(
            entry=entry,
            kind=kind,
            pdq=hit.distance,
            phash=description.phash(kind, hit.orientation) - stored,
            colour=colour_distance(description.colours(hit.orientation), arrays.colours[entry]),
        )

    def _compare(self, pixels: Pixels, candidates: list[_Measured]) -> dict[int, Agreement]:
        """Entry to agreement, for those whose reference picture is at hand."""
        if self._pictures is None or not candidates:
            return {}
        frame = Frame(pixels)
        references = {c.entry: self._pictures.picture(self._entries[c.entry].id) for c in candidates}
        return {
            entry: compare_frames(frame, Frame(picture)) for entry, picture in references.items() if picture is not None
        }

    def _match(self, candidate: _Measured, candidates: list[_Measured], agreements: dict[int, Agreement]) -> Match:
        agreement = agreements.get(candidate.entry)
        near = candidate.near and not self._hashes_contested(candidate, candidates)
        entry = self._entries[candidate.entry]
        match = Match(
            entry=entry.id,
            title=entry.title,
            rights=entry.rights,
            state=MatchState.CONFIRMED if near else MatchState.CANDIDATE,
            distances={PDQ256: candidate.pdq, PHASH64: candidate.phash},
            sha256=entry.sha256,
            grade=int(Level.CONFIRMED if near else Level.CANDIDATE),
        )
        return match if agreement is None else self._compared(match, candidate.entry, near, agreements)

    def _compared(self, match: Match, number: int, near: bool, agreements: dict[int, Agreement]) -> Match:
        """The match as pixels bear it out: they must agree, and many that agree confirm by themselves."""
        agreement = agreements[number]
        level, remark = agreement.level, ""
        if level >= Level.CONFIRMED and self._contested(number, agreements):
            level = Level.REVIEW
        elif level is Level.REVIEW and near:
            # Two hashes and the colours are within the radii for confirming, and the pixels do not object.
            level = Level.CONFIRMED
        if level is Level.UNVERIFIABLE:
            remark = UNVERIFIABLE
        elif level < Level.CONFIRMED and agreement.other_colours:
            level, remark = Level.REVIEW, OTHER_COLOURS
        elif level >= Level.REVIEW and self._family_agrees(number, agreements):
            remark = SAME_FAMILY
        return replace(
            match,
            state=STATES[level],
            agreement=agreement.share,
            grade=int(max(level, Level.CANDIDATE)),
            remark=remark,
            evidence=agreement.summary,
        )

    def _hashes_contested(self, candidate: _Measured, candidates: list[_Measured]) -> bool:
        """True when a work of another creator is nearly as near: then the hashes do not say whose work it is."""
        return any(
            other.joint < candidate.joint + CONTESTED_MARGIN and self._of_others(candidate.entry, other.entry)
            for other in candidates
        )

    def _contested(self, number: int, agreements: dict[int, Agreement]) -> bool:
        """True when a work of another creator agrees nearly as well: then the pixels do not say whose work it is."""
        share = agreements[number].share - CONTESTED_SHARE
        return any(
            other.level >= Level.CONFIRMED and other.share > share and self._of_others(number, rival)
            for rival, other in agreements.items()
        )

    def _family_agrees(self, number: int, agreements: dict[int, Agreement]) -> bool:
        """True when a variant of the same work, by its creator and name, agrees as well."""
        family = family_of(self._entries[number])
        return any(
            other.level >= Level.REVIEW and rival != number and family_of(self._entries[rival]) == family
            for rival, other in agreements.items()
        )

    def _of_others(self, entry: int, other: int) -> bool:
        return self._entries[entry].rights.creator != self._entries[other].rights.creator


def _with_place(match: Match, located: Located | None) -> Match:
    """The match with where the work is in the picture, for records and for the evidence picture."""
    return match if located is None else replace(match, evidence={**match.evidence, **located.summary})


def _best_first(match: Match) -> tuple[int, float, int, str]:
    # What keypoints alone led to is as far as can be.
    distance = match.distances.get(PDQ256, 8 * HASH_BYTES[PDQ256])
    return list(MatchState).index(match.state), -(match.agreement or 0.0), distance, match.entry
