"""The immutable index on disk and its exact Hamming-radius search.

Format 1, a folder of::

    codes-pdq256.npy    uint8 (n, 32)        PDQ codes, rows sorted by kind, then entry
    codes-phash64.npy   uint8 (n, 8)         perceptual DCT hashes of the same views
    kinds.npy           uint8 (n,)           `views.Kind`
    entry.npy           uint32 (n,)          row -> number in the entry table
    colours.npy         uint8 (entries, c)   coarse colour layout of the centred view, see `colours`
    manifest.json       format, procedures, library versions, counts, SHA-256 of every file; written last

The same pictures in the same order give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError
from guardrails.files import write_atomically
from guardrails.imaging.decoding import CANONICAL_DECODE
from guardrails.similarity.colours import COLOUR_BYTES
from guardrails.similarity.hashes import HASH_BYTES, PDQ256, PHASH64, code_distances
from guardrails.similarity.views import NORMALISATION, Kind

FORMAT = 1
MANIFEST = "manifest.json"
_REBUILD = "build the index again with this version"
_FILES = {
    "pdq256": "codes-pdq256.npy",
    "phash64": "codes-phash64.npy",
    "kinds": "kinds.npy",
    "entry": "entry.npy",
    "colours": "colours.npy",
}


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
    """Write all files, the manifest last: a build that stops half-way leaves an index that does not open.

    Raises:
        StorageError: the folder cannot be written.
    """
    contents = {_FILES[field.name]: _npy(getattr(arrays, field.name)) for field in fields(Arrays)}
    manifest = {
        "format": FORMAT,
        "hashes": sorted(HASH_BYTES),
        "procedure": _procedure(),
        "libraries": _libraries(),
        "rows": len(arrays.kinds),
        "rows_by_kind": {kind.name.lower(): int(np.sum(arrays.kinds == kind)) for kind in Kind},
        "entries": len(arrays.colours),
        "entries_identity": entries_identity,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    for name, data in contents.items():
        write_atomically(folder / name, data)
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode("utf-8"))


def open_index(folder: Path) -> HashIndex:
    """Open and check an index: format, procedures, digests, shapes, types, order and ranges.

    Raises:
        IndexFormatError: missing, damaged, cut short, or made by other procedures.
    """
    text, manifest = _read_manifest(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise IndexFormatError(f"{folder} has index format {manifest.get('format')!r}, not {FORMAT}", hint=_REBUILD)
    if manifest.get("procedure") != _procedure():
        raise IndexFormatError(f"{folder} was hashed by other procedures: {manifest.get('procedure')}", hint=_REBUILD)
    arrays = Arrays(**{name: _open_column(folder / file, manifest) for name, file in _FILES.items()})
    _check_columns(folder, arrays, manifest)
    return HashIndex(
        arrays=arrays,
        digest=hashlib.sha256(text).hexdigest(),
        entries=len(arrays.colours),
        entries_identity=str(manifest.get("entries_identity")),
    )


def _procedure() -> dict[str, str]:
    """What must be the same when building and when asking, for codes to be comparable."""
    return {"decode": CANONICAL_DECODE, "normalisation": NORMALISATION}


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("ImageHash", "numpy", "opencv-python-headless", "pdqhash", "pillow")}


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read_manifest(path: Path) -> tuple[bytes, Mapping[str, Any]]:
    try:
        text = path.read_bytes()
        manifest = json.loads(text)
    except (OSError, ValueError) as error:
        raise IndexFormatError(f"cannot read the index manifest {path}: {error}", hint=_REBUILD) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise IndexFormatError(f"{path} is no index manifest", hint=_REBUILD)
    return text, manifest


def _open_column(path: Path, manifest: Mapping[str, Any]) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != manifest["files"].get(path.name):
            raise IndexFormatError(f"{path} is not the file that the index was published with", hint=_REBUILD)
        column: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexFormatError(f"cannot open {path}: {error}", hint=_REBUILD) from error
    return column


def _check_columns(folder: Path, arrays: Arrays, manifest: Mapping[str, Any]) -> None:
    rows, entries = manifest.get("rows"), manifest.get("entries")
    expected = {
        "pdq256": (np.uint8, (rows, HASH_BYTES[PDQ256])),
        "phash64": (np.uint8, (rows, HASH_BYTES[PHASH64])),
        "kinds": (np.uint8, (rows,)),
        "entry": (np.uint32, (rows,)),
        "colours": (np.uint8, (entries, COLOUR_BYTES)),
    }
    for name, (dtype, shape) in expected.items():
        column = getattr(arrays, name)
        if column.dtype != dtype or column.shape != shape:
            raise IndexFormatError(
                f"{folder / _FILES[name]} holds {column.dtype} {column.shape}, not {np.dtype(dtype)} {shape}",
                hint=_REBUILD,
            )
    if rows and (np.any(np.diff(arrays.kinds.astype(np.int16)) < 0) or int(arrays.entry.max()) >= len(arrays.colours)):
        raise IndexFormatError(f"{folder}: rows are out of order or name entries that do not exist", hint=_REBUILD)
