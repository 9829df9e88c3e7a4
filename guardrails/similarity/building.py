"""Hash a collection into an index folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from guardrails.errors import IndexFormatError
from guardrails.imaging import Pixels
from guardrails.imaging.thumbnails import thumbnail
from guardrails.similarity.colours import COLOUR_BYTES
from guardrails.similarity.description import describe
from guardrails.similarity.entries import EntryTable
from guardrails.similarity.hashes import HASH_BYTES, PDQ256, PHASH64
from guardrails.similarity.index import Arrays, write_index
from guardrails.similarity.keypoint_index import KeypointIndex, keypoint_entry
from guardrails.similarity.thumbnails import Thumbnails
from guardrails.similarity.views import Kind

# Works whose keypoints are written together.
_BATCH = 64


def build_index(
    pictures: Iterable[Pixels],
    entries: EntryTable,
    folder: Path,
    progress: Callable[[Iterable[Pixels], int], Iterable[Pixels]] = lambda pictures, _: pictures,
    *,
    thumbnail_bytes: int = 0,
) -> None:
    """Hash pictures one at a time and write `folder`; the same pictures give the same bytes.

    Args:
        pictures: RGB, uint8, height x width x 3, in the order of `entries`.
        progress: wraps the pictures in a progress bar; gets the iterable and its length.
        thumbnail_bytes: how large the thumbnail of a work may be that is kept beside its hashes; 0 keeps none.

    Raises:
        IndexFormatError: not one picture for each entry.
        StorageError: the folder cannot be written.
    """
    rows: list[tuple[Kind, int, bytes, bytes]] = []
    colours: list[bytes] = []
    thumbnails: dict[str, bytes] = {}
    for number, pixels in enumerate(progress(pictures, len(entries))):
        description = describe(pixels)
        colours.append(description.colours(0).tobytes())
        if thumbnail_bytes and number < len(entries):
            thumbnails[entries[number].id] = thumbnail(pixels, max_bytes=thumbnail_bytes)
        rows.extend(
            (kind, number, view.pdq.upright.bits, description.phash(kind, 0).bits)
            for kind, view in description.views.items()
        )
    if len(colours) != len(entries):
        raise IndexFormatError(
            f"{len(colours)} pictures for {len(entries)} entries", hint="give one picture for each row of the table"
        )
    rows.sort(key=lambda row: row[:2])
    write_index(
        folder,
        Arrays(
            pdq256=_bytes_column([row[2] for row in rows], HASH_BYTES[PDQ256]),
            phash64=_bytes_column([row[3] for row in rows], HASH_BYTES[PHASH64]),
            kinds=np.array([row[0] for row in rows], dtype=np.uint8),
            entry=np.array([row[1] for row in rows], dtype=np.uint32),
            colours=_bytes_column(colours, COLOUR_BYTES),
        ),
        entries.identity,
    )
    Thumbnails(folder).put(thumbnails)


def build_keypoints(
    pictures: Iterable[Pixels],
    entries: EntryTable,
    folder: Path,
    progress: Callable[[Iterable[Pixels], int], Iterable[Pixels]] = lambda pictures, _: pictures,
) -> None:
    """Keep the keypoints of works beside their index, so that parts of them are found; goes on where it stopped.

    Args:
        pictures, progress: as for `build_index`.
        folder: that holds the index's folder.

    Raises:
        IndexFormatError: what is there is damaged.
        StorageError: the folder cannot be written.
    """
    index = KeypointIndex.of(folder) or KeypointIndex.create(folder)
    works = zip((entry.id for entry in entries.entries), progress(pictures, len(entries)), strict=True)
    while batch := list(islice(works, _BATCH)):
        index.add(keypoint_entry(name, pixels) for name, pixels in batch)
    index.store.merge(everything=True)


def _bytes_column(values: list[bytes], width: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, width)
