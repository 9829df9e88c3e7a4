"""What a store searches: its segments, and the entries that came since, behind one interface."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError
from guardrails.similarity.hashes import HASH_BYTES
from guardrails.similarity.segments import CODES, ENTRY, REGIONS, Near, Segment, region_type, scan, scan_nearby
from guardrails.similarity.strings import StringTable, string_columns

_NAMES, _FACTS = "names", "facts"
# In a segment's manifest, where entries have no names but numbers behind this.
NUMBERED = "numbered"


class State(StrEnum):
    """What a match with an entry means; the values are stored."""

    ACTIVE = "active"
    CONFIRMED = "confirmed"
    DECONFIRMED = "deconfirmed"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A work to be added.

    Attributes:
        id: unique in its index, for ever: a disabled one is enabled again, not added again.
        rows: region and code; none for a work with too little detail, which is then known but never found. The region
            of a keypoint is its packed place.
        facts: rights and whatever else an answer should carry; texts only.
    """

    id: str
    rows: Sequence[tuple[int, bytes]]
    facts: Mapping[str, str] = field(default_factory=dict)


class Part(Protocol):
    """Rows that belong to entries.

    Attributes:
        regions: uint8 (n,), `fingerprints.Region`; of keypoints uint32, `keypoints.pack_places`.
        entry: uint32 (n,), row -> entry.
        entries: how many.
        states: entry -> state, for all that are not simply active; changes in place.
    """

    @property
    def regions(self) -> NDArray[np.unsignedinteger[Any]]: ...
    @property
    def entry(self) -> NDArray[np.uint32]: ...
    @property
    def entries(self) -> int: ...
    @property
    def states(self) -> dict[int, State]: ...

    def within(self, code: NDArray[np.uint8], radius: int) -> Near:
        """All rows within `radius` (inclusive) of one code."""
        ...

    def nearby(self, code: NDArray[np.uint8], radius: int, reaches: Sequence[int], budget: int) -> Near:
        """Rows near a keypoint's code, see `segments.Segment.nearby`."""
        ...

    def code(self, row: int) -> bytes:
        """One row's code."""
        ...

    def name(self, number: int) -> str:
        """An entry's id."""
        ...

    def facts(self, number: int) -> Mapping[str, str]:
        """What is known about an entry."""
        ...

    def find(self, entry_id: str) -> int | None:
        """An entry's number, or None."""
        ...


class SegmentPart:
    """The entries of one segment."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.regions = segment.columns[REGIONS]
        self.entry = segment.columns[ENTRY]
        self.entries = segment.entries
        self.states: dict[int, State] = {}
        self.prefix: str | None = segment.manifest.get(NUMBERED)
        if self.prefix is None:
            self._names = StringTable(_NAMES, segment.columns, segment.entries)
            self._facts = StringTable(_FACTS, segment.columns, segment.entries)

    @property
    def codes(self) -> NDArray[np.uint8]:
        return self.segment.columns[CODES]

    def within(self, code: NDArray[np.uint8], radius: int) -> Near:
        return self.segment.within(code, radius)

    def nearby(self, code: NDArray[np.uint8], radius: int, reaches: Sequence[int], budget: int) -> Near:
        return self.segment.nearby(code, radius, reaches, budget)

    def code(self, row: int) -> bytes:
        return bytes(self.codes[row])

    def name(self, number: int) -> str:
        if number >= self.entries:
            raise IndexFormatError(
                f"{self.segment.folder} names an entry that does not exist", hint="restore the index from a copy"
            )
        return self._names[number] if self.prefix is None else f"{self.prefix}{number}"

    def facts(self, number: int) -> Mapping[str, str]:
        return {} if self.prefix is not None else _read_facts(self._facts[number])

    def find(self, entry_id: str) -> int | None:
        if self.prefix is None:
            return self._names.find(entry_id)
        digits = entry_id.removeprefix(self.prefix)
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 11 else -1
        return number if 0 <= number < self.entries and entry_id == self.name(number) else None


class RecentPart:
    """Entries that are in no segment yet; grows in place, and is always scanned."""

    def __init__(self, algorithm: str) -> None:
        self._codes = np.zeros((256, HASH_BYTES[algorithm]), np.uint8)
        self._regions: NDArray[np.unsignedinteger[Any]] = np.zeros(256, region_type(algorithm))
        self._entry = np.zeros(256, np.uint32)
        self._rows = 0
        self._ids: list[str] = []
        self._all_facts: list[Mapping[str, str]] = []
        self._numbers: dict[str, int] = {}
        self.states: dict[int, State] = {}

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def codes(self) -> NDArray[np.uint8]:
        return self._codes[: self._rows]

    @property
    def regions(self) -> NDArray[np.unsignedinteger[Any]]:
        return self._regions[: self._rows]

    @property
    def entry(self) -> NDArray[np.uint32]:
        return self._entry[: self._rows]

    @property
    def entries(self) -> int:
        return len(self._ids)

    def add(self, entry: NewEntry) -> None:
        """Add one entry; it can be found when this returns."""
        number = len(self._ids)
        self._ids.append(entry.id)
        self._all_facts.append(entry.facts)
        self._numbers[entry.id] = number
        while self._rows + len(entry.rows) > len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
            self._regions = np.concatenate([self._regions, np.zeros_like(self._regions)])
            self._entry = np.concatenate([self._entry, np.zeros_like(self._entry)])
        for row, (region, code) in enumerate(entry.rows, start=self._rows):
            self._codes[row] = np.frombuffer(code, np.uint8)
            self._regions[row] = region
            self._entry[row] = number
        # Last, so that a search in another thread never sees a row that is not filled.
        self._rows += len(entry.rows)

    def within(self, code: NDArray[np.uint8], radius: int) -> Near:
        codes = self.codes
        return scan(codes.view(np.uint64), code, radius, len(codes))

    def nearby(self, code: NDArray[np.uint8], radius: int, reaches: Sequence[int], budget: int) -> Near:
        return scan_nearby(self.codes.view(np.uint64), code, radius, reaches, budget)

    def code(self, row: int) -> bytes:
        return bytes(self.codes[row])

    def name(self, number: int) -> str:
        return self._ids[number]

    def facts(self, number: int) -> Mapping[str, str]:
        return self._all_facts[number]

    def find(self, entry_id: str) -> int | None:
        return self._numbers.get(entry_id)


def entries_of(part: Part) -> Iterator[NewEntry]:
    """The entries of a part, in their order, as they were added; their states are not among them."""
    order = np.argsort(part.entry, kind="stable")
    ends = np.searchsorted(part.entry[order], np.arange(part.entries), side="right")
    begin = 0
    for number, end in enumerate(ends.tolist()):
        rows = [(int(part.regions[row]), part.code(int(row))) for row in order[begin:end]]
        yield NewEntry(part.name(number), rows, part.facts(number))
        begin = end


def merged_columns(parts: Sequence[SegmentPart | RecentPart]) -> tuple[dict[str, NDArray[Any]], int]:
    """The columns of one segment with the entries of several parts in their order, and the number of entries."""
    before = np.cumsum([0, *(part.entries for part in parts)])
    numbers = [(part, number) for part in parts for number in range(part.entries)]
    columns: dict[str, NDArray[Any]] = {
        CODES: np.concatenate([part.codes for part in parts]),
        REGIONS: np.concatenate([part.regions for part in parts]),
        ENTRY: np.concatenate(
            [np.asarray(part.entry + np.uint32(first)) for part, first in zip(parts, before, strict=False)]
        ).astype(np.uint32),
        **string_columns(_NAMES, [part.name(number) for part, number in numbers], searchable=True),
        **string_columns(_FACTS, [_facts_text(part.facts(number)) for part, number in numbers], searchable=False),
    }
    return columns, int(before[-1])


def _facts_text(facts: Mapping[str, str]) -> str:
    return json.dumps(dict(facts), separators=(",", ":"), sort_keys=True) if facts else ""


def _read_facts(text: str) -> Mapping[str, str]:
    if not text:
        return {}
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise IndexFormatError("the facts of an entry are damaged", hint="restore the index from a copy") from error
