"""What a radius search answers, whoever runs it: files on one machine, Ray actors, PostgreSQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError
from guardrails.similarity.fingerprints import Region
from guardrails.similarity.hashes import HASH_BYTES
from guardrails.similarity.parts import NewEntry, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry within the radius.

    Attributes:
        distance: of its nearest row.
        region: which part of the work that row describes.
        query: which of the asked codes came nearest.
    """

    id: str
    distance: int
    region: Region
    query: int
    state: State
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a search found.

    Attributes:
        found: nearest first, then by id; at most as many as were asked for.
        total: entries within the radius, also when `found` is shorter.
        searched: entries that could have been found. None found means "not among these within `radius`".
        radius: inclusive.
    """

    found: tuple[Found, ...]
    total: int
    searched: int
    radius: int


class RadiusIndex(ABC):
    """An exact Hamming-radius search that can be changed; the same entries give the same answers."""

    @property
    @abstractmethod
    def algorithm(self) -> str:
        """One of `hashes.HASH_BYTES`, of all codes."""

    def search(
        self,
        codes: NDArray[np.uint8],
        radius: int,
        *,
        region_radii: Mapping[Region, int] | None = None,
        limit: int = 100,
    ) -> Answer:
        """All entries with a row within `radius` of any of the codes.

        Args:
            codes: uint8 (m, bytes), for example `Fingerprint.queries`.
            radius: inclusive.
            region_radii: smaller radii for rows of some regions.
            limit: entries to return; `Answer.total` counts all.

        Raises:
            OptionError: codes of the wrong length.
            IndexFormatError: the index was damaged since it was opened.
        """
        return self._search(check_codes(codes, self.algorithm), radius, region_radii or {}, limit)

    @abstractmethod
    def _search(self, codes: NDArray[np.uint8], radius: int, region_radii: Mapping[Region, int], limit: int) -> Answer:
        """`search` with codes that were checked."""

    @abstractmethod
    def add(self, entries: Iterable[NewEntry]) -> int:
        """Add works; all of them or, after an error, none.

        Returns:
            How many were added.

        Raises:
            OptionError: an id that the index holds already or that comes twice, or a code of the wrong length.
            StorageError: they cannot be written.
        """

    @abstractmethod
    def set_state(self, entry_id: str, state: State, reason: str = "") -> None:
        """Set what a match with an entry means.

        Raises:
            OptionError: no such entry.
            StorageError: it cannot be written.
        """


def check_codes(codes: NDArray[np.uint8], algorithm: str) -> NDArray[np.uint8]:
    """The codes, contiguous.

    Raises:
        OptionError: of the wrong length.
    """
    if codes.ndim != 2 or codes.shape[1] != HASH_BYTES[algorithm]:
        raise OptionError(
            f"codes of {algorithm} have {HASH_BYTES[algorithm]} bytes, got an array of {codes.shape}",
            hint="hash the picture with the index's own algorithm",
        )
    return np.ascontiguousarray(codes, dtype=np.uint8)


def check_entry(entry: NewEntry, algorithm: str) -> None:
    """Refuse what no index can hold.

    Raises:
        OptionError: an id that is no printable text, or a code of the wrong length.
    """
    if not entry.id or not entry.id.isprintable():
        raise OptionError(f"{entry.id!r} cannot be an id", hint="give a printable text")
    for _, code in entry.rows:
        if len(code) != HASH_BYTES[algorithm]:
            raise OptionError(
                f"the code of {entry.id!r} has {len(code)} bytes, {algorithm} has {HASH_BYTES[algorithm]}",
                hint="hash it with the index's own algorithm",
            )


def duplicate(entry_id: str) -> OptionError:
    """The error for an id that is there already."""
    return OptionError(f"the index holds {entry_id!r} already", hint="ids are unique; enable a disabled entry instead")


def unknown(entry_id: str) -> OptionError:
    """The error for an id that is not there."""
    return OptionError(f"the index holds no entry {entry_id!r}", hint="check the id; it is the one of the answers")


def union(answers: Sequence[Answer], limit: int) -> Answer:
    """One answer of several parts of a collection, no entry in two of them."""
    found = sorted((one for answer in answers for one in answer.found), key=lambda one: (one.distance, one.id))
    return Answer(
        found=tuple(found[:limit]),
        total=sum(answer.total for answer in answers),
        searched=sum(answer.searched for answer in answers),
        radius=answers[0].radius,
    )
