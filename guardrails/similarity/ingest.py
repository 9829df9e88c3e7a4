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
from guardrails.imaging.decoding import Decoded, decode
from guardrails.similarity.fingerprints import Fingerprinter, Region
from guardrails.similarity.hashes import ImageHash
from guardrails.similarity.interchange import ListedHash, ListFormat, Rejected, read_list
from guardrails.similarity.keypoint_index import KeypointIndex, keypoint_entry
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.sources import Item
from guardrails.similarity.store import Store

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


def ingest(
    store: Store,
    items: Iterable[Item],
    progress: Callable[[int], None] = lambda done: None,
    keypoints: KeypointIndex | None = None,
) -> BuildReport:
    """Hash a collection into an index; can be stopped at any time and called again.

    Args:
        keypoints: of the same index, where parts of its works are to be found.
        progress: told after each batch how many items are done.

    Raises:
        StorageError: the index's folder cannot be written; what was added before stays.
    """
    fingerprinter = Fingerprinter(store.algorithm)
    added = known = unhashable = done = 0
    unreadable: list[Unreadable] = []
    stream = iter(items)
    while batch := list(islice(stream, _BATCH)):
        fresh: dict[str, NewEntry] = {}
        pointed: dict[str, NewEntry] = {}
        for item in batch:
            if item.id in fresh or item.id in store:
                known += 1
                continue
            decoded = _decoded(item)
            if isinstance(decoded, Unreadable):
                unreadable.append(decoded)
                continue
            fresh[item.id] = _hashed(item, decoded, fingerprinter)
            unhashable += not fresh[item.id].rows
            if keypoints is not None:
                pointed[item.id] = keypoint_entry(item.id, decoded.pixels)
        add_works(store, fresh.values(), keypoints, pointed.values())
        added += len(fresh)
        done += len(batch)
        progress(done)
    for index in (store, None if keypoints is None else keypoints.store):
        if index is not None:
            index.merge(everything=True)
    write_unreadable(store.folder, unreadable)
    return BuildReport(added=added, known=known, unhashable=unhashable, unreadable=tuple(unreadable))


def hash_item(item: Item, fingerprinter: Fingerprinter) -> NewEntry | Unreadable:
    """The entry of one picture, or why there is none."""
    decoded = _decoded(item)
    return decoded if isinstance(decoded, Unreadable) else _hashed(item, decoded, fingerprinter)


def add_works(
    store: Store, entries: Iterable[NewEntry], keypoints: KeypointIndex | None, pointed: Iterable[NewEntry]
) -> None:
    """Add entries and their keypoints; those first, so that no entry that is known ever lacks them.

    Raises:
        OptionError: an id that the index holds already.
        StorageError: the folder cannot be written; keypoints without an entry are never answered.
    """
    if keypoints is not None:
        keypoints.add(pointed)
    store.add(entries)


def _decoded(item: Item) -> Decoded | Unreadable:
    if not isinstance(item.data, bytes):
        return Unreadable(item.id, item.data.code, item.data.message)
    try:
        return decode(item.data)
    except GuardrailsError as error:
        return Unreadable(item.id, error.code, error.message)


def _hashed(item: Item, decoded: Decoded, fingerprinter: Fingerprinter) -> NewEntry:
    fingerprint = fingerprinter.fingerprint(decoded.pixels, decoded.alpha)
    height, width = decoded.pixels.shape[:2]
    facts = {**item.facts, "width": str(width), "height": str(height), "quality": str(fingerprint.quality)}
    return NewEntry(item.id, fingerprint.rows, facts)


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
