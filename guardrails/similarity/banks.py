"""Indexes with a purpose: works, protected works, sensitive hash lists, and harmless collisions.

A bank is a `Store` whose settings say what a match with it means. Several banks are asked together, because a match
with the negative bank takes back what another bank says.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError, OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.thumbnails import MAX_BYTES
from guardrails.similarity.answers import Found
from guardrails.similarity.fingerprints import Fingerprint, Region
from guardrails.similarity.hashes import DHASH64, ISCC_IMAGE64, PDQ256, PHASH64, SYM256, ImageHash
from guardrails.similarity.keypoint_index import KeypointIndex, Located
from guardrails.similarity.parts import State
from guardrails.similarity.store import Store


class Role(StrEnum):
    """What a match with a bank means."""

    WORKS = "works"
    PROTECTED = "protected"
    # Hash lists whose pictures nobody may hold: a hit is refused and routed, nothing of the picture is kept.
    SENSITIVE = "sensitive"
    # Known harmless collisions: a match nearer than another bank's takes that one back.
    NEGATIVE = "negative"


# Full frame and peeled box; measured by benchmarks/similarity_recall.py, see docs/similarity.md.
DEFAULT_RADII = {SYM256: (50, 47), PDQ256: (50, 31), PHASH64: (4, 4), DHASH64: (1, 1), ISCC_IMAGE64: (4, 4)}
# The radius that those who share such lists agreed on.
_SHARED_LIST_RADII = {PDQ256: (31, 31)}

_COUNTING = (State.ACTIVE, State.CONFIRMED)
_LEAST_THUMBNAIL = 512

# Radius, box radius, and how often two drawings of different creators and concepts are within them: of 4.47 million
# ordered pairs, all regions, orientations and complements together; 3 / n where none was.
_PAIR_RATES = {
    PDQ256: ((31, 31, 6.7e-7), (50, 31, 3.8e-6)),
    SYM256: ((31, 31, 7.2e-6), (50, 47, 5.2e-5)),
    ISCC_IMAGE64: ((0, 0, 6.7e-7), (4, 4, 7.8e-6)),
}


def pair_rate(algorithm: str, radius: int, box_radius: int) -> float | None:
    """The measured false-positive rate of one pair at the least measured radii that cover these; None beyond them."""
    rates = _PAIR_RATES.get(algorithm, ())
    return next((rate for full, box, rate in rates if radius <= full and box_radius <= box), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSettings:
    """What makes an index a bank.

    Attributes:
        name: in answers.
        radius, box_radius: inclusive, for rows of the full frame (and on black), and of the box.
        flood_limit: an entry that matches more often than this within `flood_seconds` is set aside and reported: a
            hash that suddenly matches everything is a bad hash. 0 never does.
        thumbnail_bytes: how large a picture of a work may be that is kept to show it; 0 keeps none. See
            `thumbnail_limit`.
        pictures: folder in which the works lie under their ids, for comparing pixels; "" where they are not at hand.
    """

    name: str
    role: Role
    radius: int
    box_radius: int
    flood_limit: int = 1000
    flood_seconds: int = 3600
    thumbnail_bytes: int = MAX_BYTES
    pictures: str = ""

    def __post_init__(self) -> None:
        if 0 < self.thumbnail_bytes < _LEAST_THUMBNAIL:
            raise OptionError(
                f"no picture fits into {self.thumbnail_bytes} bytes", hint=f"allow {_LEAST_THUMBNAIL}, or 0 for none"
            )

    @property
    def hashes_only(self) -> bool:
        """True for lists whose pictures nobody may hold: of what is hashed nothing but the hash and its id is kept."""
        return self.role is Role.SENSITIVE

    @property
    def thumbnail_limit(self) -> int:
        """Bytes; 0 where no thumbnail is kept, whatever the settings say."""
        return 0 if self.hashes_only else self.thumbnail_bytes

    @classmethod
    def default(cls, name: str, role: Role, algorithm: str) -> BankSettings:
        """The measured radii of a hash."""
        shared = _SHARED_LIST_RADII if role is Role.SENSITIVE else {}
        radius, box_radius = shared.get(algorithm, DEFAULT_RADII[algorithm])
        return cls(name=name, role=role, radius=radius, box_radius=box_radius)

    def to_json(self) -> dict[str, Any]:
        """As a store keeps them."""
        return asdict(self)

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> BankSettings:
        """Read back.

        Raises:
            IndexFormatError: not a bank's settings.
        """
        try:
            numbers = {name: int(settings[name]) for name in ("radius", "box_radius", "flood_limit", "flood_seconds")}
            # Younger than some indexes.
            numbers["thumbnail_bytes"] = int(settings.get("thumbnail_bytes", MAX_BYTES))
            pictures = str(settings.get("pictures", ""))
            return cls(name=str(settings["name"]), role=Role(settings["role"]), pictures=pictures, **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFormatError(
                f"the index is no bank: {error}", hint="set its role with `guardrails similarity configure`"
            ) from error


@dataclass(frozen=True, slots=True)
class BankMatch:
    """A match with an entry of a bank."""

    bank: str
    role: Role
    found: Found


@dataclass(frozen=True, slots=True)
class BankPart:
    """An entry that a picture seems to show in part, or within something larger: keypoints agree on where it is."""

    bank: str
    role: Role
    located: Located
    state: State
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAnswer:
    """What all banks say of one picture.

    Attributes:
        matches: that count, nearest first.
        parts: works found by their keypoints, those with most keypoints first; of banks that keep keypoints, and only
            where pixels were given.
        set_aside: that do not: deconfirmed, quarantined, or nearer to a known harmless picture.
        quarantined: bank and id of entries that this very question set aside as flooding.
        searched: bank to number of entries.
        expected_false: bank to the number of false candidates to be expected for one picture at this size; None where
            the rate was not measured.
        unhashable: too little detail for any hash: nothing was asked, which is not "no match".
    """

    matches: tuple[BankMatch, ...]
    parts: tuple[BankPart, ...]
    set_aside: tuple[BankMatch, ...]
    quarantined: tuple[tuple[str, str], ...]
    searched: Mapping[str, int]
    expected_false: Mapping[str, float | None]
    unhashable: bool


class Banks:
    """Several banks of one hash, asked together.

    Args:
        stores: each with a bank's settings, names unique.
        clock: seconds; for tests.

    Raises:
        OptionError: two banks of one name, banks of different hashes, or none.
        IndexFormatError: an index that is no bank.
    """

    def __init__(self, stores: Sequence[Store], clock: Callable[[], float] = time.monotonic) -> None:
        if not stores:
            raise OptionError("no bank was given", hint="name at least one index")
        self._banks = {(settings := BankSettings.from_json(store.settings)).name: (settings, store) for store in stores}
        if len(self._banks) != len(stores) or len({store.algorithm for store in stores}) != 1:
            raise OptionError("banks need different names and the same hash", hint="ask others separately")
        opened = ((name, KeypointIndex.of(store.folder)) for name, (_, store) in self._banks.items())
        self._keypoints = {name: keypoints for name, keypoints in opened if keypoints is not None}
        self._clock = clock
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    @classmethod
    def open(cls, folders: Sequence[Path]) -> Banks:
        """Open banks; see `Store.open` and this class for errors."""
        return cls([Store.open(folder) for folder in folders])

    @property
    def algorithm(self) -> str:
        """The hash that a picture must be asked with."""
        return next(iter(self._banks.values()))[1].algorithm

    @property
    def members(self) -> Mapping[str, tuple[BankSettings, Store]]:
        """The banks by their names."""
        return self._banks

    @property
    def with_parts(self) -> frozenset[str]:
        """The banks that keep keypoints, in which parts of works are found."""
        return frozenset(self._keypoints)

    def match(self, fingerprint: Fingerprint, pixels: Pixels | None = None, *, limit: int = 100) -> BankAnswer:
        """Ask all banks about one picture.

        Args:
            fingerprint: under `algorithm`.
            pixels: of the same picture, RGB uint8, height x width x 3; without them no parts are looked for.
            limit: matches of each bank at most.
        """
        answer = self._ask(fingerprint.queries(), limit, unhashable=not fingerprint.hashable)
        return answer if pixels is None else replace(answer, parts=tuple(self._parts(pixels, limit)))

    def look_up(self, code: ImageHash, *, limit: int = 100) -> BankAnswer:
        """Ask all banks about one hash as somebody else computed it, in this very orientation.

        Raises:
            OptionError: a hash of another kind.
        """
        if code.algorithm != self.algorithm:
            raise OptionError(f"the banks hold {self.algorithm}, not {code.algorithm}", hint="ask others")
        return self._ask(np.frombuffer(code.bits, np.uint8)[None], limit, unhashable=False)

    def _ask(self, codes: NDArray[np.uint8], limit: int, *, unhashable: bool) -> BankAnswer:
        everything: list[BankMatch] = []
        searched = {}
        for settings, store in self._banks.values():
            answer = store.search(
                codes,
                max(settings.radius, settings.box_radius),
                region_radii={
                    Region.FULL: settings.radius,
                    Region.ON_BLACK: settings.radius,
                    Region.BOX: settings.box_radius,
                },
                limit=limit,
            )
            searched[settings.name] = answer.searched
            everything += [BankMatch(settings.name, settings.role, found) for found in answer.found]
        everything.sort(key=lambda match: (match.found.distance, match.bank, match.found.id))
        harmless = min((m.found.distance for m in everything if m.role is Role.NEGATIVE and _counts(m)), default=None)
        matches, set_aside = [], []
        for match in everything:
            taken_back = harmless is not None and harmless <= match.found.distance and not _confirmed(match)
            if match.role is Role.NEGATIVE or taken_back or not _counts(match):
                set_aside.append(match)
            else:
                matches.append(match)
        return BankAnswer(
            matches=tuple(matches),
            parts=(),
            set_aside=tuple(set_aside),
            quarantined=tuple(self._note(match) for match in matches if self._floods(match)),
            searched=searched,
            expected_false={name: self._expected_false(name, entries) for name, entries in searched.items()},
            unhashable=unhashable,
        )

    def _parts(self, pixels: Pixels, limit: int) -> list[BankPart]:
        found = []
        for name, keypoints in self._keypoints.items():
            settings, store = self._banks[name]
            # Keypoints are written before the entry that they belong to.
            known = (one for one in keypoints.find(pixels) if one.id in store)
            parts = (BankPart(name, settings.role, one, store.state(one.id), store.facts(one.id)) for one in known)
            found += list(islice((part for part in parts if part.state in _COUNTING), limit))
        return sorted(found, key=lambda part: (-part.located.agreeing, part.bank, part.located.id))

    def _expected_false(self, bank: str, entries: int) -> float | None:
        settings, store = self._banks[bank]
        rate = pair_rate(store.algorithm, settings.radius, settings.box_radius)
        return None if rate is None else rate * entries

    def _floods(self, match: BankMatch) -> bool:
        settings, _ = self._banks[match.bank]
        if not settings.flood_limit or _confirmed(match):
            return False
        now, times = self._clock(), self._recent[match.bank, match.found.id]
        times.append(now)
        while times[0] <= now - settings.flood_seconds:
            times.popleft()
        return len(times) > settings.flood_limit

    def _note(self, match: BankMatch) -> tuple[str, str]:
        """Set a flooding entry aside; a person confirms or disables it."""
        settings, store = self._banks[match.bank]
        reason = f"more than {settings.flood_limit} matches within {settings.flood_seconds} s"
        store.set_state(match.found.id, State.QUARANTINED, reason)
        return match.bank, match.found.id


def _counts(match: BankMatch) -> bool:
    return match.found.state in _COUNTING


def _confirmed(match: BankMatch) -> bool:
    """A person has looked at matches with this entry and found them true: nothing takes them back but a person."""
    return match.found.state is State.CONFIRMED
