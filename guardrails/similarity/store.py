"""An index that changes: immutable segments, a journal of what came since, and one pointer that says which.

A folder of::

    CURRENT          which segments and which journal, the hash and the procedures, see `pointer`
    segment-*/       see `segments`
    journal-*.log    see `journal`: entries added and states set since the last merge
    LOCK             held by the one process that writes

Readers take no lock. Before each search they look whether the pointer or the journal has changed, so that an entry is
found, or no longer found, by the next query of every process. A writer killed at any moment leaves the index as it was
before or after its change: segments and journals are complete before the pointer names them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError, OptionError
from guardrails.files import create_folder, locked, publish_folder, sync_folder, write_atomically
from guardrails.similarity.answers import Answer, Found, RadiusIndex, check_entry, duplicate, unknown
from guardrails.similarity.fingerprints import Region
from guardrails.similarity.hashes import HASH_BYTES, KEYPOINT128
from guardrails.similarity.journal import Change, append_changes, format_changes, read_changes
from guardrails.similarity.parts import (
    NUMBERED,
    NewEntry,
    Part,
    RecentPart,
    SegmentPart,
    State,
    entries_of,
    merged_columns,
)
from guardrails.similarity.pointer import POINTER, Pointer, read_pointer
from guardrails.similarity.segments import (
    CODES,
    ENTRY,
    REGIONS,
    STAGED,
    Segment,
    clear_staged,
    open_segment,
    write_segment,
)
from guardrails.similarity.thumbnails import Thumbnails

# The tables of new segments are laid out for this radius; other radii are exact, too.
PLANNED_RADIUS = 31
_PLANNED_REACH = {KEYPOINT128: 7}
# More changed rows than this become a segment: opening an index reads its journal.
MERGE_ROWS = 20_000
_LOCK = "LOCK"
_ATTEMPTS = 20

Snapshot: TypeAlias = tuple[Pointer, int]


@dataclass(slots=True)
class _View:
    """What a reader has read so far."""

    pointer: Pointer
    stamp: bytes
    parts: list[SegmentPart]
    recent: RecentPart
    offset: int = 0

    @property
    def all_parts(self) -> list[Part]:
        return [*self.parts, self.recent]

    def find(self, entry_id: str) -> tuple[Part, int] | None:
        for part in self.all_parts:
            number = part.find(entry_id)
            if number is not None:
                return part, number
        return None

    def apply(self, change: Change) -> None:
        try:
            if "add" in change:
                rows = [(int(region), bytes.fromhex(code)) for region, code in change["rows"]]
                self.recent.add(NewEntry(str(change["add"]), rows, dict(change.get("facts", {}))))
                return
            found, state = self.find(str(change["state"])), State(change["to"])
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFormatError(
                f"the journal {self.pointer.journal} holds a change of unknown form: {error}",
                hint="restore the index folder from a copy",
            ) from error
        if found is not None:
            part, number = found
            if state is State.ACTIVE:
                part.states.pop(number, None)
            else:
                part.states[number] = state


class Store(RadiusIndex):
    """An opened index; safe to share between threads.

    Use `create` or `open`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.RLock()
        self._view = self._read()

    @classmethod
    def create(cls, folder: Path, algorithm: str, settings: Mapping[str, Any] | None = None) -> Store:
        """Make an empty index.

        Args:
            algorithm: one of `hashes.HASH_BYTES`.
            settings: of the bank that it is, see `banks`.

        Raises:
            OptionError: there is an index already, or the hash is not known.
            StorageError: the folder cannot be written.
        """
        if algorithm not in HASH_BYTES:
            raise OptionError(f"{algorithm!r} is no known hash", hint=f"use one of {', '.join(sorted(HASH_BYTES))}")
        if (folder / POINTER).exists():
            raise OptionError(f"{folder} holds an index already", hint="add to it, or choose another folder")

        def fill(made: Path) -> None:
            journal = "journal-0.log"
            write_atomically(made / journal, b"")
            Pointer(algorithm, (), journal, settings or {}).write(made)

        def fill_new(made: Path) -> None:
            fill(made)
            made.chmod(0o755)

        # At once, because whoever looks into the folder above must find an index or none.
        if not folder.exists():
            create_folder(folder, "an index", fill_new)
        with _writing(folder):
            if not (folder / POINTER).exists():
                fill(folder)
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open an index.

        Raises:
            IndexFormatError: missing, damaged, of another format, or made by other procedures.
        """
        return cls(folder)

    @property
    def algorithm(self) -> str:
        """The hash of all its codes."""
        return self._view.pointer.algorithm

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the bank that this index is, as of now."""
        with self._guard:
            self._refresh()
            return self._view.pointer.settings

    @property
    def digest(self) -> str:
        """Names the published state: the last segment's digest, or "empty" before the first."""
        segments = self._view.pointer.segments
        return segments[-1][1] if segments else "empty"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything that is searched, as of now."""
        with self._guard:
            self._refresh()
            return tuple(self._view.all_parts)

    def __len__(self) -> int:
        """Entries, whatever their state."""
        return sum(part.entries for part in self.parts)

    def __contains__(self, entry_id: str) -> bool:
        with self._guard:
            self._refresh()
            return self._view.find(entry_id) is not None

    def _search(self, codes: NDArray[np.uint8], radius: int, region_radii: Mapping[Region, int], limit: int) -> Answer:
        parts = self.parts
        hits = [hit for part in parts for hit in _nearest(part, codes, radius, region_radii)]
        hits.sort(key=lambda hit: hit.distance)
        # Names decide among equals, and are read for no more entries than can be among the first.
        last = hits[min(limit, len(hits)) - 1].distance if hits else 0
        found = sorted(
            (hit.found() for hit in takewhile(lambda hit: hit.distance <= last, hits)),
            key=lambda one: (one.distance, one.id),
        )
        # A copy of the states, because another thread may change one meanwhile.
        searched = sum(part.entries - list(part.states.values()).count(State.DISABLED) for part in parts)
        return Answer(found=tuple(found[:limit]), total=len(hits), searched=searched, radius=radius)

    def facts(self, entry_id: str) -> Mapping[str, str]:
        """What is known about an entry.

        Raises:
            OptionError: no such entry.
        """
        with self._guard:
            self._refresh()
            part, number = self._known(entry_id)
            return part.facts(number)

    def state(self, entry_id: str) -> State:
        """The state of an entry.

        Raises:
            OptionError: no such entry.
        """
        with self._guard:
            self._refresh()
            part, number = self._known(entry_id)
            return part.states.get(number, State.ACTIVE)

    def add(self, entries: Iterable[NewEntry]) -> int:
        """See `answers.RadiusIndex.add`; the next search of every process finds them."""
        changes = []
        with self._guard, self._changing() as view:
            seen: set[str] = set()
            for entry in entries:
                check_entry(entry, view.pointer.algorithm)
                if entry.id in seen or view.find(entry.id) is not None:
                    raise duplicate(entry.id)
                seen.add(entry.id)
                rows = [[int(region), code.hex()] for region, code in entry.rows]
                changes.append({"add": entry.id, "rows": rows, "facts": dict(entry.facts)})
            self._append(view, changes)
            if view.recent.rows > MERGE_ROWS or view.recent.entries > MERGE_ROWS:
                self._merge(view, everything=False)
        return len(changes)

    def set_state(self, entry_id: str, state: State, reason: str = "") -> None:
        """See `answers.RadiusIndex.set_state`; the next search of every process knows it."""
        with self._guard, self._changing() as view:
            self._known(entry_id)
            self._append(view, [{"state": entry_id, "to": state.value, "reason": reason}])

    def add_segment(
        self,
        codes: NDArray[np.uint8],
        *,
        prefix: str,
        regions: NDArray[np.uint8] | None = None,
    ) -> None:
        """Add many codes at once, one entry each, named by a prefix and their number; arrays may be memory-mapped.

        Raises:
            OptionError: the prefix is in use.
            StorageError: the folder cannot be written.
            ValueError: codes of the wrong shape.
        """
        with self._guard, self._changing() as view:
            if any(part.prefix == prefix for part in view.parts) or view.find(f"{prefix}0") is not None:
                raise OptionError(f"the index holds {prefix}0 already", hint="choose another prefix")
            columns: dict[str, NDArray[Any]] = {
                CODES: codes,
                REGIONS: np.zeros(len(codes), np.uint8) if regions is None else regions,
                ENTRY: np.arange(len(codes), dtype=np.uint32),
            }
            segment = self._write_segment(view.pointer, columns, len(codes), {NUMBERED: prefix})
            replace(view.pointer, segments=(*view.pointer.segments, segment)).write(self.folder)
            self._view = self._read()

    @property
    def snapshot(self) -> Snapshot:
        """Names what the index holds now; another one after every change."""
        with self._guard:
            self._refresh()
            return self._view.pointer, self._view.offset

    def adopt(self, others: Sequence[Store], since: Snapshot | None = None) -> None:
        """Take over the entries of other indexes of the same hash, and their thumbnails.

        Args:
            others: no id in two of them, everything merged, on the same file system.
            since: when this index has not changed since this snapshot, against which the others' ids are new, their
                segments are linked and not read. Otherwise every entry that is not here yet is added by itself.

        Raises:
            StorageError: the folder cannot be written.
        """
        thumbnails = Thumbnails(self.folder)
        for other in others:
            thumbnails.take_over(other.folder)
        with self._guard, self._changing() as view:
            segments = [part.segment for other in others for part in other.parts if isinstance(part, SegmentPart)]
            if since == (view.pointer, view.offset):
                linked = tuple(_linked(segment, self.folder) for segment in segments)
                replace(view.pointer, segments=(*view.pointer.segments, *linked)).write(self.folder)
                self._view = self._read()
                return
        for entries in (entries_of(part) for other in others for part in other.parts):
            while batch := list(islice(entries, MERGE_ROWS)):
                self.add(entry for entry in batch if entry.id not in self)

    def merge(self, *, everything: bool = False) -> None:
        """Make recent entries a segment, together with smaller ones before it, or with all.

        With `everything` the same entries added in the same order give the same bytes, whatever happened in between.

        Raises:
            StorageError: the folder cannot be written.
        """
        with self._guard, self._changing() as view:
            self._merge(view, everything=everything)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replace the bank's settings.

        Raises:
            StorageError: the folder cannot be written.
        """
        with self._guard, self._changing() as view:
            replace(view.pointer, settings=dict(settings)).write(self.folder)
            self._view = self._read()

    def verify(self) -> None:
        """Recompute the SHA-256 of every file of every segment.

        Raises:
            IndexFormatError: a file is not the one that was published.
        """
        while True:
            (before, _), parts = self.snapshot, self.parts
            try:
                for part in parts:
                    if isinstance(part, SegmentPart):
                        part.segment.verify()
                return
            except IndexFormatError:
                # A merge of another process may have removed the segment meanwhile.
                if self.snapshot[0] == before:
                    raise

    def warm(self) -> None:
        """Read all pages and compile the inner loops, so that the first queries are not slow."""
        for part in self._view.parts:
            part.segment.warm()
        self.search(np.zeros((1, HASH_BYTES[self.algorithm]), np.uint8), 0, limit=1)

    def _read(self) -> _View:
        """Open what the pointer names; a merge may remove it meanwhile, then the pointer is read again."""
        for attempt in range(_ATTEMPTS):
            stamp = _stamp(self.folder)
            pointer = read_pointer(self.folder)
            try:
                parts = [SegmentPart(self._open(pointer, *segment)) for segment in pointer.segments]
                view = _View(pointer, stamp, parts, RecentPart(pointer.algorithm))
                _catch_up(view, self.folder)
            except IndexFormatError:
                if attempt == _ATTEMPTS - 1 or _stamp(self.folder) == stamp:
                    raise
                continue
            return view
        raise AssertionError("unreachable")

    def _open(self, pointer: Pointer, name: str, digest: str) -> Segment:
        segment = open_segment(self.folder / name, {"hash": pointer.algorithm, **pointer.procedures})
        if segment.digest != digest:
            raise IndexFormatError(
                f"{segment.folder} is not the segment that was published", hint="restore the index from a copy"
            )
        return segment

    def _refresh(self) -> None:
        view = self._view
        if _stamp(self.folder) == view.stamp:
            try:
                _catch_up(view, self.folder)
                return
            except IndexFormatError:
                # A merge of another process since the look at the pointer has removed the journal.
                if _stamp(self.folder) == view.stamp:
                    raise
        self._view = self._read()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_View]:
        """The newest state, while no other process can change it."""
        with _writing(self.folder):
            self._refresh()
            yield self._view

    def _append(self, view: _View, changes: list[Change]) -> None:
        if changes:
            append_changes(self.folder / view.pointer.journal, view.offset, changes)
            _catch_up(view, self.folder)

    def _known(self, entry_id: str) -> tuple[Part, int]:
        found = self._view.find(entry_id)
        if found is None:
            raise unknown(entry_id)
        return found

    def _merge(self, view: _View, *, everything: bool) -> None:
        kept: list[SegmentPart] = list(view.parts)
        rows = max(view.recent.rows, 1)
        chosen: list[SegmentPart | RecentPart] = [view.recent] if view.recent.entries else []
        while kept and kept[-1].prefix is None and (everything or kept[-1].segment.rows < 2 * rows):
            rows += kept[-1].segment.rows
            chosen.insert(0, kept.pop())
        if chosen == [] or (len(chosen) == 1 and isinstance(chosen[0], SegmentPart)):
            return
        columns, entries = merged_columns(chosen)
        segment = self._write_segment(view.pointer, columns, entries, {})
        # The states of all parts go into the new journal: segments say nothing of states.
        changes: list[Change] = [
            {"state": part.name(number), "to": state.value, "reason": "kept at a merge"}
            for part in view.all_parts
            for number, state in sorted(part.states.items())
        ]
        number = int(view.pointer.journal.removeprefix("journal-").removesuffix(".log")) + 1
        journal = f"journal-{number}.log"
        write_atomically(self.folder / journal, format_changes(changes))
        names = tuple((part.segment.name, part.segment.digest) for part in kept)
        replace(view.pointer, segments=(*names, segment), journal=journal).write(self.folder)
        self._view = self._read()
        self._remove_unused()

    def _write_segment(
        self, pointer: Pointer, columns: Mapping[str, NDArray[Any]], entries: int, facts: Mapping[str, Any]
    ) -> tuple[str, str]:
        folder = write_segment(
            self.folder,
            pointer.algorithm,
            columns,
            entries,
            {**pointer.procedures, **facts},
            radius=_PLANNED_REACH.get(pointer.algorithm, PLANNED_RADIUS),
        )
        return folder.name, open_segment(folder, {}).digest

    def _remove_unused(self) -> None:
        """Readers that still map a removed file keep it until they close it."""
        used = {name for name, _ in self._view.pointer.segments} | {self._view.pointer.journal}
        for path in [*self.folder.glob("segment-*"), *self.folder.glob("journal-*.log")]:
            if path.name not in used:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _catch_up(view: _View, folder: Path) -> None:
    """Apply what the journal has gained."""
    path = folder / view.pointer.journal
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise IndexFormatError(f"cannot read {path}: {error}", hint="restore the index folder from a copy") from error
    if size != view.offset:
        changes, offset = read_changes(path, view.offset)
        for change in changes:
            view.apply(change)
        # Last, so that a change that cannot be applied stays an error.
        view.offset = offset


def _linked(segment: Segment, folder: Path) -> tuple[str, str]:
    """The same files in another folder; name and digest."""
    staged = Path(tempfile.mkdtemp(dir=folder, prefix=STAGED))
    shutil.copytree(segment.folder, staged, copy_function=os.link, dirs_exist_ok=True)
    staged.chmod(0o755)
    sync_folder(staged)
    if not publish_folder(staged, folder / segment.name):
        shutil.rmtree(staged)
    return segment.name, segment.digest


class _Hit(NamedTuple):
    """An entry's nearest row."""

    distance: int
    query: int
    region: int
    number: int
    part: Part

    def found(self) -> Found:
        return Found(
            id=self.part.name(self.number),
            distance=self.distance,
            region=Region(self.region),
            query=self.query,
            state=self.part.states.get(self.number, State.ACTIVE),
            facts=self.part.facts(self.number),
        )


def _nearest(part: Part, codes: NDArray[np.uint8], radius: int, region_radii: Mapping[Region, int]) -> list[_Hit]:
    """Every entry near any code, disabled ones left out."""
    best: dict[int, _Hit] = {}
    for query, code in enumerate(codes):
        near = part.within(code, radius)
        if not near.total:
            continue
        regions, numbers = part.regions[near.rows].tolist(), part.entry[near.rows].tolist()
        for distance, region, number in zip(near.distances.tolist(), regions, numbers, strict=True):
            if distance > region_radii.get(region, radius) or part.states.get(number) is State.DISABLED:
                continue
            hit = _Hit(distance, query, region, number, part)
            known = best.get(number)
            if known is None or hit[:3] < known[:3]:
                best[number] = hit
    return list(best.values())


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold the index's lock; what writers before left half-built is removed."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with locked(descriptor):
            clear_staged(folder)
            yield
    finally:
        os.close(descriptor)


def _stamp(folder: Path) -> bytes:
    """The pointer itself: inode and time of two files that replaced each other can be equal."""
    try:
        return (folder / POINTER).read_bytes()
    except OSError as error:
        raise IndexFormatError(
            f"{folder} holds no index: {error.strerror}", hint="build one with `guardrails similarity build`"
        ) from error
