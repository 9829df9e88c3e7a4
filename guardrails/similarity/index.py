"""The index of a guard: one segment with the views of every work, searched exactly.

A segment (see `segments`) whose codes are PDQ and whose regions are `views.Kind`, rows sorted by kind, then entry, with
two more columns::

    phash64.npy    uint8 (n, 8)         perceptual DCT hashes of the same views
    colours.npy    uint8 (entries, c)   coarse colour layout of the centred view, see `colours`
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError
from guardrails.imaging.decoding import CANONICAL_DECODE
from guardrails.similarity.colours import COLOUR_BYTES
from guardrails.similarity.hashes import HASH_BYTES, PDQ256, PHASH64, code_distances
from guardrails.similarity.segments import CODES, ENTRY, REGIONS, open_segment, write_segment
from guardrails.similarity.views import NORMALISATION, Kind

_REBUILD = "build the index again with this version"
_COLOURS = "colours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """The columns of an index; n rows, several for each entry."""

    pdq256: NDArray[np.uint8]
    phash64: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    entry: NDArray[np.uint32]
    colours: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Hit:
    """A row within the radius.

    Attributes:
        orientation: number of the query code that came nearest.
    """

    row: int
    distance: int
    orientation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HashIndex:
    """An opened index; its arrays are memory-mapped.

    Attributes:
        digest: SHA-256 of the manifest, which holds those of all other files.
        entries: number of works; some may have no row, when they have too little detail to be hashed.
        entries_identity: `EntryTable.identity` of the table it was built from.
    """

    arrays: Arrays
    digest: str
    entries: int
    entries_identity: str

    def search(self, codes: NDArray[np.uint8], radius: int, kind: Kind) -> list[Hit]:
        """All rows of one kind whose PDQ code is within `radius` (inclusive) of any of `codes`: an exact scan.

        Args:
            codes: uint8 (m, 32), for example the eight orientations of a query.
        """
        # Rows are sorted by kind, so that those of one kind are one slice.
        first, last = np.searchsorted(self.arrays.kinds, [kind, kind + 1])
        if first == last:
            return []
        distances = code_distances(self.arrays.pdq256[first:last], codes)
        nearest = distances.argmin(axis=0)
        smallest = distances.min(axis=0)
        return [
            Hit(row=int(first + row), distance=int(smallest[row]), orientation=int(nearest[row]))
            for row in np.flatnonzero(smallest <= radius)
        ]


def write_index(folder: Path, arrays: Arrays, entries_identity: str) -> None:
    """Write the index; a build that stops half-way leaves none that opens. An older one at `folder` is replaced.

    Raises:
        StorageError: the folder cannot be written.
    """
    # A segment is never changed, so an older one has to make room.
    shutil.rmtree(folder, ignore_errors=True)
    columns: dict[str, NDArray[Any]] = {
        CODES: arrays.pdq256,
        REGIONS: arrays.kinds,
        ENTRY: arrays.entry,
        PHASH64: arrays.phash64,
        _COLOURS: arrays.colours,
    }
    facts = {
        **_procedures(),
        "libraries": _libraries(),
        "rows_by_kind": {kind.name.lower(): int(np.sum(arrays.kinds == kind)) for kind in Kind},
        "entries_identity": entries_identity,
    }
    # Small enough to be scanned: no radius to lay out tables for.
    write_segment(folder.parent, PDQ256, columns, len(arrays.colours), facts, radius=0, name=folder.name)


def open_index(folder: Path) -> HashIndex:
    """Open and check an index: format, procedures, digests, shapes, types, order and ranges.

    Raises:
        IndexFormatError: missing, damaged, cut short, or made by other procedures.
    """
    segment = open_segment(folder, {"hash": PDQ256, **_procedures()}, verify=True)
    columns = segment.columns
    expected = {PHASH64: (segment.rows, HASH_BYTES[PHASH64]), _COLOURS: (segment.entries, COLOUR_BYTES)}
    for name, shape in expected.items():
        if name not in columns or columns[name].shape != shape or columns[name].dtype != np.uint8:
            raise IndexFormatError(f"{folder / name}.npy does not hold uint8 {shape}", hint=_REBUILD)
    arrays = Arrays(
        pdq256=columns[CODES],
        phash64=columns[PHASH64],
        kinds=columns[REGIONS],
        entry=columns[ENTRY],
        colours=columns[_COLOURS],
    )
    ordered = not np.any(np.diff(arrays.kinds.astype(np.int16)) < 0)
    if segment.rows and not (ordered and int(arrays.entry.max()) < segment.entries):
        raise IndexFormatError(f"{folder}: rows are out of order or name entries that do not exist", hint=_REBUILD)
    return HashIndex(
        arrays=arrays,
        digest=segment.digest,
        entries=segment.entries,
        entries_identity=str(segment.manifest.get("entries_identity")),
    )


def _procedures() -> dict[str, str]:
    """What must be the same when building and when asking, for codes to be comparable."""
    return {"decode": CANONICAL_DECODE, "normalisation": NORMALISATION}


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("ImageHash", "numpy", "opencv-python-headless", "pdqhash", "pillow")}
