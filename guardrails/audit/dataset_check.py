"""What a training set holds: licences, gaps, repeats, objections, and pictures that stand on a hash list.

1. Every work's terms are counted, and what is not known about it.
2. Files are asked what they say about training; the site's own files are asked for every work.
3. Pictures are hashed. Equal pixels are exact duplicates, codes within the radius are near ones; what belongs together
   makes one group, with the number of its repeats: what stands in a set many times is what models memorise
   (Carlini et al., "Extracting Training Data from Diffusion Models", USENIX Security 2023, section 5).
4. Codes within the radius of a line of a hash list are hits, in every orientation and in every way in which a file with
   transparency can be shown. They are named by id; their pictures are not shown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from guardrails.audit.collection import Collection, Work, pixel_digest
from guardrails.audit.optout_signals import signals_of_file
from guardrails.domain.rights import Permission, Rights, Signal, terms_of
from guardrails.errors import ImageError, InputError
from guardrails.provenance import Verifier
from guardrails.similarity.hashes import PDQ256, ImageHash, code_distances, pdq256

# PDQ's own recommendation for "the same picture" (Facebook, "PDQ & TMK + PDQF", 2019).
NEAR_RADIUS = 31
_CHUNK = 256
_GAPS = ("licence", "creator", "source")


class SiteRules(Protocol):
    """What a site's own file says of an address."""

    def signals(self, address: str) -> Iterable[Signal]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Works that are the same picture, or nearly.

    Attributes:
        repeats: how often the picture stands in the set, counting repeats of each row.
        exact: all of them have the same pixels.
    """

    works: tuple[str, ...]
    repeats: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListHit:
    """A work on a hash list."""

    work: str
    hash: str
    distance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetReport:
    """What was found.

    Attributes:
        hashed, unhashable: pictures with a code, and those with too little detail for one.
        absent: works whose picture was not at hand: nothing about duplicates and lists is known of these.
        unreadable: file to reason.
        licences, terms, creators: number of works by each.
        missing: what is unknown to the ids of the works that lack it.
        signals: works with at least one signal, by id.
        opted_out: ids of works that must not be learnt from.
        groups: largest first.
    """

    name: str
    works: int
    rows: int
    hashed: int
    unhashable: tuple[str, ...]
    absent: int
    unreadable: Mapping[str, str]
    sides: tuple[int, int]
    licences: Mapping[str, int]
    terms: Mapping[str, int]
    creators: Mapping[str, int]
    sources: Mapping[str, int]
    missing: Mapping[str, tuple[str, ...]]
    signals: Mapping[str, tuple[Signal, ...]]
    opted_out: tuple[str, ...]
    groups: tuple[Group, ...]
    list_hits: tuple[ListHit, ...]
    lists: int

    @property
    def problems(self) -> int:
        """Works that somebody should look at before training."""
        named = {work for works in self.missing.values() for work in works}
        return len(named | set(self.opted_out) | {hit.work for hit in self.list_hits} | set(self.unreadable))


@dataclass(slots=True)
class _Seen:
    digest: str = ""
    code: NDArray[np.uint8] | None = None
    listed_as: Sequence[NDArray[np.uint8]] = ()


def check_dataset(
    collection: Collection,
    verifier: Verifier,
    *,
    now: str,
    sites: Sequence[SiteRules] = (),
    hash_list: NDArray[np.uint8] | None = None,
    progress: Callable[[Iterable[Work], int], Iterable[Work]] = lambda works, _: works,
) -> DatasetReport:
    """Check every work; the steps are those of the module's list.

    Args:
        now: ISO 8601, for signals that are read now.
        sites: files of the sites that the works came from.
        hash_list: PDQ codes, uint8 (n, 32).
        progress: wraps the works in a progress bar; gets the iterable and its length.
    """
    signals: dict[str, tuple[Signal, ...]] = {}
    seen: dict[str, _Seen] = {}
    unreadable: dict[str, str] = {}
    unhashable, sides, absent = [], [], 0
    for work in progress(collection.works, len(collection.works)):
        found = [*work.rights.signals, *(s for site in sites for s in site.signals(_address(work)))]
        try:
            data = collection.data(work)
            # 2.
            if data is not None:
                found += signals_of_file(data, work.id, now, verifier)
            showings = collection.showings(work, data)
        except ImageError as error:
            unreadable[work.id] = error.message
            showings = []
        if found:
            signals[work.id] = tuple(found)
        if not showings:
            absent += work.id not in unreadable
            seen[work.id] = _Seen(work.sha256)
            continue
        # 3.
        hashed = [pdq256(pixels) for pixels in showings]
        pixels, hashes = showings[0], hashed[0]
        sides.append(max(pixels.shape[:2]))
        seen[work.id] = _Seen(
            work.sha256 or pixel_digest(pixels),
            hashes.codes[0] if hashes.hashable else None,
            [one.codes for one in hashed if one.hashable],
        )
        if not hashes.hashable:
            unhashable.append(work.id)
    codes = {work: one.code for work, one in seen.items() if one.code is not None}
    works = [replace(work, rights=_with(work.rights, signals.get(work.id, ()))) for work in collection.works]
    return DatasetReport(
        name=collection.name,
        works=len(works),
        rows=sum(work.repeats for work in works),
        hashed=len(codes),
        unhashable=tuple(unhashable),
        absent=absent,
        unreadable=unreadable,
        sides=(min(sides, default=0), max(sides, default=0)),
        licences=_counts(work.rights.licence or "unknown" for work in works),
        terms=_counts(terms_of(work.rights.licence).value for work in works),
        creators=_counts(work.rights.creator or "unknown" for work in works),
        sources=_counts(work.rights.source or "unknown" for work in works),
        missing={gap: ids for gap in _GAPS if (ids := tuple(w.id for w in works if not getattr(w.rights, gap)))},
        signals=signals,
        opted_out=tuple(w.id for w in works if w.rights.permission is Permission.PROHIBITED),
        groups=_groups(works, seen, codes),
        list_hits=_list_hits(seen, hash_list),
        lists=0 if hash_list is None else len(hash_list),
    )


def read_hash_list(path: Path) -> NDArray[np.uint8]:
    """PDQ codes, one a line: `pdq <64 hexadecimal digits>` as python-threatexchange writes them, or the digits alone.

    Returns:
        uint8 (n, 32).

    Raises:
        InputError: a line is no PDQ code.
    """
    hint = "write `pdq` and 64 hexadecimal digits a line"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", hint=hint) from error
    codes = []
    for number, line in enumerate(lines, start=1):
        digits = line.split("#")[0].removeprefix("pdq ").strip()
        try:
            codes += [np.frombuffer(ImageHash.from_hex(PDQ256, digits).bits, dtype=np.uint8)] if digits else []
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}", hint=hint) from error
    return np.stack(codes) if codes else np.zeros((0, 32), np.uint8)


def _with(rights: Rights, signals: tuple[Signal, ...]) -> Rights:
    return replace(rights, signals=signals)


def _address(work: Work) -> str:
    source = work.rights.source
    return source if "://" in source else (work.file.name if work.file else source)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _groups(
    works: Sequence[Work], seen: Mapping[str, _Seen], codes: Mapping[str, NDArray[np.uint8]]
) -> tuple[Group, ...]:
    """Groups of two or more rows, by equal digests and by near codes, each joined through the other."""
    joined = _Union([work.id for work in works])
    by_digest: dict[str, str] = {}
    for work in works:
        digest = seen[work.id].digest
        if digest:
            joined.join(work.id, by_digest.setdefault(digest, work.id))
    ids = list(codes)
    if ids:
        table = np.stack([codes[work] for work in ids])
        for start in range(0, len(ids), _CHUNK):
            near = code_distances(table[start:], table[start : start + _CHUNK]) <= NEAR_RADIUS
            for row, column in np.argwhere(near):
                joined.join(ids[start + int(row)], ids[start + int(column)])
    repeats = {work.id: work.repeats for work in works}
    groups = [
        Group(
            works=tuple(members),
            repeats=sum(repeats[member] for member in members),
            exact=len({seen[member].digest for member in members}) == 1,
        )
        for members in joined.groups()
    ]
    return tuple(sorted((g for g in groups if g.repeats > 1), key=lambda group: (-group.repeats, group.works)))


class _Union:
    """Disjoint sets of names (Tarjan, 1975)."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parents = {name: name for name in names}

    def _root(self, name: str) -> str:
        while self._parents[name] != name:
            self._parents[name] = name = self._parents[self._parents[name]]
        return name

    def join(self, one: str, other: str) -> None:
        self._parents[self._root(one)] = self._root(other)

    def groups(self) -> list[list[str]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for name in self._parents:
            groups[self._root(name)].append(name)
        return list(groups.values())


def _list_hits(seen: Mapping[str, _Seen], hash_list: NDArray[np.uint8] | None) -> tuple[ListHit, ...]:
    if hash_list is None or not len(hash_list):
        return ()
    lines, hits = np.ascontiguousarray(hash_list), []
    for work, one in seen.items():
        if one.listed_as:
            nearest = code_distances(lines, np.concatenate(one.listed_as)).min(axis=0)
            for line in np.flatnonzero(nearest <= NEAR_RADIUS).tolist():
                hits.append(ListHit(work=work, hash=lines[line].tobytes().hex(), distance=int(nearest[line])))
    return tuple(hits)
