"""Collections into an index: decoded, hashed, added in batches; what cannot be read is counted and listed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from guardrails.errors import GuardrailsError
from guardrails.files import write_atomically
from guardrails.imaging.decoding import decode
from guardrails.imaging.thumbnails import thumbnail
from guardrails.similarity.banks import BankSettings
from guardrails.similarity.fingerprints import Fingerprinter, Region
from guardrails.similarity.hashes import ImageHash
from guardrails.similarity.interchange import ListedHash, ListFormat, Rejected, read_list
from guardrails.similarity.keypoint_index import KeypointIndex, keypoint_entry
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.sources import Item
from guardrails.similarity.store import Store
from guardrails.similarity.thumbnails import Thumbnails

UNREADABLE = "unreadable.csv"
_BATCH = 256
_LIST_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that is not in the index, and why."""

    id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What became of a collection.

    Attributes:
        added: now in the index.
        known: were in it before, by their id: a build that was stopped goes on where it was.
        unhashable: of the added, those with too little detail to be found by a hash.
        unreadable: not in the index; also written to `unreadable.csv` in its folder.
    """

    added: int
    known: int
    unhashable: int
    unreadable: tuple[Unreadable, ...]


def ingest(store: Store, items: Iterable[Item], progress: Callable[[int], None] = lambda done: None) -> BuildReport:
    """Hash a collection into an index; can be stopped at any time and called again.

    Args:
        progress: told after each batch how many items are done.

    Raises:
        StorageError: the index's folder cannot be written; what was added before stays.
    """
    intake = Intake(store)
    added = known = unhashable = done = 0
    unreadable: list[Unreadable] = []
    stream = iter(items)
    while batch := list(islice(stream, _BATCH)):
        fresh: dict[str, Hashed] = {}
        for item in batch:
            if item.id in fresh or item.id in store:
                known += 1
                continue
            try:
                fresh[item.id] = hashed = intake.hash(item)
                unhashable += not hashed.entry.rows
            except GuardrailsError as error:
                unreadable.append(Unreadable(item.id, error.code, error.message))
        added += intake.add(fresh.values())
        done += len(batch)
        progress(done)
    intake.merge()
    write_unreadable(store.folder, unreadable)
    return BuildReport(added=added, known=known, unhashable=unhashable, unreadable=tuple(unreadable))


@dataclass(frozen=True, slots=True)
class Hashed:
    """A picture as an index keeps it.

    Attributes:
        thumbnail: WebP; empty where none is kept.
        keypoints: the same work in the index's keypoints; None where it has none.
    """

    entry: NewEntry
    thumbnail: bytes = b""
    keypoints: NewEntry | None = None


class Intake:
    """Hashes pictures for an index, and keeps of them what its bank may keep: of a sensitive one, hashes alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fingerprinter = Fingerprinter(store.algorithm)
        self._thumbnails = Thumbnails(store.folder)
        self._keypoints = KeypointIndex.of(store.folder)
        settings = BankSettings.from_json(store.settings) if store.settings else None
        self._hashes_only = settings is not None and settings.hashes_only
        self._thumbnail_bytes = 0 if settings is None else settings.thumbnail_limit

    def hash(self, item: Item, *, measured: bool = True) -> Hashed:
        """One picture, hashed.

        Args:
            measured: add its size and quality to its facts.

        Raises:
            ImageError: it cannot be had or read; says why.
        """
        decoded = decode(item.read())
        fingerprint = self._fingerprinter.fingerprint(decoded.pixels, decoded.alpha)
        facts = dict(item.facts)
        if measured:
            height, width = decoded.pixels.shape[:2]
            facts |= {"width": str(width), "height": str(height), "quality": str(fingerprint.quality)}
        limit = self._thumbnail_bytes
        return Hashed(
            NewEntry(item.id, fingerprint.rows, {} if self._hashes_only else facts),
            thumbnail(decoded.pixels, max_bytes=limit) if limit else b"",
            None if self._keypoints is None else keypoint_entry(item.id, decoded.pixels),
        )

    def add(self, hashed: Iterable[Hashed]) -> int:
        """Add works to the index; returns how many.

        Raises:
            OptionError: an id that is there already.
            StorageError: the index's folder cannot be written.
        """
        works = list(hashed)
        # First, because a thumbnail or keypoints too many are harmless, and a work without them would be incomplete.
        self._thumbnails.put({work.entry.id: work.thumbnail for work in works if work.thumbnail})
        if self._keypoints is not None:
            self._keypoints.add(work.keypoints for work in works if work.keypoints is not None)
        return self._store.add(work.entry for work in works)

    def merge(self) -> None:
        """Make one segment of everything.

        Raises:
            StorageError: the index's folder cannot be written.
        """
        self._store.merge(everything=True)
        if self._keypoints is not None:
            self._keypoints.store.merge(everything=True)


def write_unreadable(folder: Path, unreadable: list[Unreadable]) -> None:
    """List what could not be read, in place of the list of the build before.

    Raises:
        StorageError: the folder cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "code", "message"])
    writer.writerows([one.id, one.code, one.message] for one in unreadable)
    write_atomically(folder / UNREADABLE, text.getvalue().encode("utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a hash list.

    Attributes:
        added: now in the index.
        known: ids that were there before, or that came twice.
        rejected: lines that could not be used, and why.
    """

    added: int
    known: int
    rejected: tuple[Rejected, ...]


def import_list(
    store: Store,
    path: Path,
    list_format: ListFormat | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ImportReport:
    """Add a hash list to an index of the same hash; can be stopped and called again.

    Raises:
        OptionError: the list cannot be read.
        StorageError: the index's folder cannot be written; what was added before stays.
    """
    rejected: list[Rejected] = []
    added = known = 0
    stream = read_list(path, store.algorithm, rejected, list_format)
    while batch := list(islice(stream, _LIST_BATCH)):
        fresh: dict[str, NewEntry] = {}
        for one in batch:
            if one.id in fresh or one.id in store:
                known += 1
            else:
                fresh[one.id] = NewEntry(one.id, [(Region.FULL, one.hash.bits)], one.facts)
        added += store.add(fresh.values())
        progress(added + known)
    store.merge()
    return ImportReport(added=added, known=known, rejected=tuple(rejected))


def export_list(store: Store) -> Iterator[ListedHash]:
    """The full-frame hash of every entry that is not disabled, in the order they were added."""
    for part in store.parts:
        for row in np.flatnonzero(np.asarray(part.regions) == Region.FULL):
            number = int(part.entry[row])
            if part.states.get(number) is not State.DISABLED:
                code = ImageHash(store.algorithm, part.code(int(row)))
                yield ListedHash(part.name(number), code, dict(part.facts(number)))
