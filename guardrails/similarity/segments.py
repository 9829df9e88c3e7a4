"""Immutable files of codes, and the exact Hamming-radius search over them.

A segment is a folder of::

    codes.npy      uint8 (n, bytes)      one code for each row
    regions.npy    uint8 (n,)            which part of its picture a row describes; uint32 for keypoints
    entry.npy      uint32 (n,)           row -> entry, counted within the segment
    offsets.npy    uint32                multi-index hashing: bucket ends of all slots side by side; absent in small
    ids.npy        uint32 (slots, n)     segments, which are scanned, as are rows by slot value
    manifest.json  format, hash, procedures, counts, plan, size and SHA-256 of every file; written last

and of columns that the caller adds. Files are memory-mapped: opening reads the manifest, and memory is that of the page
cache. The same columns give the same bytes. Nothing is ever changed in a segment; it is written aside and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError, StorageError
from guardrails.files import publish_folder, sync_folder
from guardrails.similarity.hashes import HASH_BYTES, KEYPOINT128
from guardrails.similarity.plan import Plan, make_plan, make_probes

FORMAT = 2
MANIFEST = "manifest.json"
CODES, REGIONS, ENTRY = "codes", "regions", "entry"
_OFFSETS, _IDS = "offsets", "ids"
STAGED = ".segment-"
# A keypoint's region is its packed place. Its code is looked up by its first word, the lowest frequencies; the other
# one is compared only.
_REGION_TYPES: dict[str, type[np.unsignedinteger[Any]]] = {KEYPOINT128: np.uint32}
_TABLED_BITS = {KEYPOINT128: 64}
_REBUILD = "build the index again with this version, or restore the folder from a copy"
# Looking up stops being cheaper than a scan when this share of the rows has to be compared.
_SCAN_SHARE = 8
# Rows gathered for one query at first; when more are near, the search is repeated with room for them.
_ROOM = 4096


@dataclass(frozen=True, slots=True)
class Near:
    """Rows within a radius.

    Attributes:
        rows: uint32, no row twice.
        distances: uint16, of the same length.
        total: rows within the radius; more than `rows` when a limit was reached.
    """

    rows: NDArray[np.uint32]
    distances: NDArray[np.uint16]
    total: int


NOTHING_NEAR = Near(np.zeros(0, np.uint32), np.zeros(0, np.uint16), 0)


@cache
def engine() -> ModuleType:
    """The compiled inner loops, or numpy's where numba is missing."""
    try:
        from guardrails.similarity import kernels
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        from guardrails.similarity import vectorised

        return vectorised
    return kernels


def region_type(algorithm: str) -> type[np.unsignedinteger[Any]]:
    """Of the column of regions."""
    return _REGION_TYPES.get(algorithm, np.uint8)


def scan(words: NDArray[np.uint64], code: NDArray[np.uint8], radius: int, limit: int) -> Near:
    """Compare one code with every row.

    Args:
        words: uint64 (n, words), the rows' codes.
        code: uint8 (bytes,).
        radius: inclusive.
        limit: rows to return at most.
    """
    query = np.ascontiguousarray(code).view(np.uint64)
    return _gather(lambda found, distances: engine().scan(words, query, radius, found, distances), limit)


def scan_nearby(
    words: NDArray[np.uint64], code: NDArray[np.uint8], radius: int, reaches: Sequence[int], budget: int
) -> Near:
    """See `Segment.nearby`."""
    near = scan(words, code, radius, len(words))
    for reach in reaches:
        kept = reached(near, words, code, reach)
        if kept.total <= budget:
            return kept
    return NOTHING_NEAR


def reached(near: Near, words: NDArray[np.uint64], code: NDArray[np.uint8], reach: int) -> Near:
    """Of the rows near a code, those whose first word is within `reach`, too."""
    first = np.ascontiguousarray(code).view(np.uint64)[0]
    kept = np.bitwise_count(words[near.rows, 0] ^ first) <= reach
    return Near(near.rows[kept], near.distances[kept], int(kept.sum()))


def _gather(search: Any, limit: int) -> Near:
    """Run a search with little room, and once more with enough."""
    room = min(limit, _ROOM)
    while True:
        rows, distances = np.empty(room, np.uint32), np.empty(room, np.uint16)
        total = int(search(rows, distances))
        if total <= room or room == limit:
            kept = max(0, min(total, room))
            return Near(rows[:kept], distances[:kept], total)
        room = min(limit, total)


class Segment:
    """An opened segment.

    Attributes:
        name: of its folder.
        digest: SHA-256 of the manifest, which holds those of all files.
        manifest: what it says.
        columns: memory-mapped, by name.
        rows, entries: counts.
    """

    def __init__(self, folder: Path, digest: str, manifest: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]):
        self.folder = folder
        self.name = folder.name
        self.digest = digest
        self.manifest = manifest
        self.rows = int(manifest["rows"])
        self.entries = int(manifest["entries"])
        self.plan = Plan(tuple(manifest["widths"]))
        self.columns = columns
        # A memory map's own type slows every access down.
        self.words = np.asarray(columns[CODES]).view(np.uint64)
        if self.plan.widths:
            self._offsets, self._ids = np.asarray(columns[_OFFSETS]), np.asarray(columns[_IDS])
            self._begins = _table_begins(self.plan)

    def within(self, code: NDArray[np.uint8], radius: int, *, limit: int | None = None, tables: bool = True) -> Near:
        """All rows within `radius` (inclusive) of one code; exact.

        Args:
            code: uint8 (bytes,).
            limit: rows to return at most, by default all; `Near.total` counts all.
            tables: False compares every row, which other ways are checked against.

        Raises:
            IndexFormatError: the tables are damaged.
        """
        limit = self.rows if limit is None else limit
        if tables and self.plan.pays(radius, self.rows):
            near = self._look_up(code, radius, radius, self.rows // _SCAN_SHARE, limit)
            if near.total >= 0:
                return near
        return scan(self.words, code, radius, limit)

    def nearby(self, code: NDArray[np.uint8], radius: int, reaches: Sequence[int], budget: int) -> Near:
        """Rows near a code that is looked up by its first word, a keypoint's: those within `radius` in all words, and
        in the first word within the widest of `reaches` that leads to no more than `budget` rows.

        None where all lead to more: such a code is near everything, and says nothing.

        Args:
            reaches: widest first.
            budget: rows to be compared; where there are no tables, to be found.

        Raises:
            IndexFormatError: the tables are damaged.
        """
        if not self.plan.widths:
            return scan_nearby(self.words, code, radius, reaches, budget)
        for reach in reaches:
            near = self._look_up(code, radius, reach, budget, budget)
            if near.total >= 0:
                return reached(near, self.words, code, reach)
        return NOTHING_NEAR

    def warm(self) -> None:
        """Read every page once, so that the first queries do not wait for the disk."""
        for column in self.columns.values():
            flat = np.asarray(column).reshape(-1).view(np.uint8)
            int(flat[::4096].sum(dtype=np.uint64))

    def verify(self) -> None:
        """Recompute the SHA-256 of every file.

        Raises:
            IndexFormatError: a file is not the one that was published.
        """
        for name, stated in self.manifest["files"].items():
            if _digest(self.folder / name) != stated["sha256"]:
                raise IndexFormatError(
                    f"{self.folder / name} is not the file that the index was published with", hint=_REBUILD
                )

    def _look_up(self, code: NDArray[np.uint8], radius: int, reach: int, budget: int, limit: int) -> Near:
        """Rows within `radius`, by tables of codes whose part in them is within `reach`; total -1 over the budget."""
        query = np.ascontiguousarray(code).view(np.uint64)
        probes = make_probes(self.plan, reach)
        run = engine().probe
        near = _gather(
            lambda found, distances: run(
                self.words,
                self._offsets,
                self._begins,
                self._ids,
                probes.masks,
                probes.begins,
                probes.starts,
                probes.widths,
                probes.reaches,
                query,
                radius,
                budget,
                found,
                distances,
            ),
            limit,
        )
        if near.total == engine().DAMAGED:
            raise IndexFormatError(f"the tables of {self.folder} name rows that do not exist", hint=_REBUILD)
        return near


def write_segment(
    parent: Path,
    algorithm: str,
    columns: Mapping[str, NDArray[Any]],
    entries: int,
    facts: Mapping[str, Any],
    *,
    radius: int,
    name: str | None = None,
) -> Path:
    """Write a segment below `parent`; a build that stops half-way leaves nothing that could be opened.

    Args:
        columns: at least codes, regions and entry; arrays of any kind, also memory-mapped ones.
        entries: how many entries the rows belong to; some may have no row.
        facts: more for the manifest: everything that must be the same when building and when asking.
        radius: the one that the tables are laid out for; others work, too.
        name: of the folder; by default "segment-" and the beginning of its digest.

    Returns:
        Its folder. Where the same segment is there already, that one is kept.

    Raises:
        StorageError: the folder cannot be written.
        ValueError: columns that do not belong together.
    """
    codes = columns[CODES]
    rows = len(codes)
    _check_columns(algorithm, columns, rows)
    plan = make_plan(rows, _tabled_bits(algorithm), radius)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=parent, prefix=STAGED))
    except OSError as error:
        raise _unwritable(parent, error) from error
    try:
        staged.chmod(0o755)
        for column, values in columns.items():
            np.save(staged / f"{column}.npy", values, allow_pickle=False)
        if plan.widths:
            _write_tables(staged, np.asarray(codes).view(np.uint64), plan)
        manifest = {
            "format": FORMAT,
            "hash": algorithm,
            "rows": rows,
            "entries": entries,
            "widths": list(plan.widths),
            **facts,
            "files": {file.name: _stated(file) for file in sorted(staged.iterdir())},
        }
        text = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode("utf-8")
        (staged / MANIFEST).write_bytes(text)
        _sync_files(staged)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise _unwritable(parent, error) from error
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    target = parent / (name or f"segment-{hashlib.sha256(text).hexdigest()[:16]}")
    if not publish_folder(staged, target):
        shutil.rmtree(staged, ignore_errors=True)
    sync_folder(parent)
    return target


def open_segment(folder: Path, facts: Mapping[str, Any], *, verify: bool = False) -> Segment:
    """Open a segment and check its manifest, and the size, type and shape of every file.

    Args:
        facts: what the manifest must say besides, see `write_segment`.
        verify: also check every file's SHA-256; this reads them all.

    Raises:
        IndexFormatError: missing, damaged, cut short, of another format, or made by other procedures.
    """
    text, manifest = _read_manifest(folder / MANIFEST)
    for fact, value in facts.items():
        if manifest.get(fact) != value:
            raise IndexFormatError(
                f"{folder} was hashed by other procedures: {fact} is {manifest.get(fact)!r}, not {value!r}",
                hint=_REBUILD,
            )
    columns = {}
    for name, stated in manifest["files"].items():
        path = folder / name
        columns[path.stem] = _open_column(path, stated)
    _check_shapes(folder, manifest, columns)
    segment = Segment(folder, hashlib.sha256(text).hexdigest(), manifest, columns)
    if verify:
        segment.verify()
    return segment


def clear_staged(parent: Path) -> None:
    """Remove what builds that died left behind; only while no other process builds."""
    for folder in parent.glob(f"{STAGED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _check_columns(algorithm: str, columns: Mapping[str, NDArray[Any]], rows: int) -> None:
    width = HASH_BYTES[algorithm]
    if columns[CODES].shape != (rows, width) or columns[CODES].dtype != np.uint8:
        raise ValueError(f"codes of {algorithm} are uint8 (n, {width}), got {columns[CODES].shape}")
    if columns[REGIONS].shape != (rows,) or columns[ENTRY].shape != (rows,):
        raise ValueError("regions and entry need one value for each code")


def _tabled_bits(algorithm: str) -> int:
    return _TABLED_BITS.get(algorithm, HASH_BYTES[algorithm] * 8)


def _write_tables(folder: Path, words: NDArray[np.uint64], plan: Plan) -> None:
    """Slot by slot, straight into memory-mapped files, so that memory does not grow with the index."""
    begins = _table_begins(plan)
    offsets = np.lib.format.open_memmap(folder / f"{_OFFSETS}.npy", "w+", np.uint32, (int(begins[-1]),))
    ids = np.lib.format.open_memmap(folder / f"{_IDS}.npy", "w+", np.uint32, (len(plan.widths), len(words)))
    for slot, (start, width) in enumerate(zip(plan.starts, plan.widths, strict=True)):
        table = np.zeros(2**width + 1, np.uint32)
        order = np.empty(len(words), np.uint32)
        engine().fill_slot(words, start, width, table, order)
        offsets[begins[slot] : begins[slot + 1]] = table
        ids[slot] = order
    offsets.flush()
    ids.flush()


def _table_begins(plan: Plan) -> NDArray[np.int64]:
    return np.cumsum([0, *(2**width + 1 for width in plan.widths)], dtype=np.int64)


def _stated(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": _digest(file)}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IndexFormatError(f"cannot read {path}: {error}", hint=_REBUILD) from error


def _sync_files(folder: Path) -> None:
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)


def _read_manifest(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        text = path.read_bytes()
        manifest = json.loads(text)
    except (OSError, ValueError) as error:
        raise IndexFormatError(f"cannot read the index manifest {path}: {error}", hint=_REBUILD) from error
    if not isinstance(manifest, dict):
        raise IndexFormatError(f"{path} is no index manifest", hint=_REBUILD)
    if manifest.get("format") != FORMAT:
        raise IndexFormatError(
            f"{path.parent} has index format {manifest.get('format')!r}, not {FORMAT}", hint=_REBUILD
        )
    files, counts = manifest.get("files"), [manifest.get("rows"), manifest.get("entries")]
    widths = manifest.get("widths")
    sound = (
        isinstance(files, dict)
        and all(isinstance(file, dict) and {"bytes", "sha256"} <= set(file) for file in files.values())
        and {f"{name}.npy" for name in (CODES, REGIONS, ENTRY)} <= set(files)
        and all(isinstance(count, int) and 0 <= count < 2**32 for count in counts)
        and isinstance(widths, list)
        and all(isinstance(width, int) and 0 < width <= 32 for width in widths)
        and manifest.get("hash") in HASH_BYTES
        and sum(widths) in (0, _tabled_bits(manifest["hash"]))
    )
    if not sound:
        raise IndexFormatError(f"{path} is no index manifest", hint=_REBUILD)
    return text, manifest


def _open_column(path: Path, stated: Mapping[str, Any]) -> NDArray[Any]:
    if path.suffix != ".npy" or path.name != Path(path.name).name:
        raise IndexFormatError(f"{path} is no column of an index", hint=_REBUILD)
    try:
        if path.stat().st_size != stated["bytes"]:
            raise IndexFormatError(
                f"{path} has {path.stat().st_size} bytes, not the {stated['bytes']} that were published", hint=_REBUILD
            )
        return np.asarray(_mapped(path))
    except (OSError, ValueError, EOFError) as error:
        raise IndexFormatError(f"cannot open {path}: {error}", hint=_REBUILD) from error


def _mapped(path: Path) -> NDArray[Any]:
    """An array over a file; empty ones cannot be mapped."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _check_shapes(folder: Path, manifest: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> None:
    rows, widths = manifest["rows"], manifest["widths"]
    expected: dict[str, tuple[type, tuple[int, ...]]] = {
        CODES: (np.uint8, (rows, HASH_BYTES[manifest["hash"]])),
        REGIONS: (region_type(manifest["hash"]), (rows,)),
        ENTRY: (np.uint32, (rows,)),
    }
    if widths:
        expected[_OFFSETS] = np.uint32, (sum(2**width + 1 for width in widths),)
        expected[_IDS] = np.uint32, (len(widths), rows)
    for name, (dtype, shape) in expected.items():
        column = columns.get(name)
        if column is None or column.dtype != dtype or column.shape != shape:
            held = "nothing" if column is None else f"{column.dtype} {column.shape}"
            raise IndexFormatError(f"{folder / name}.npy holds {held}, not {np.dtype(dtype)} {shape}", hint=_REBUILD)


def _unwritable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write in {folder}: {error.strerror or error}", hint="check that the folder is writable and has room"
    )
