"""The SQL that both databases understand; a subclass brings the connection, the locks and the column types."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from guardrails.errors import LedgerCorrupt
from guardrails.ledger.entries import Names
from guardrails.ledger.payloads import SealedPayload
from guardrails.ledger.store import KeptLeaf, KeptPayload, Leaf, NewRecord, PendingRelease, Waiting

FORMAT = 2

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

# One page of the walk over all leaves: whole tiles, and a few megabytes.
PAGE = 2048


def schema(*, integer: str, blob: str, serial: str) -> list[str]:
    """The statements that make the tables, in a dialect's column types."""
    return [
        # Written once, never changed.
        f"""CREATE TABLE records (
            seq {serial},
            record_id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,             -- this and the names below repeat what the entry says, to be found by
            created_at TEXT NOT NULL,
            mark_id TEXT NOT NULL,
            manifest_id TEXT NOT NULL,
            image_sha256 TEXT NOT NULL,
            entry {blob} NOT NULL           -- canonical JSON, the bytes that are hashed
        )""",
        "CREATE INDEX records_by_time ON records (created_at)",
        "CREATE INDEX records_by_mark ON records (mark_id) WHERE mark_id != ''",
        "CREATE INDEX records_by_manifest ON records (manifest_id) WHERE manifest_id != ''",
        "CREATE INDEX records_by_image ON records (image_sha256) WHERE image_sha256 != ''",
        # Durable, and without a place yet.
        f"CREATE TABLE staging (seq {integer} PRIMARY KEY)",
        # The order of the log: dense, from 0.
        f"CREATE TABLE leaves (idx {integer} PRIMARY KEY, seq {integer} NOT NULL UNIQUE)",
        f"""CREATE TABLE tiles (
            level {integer} NOT NULL, idx {integer} NOT NULL, hashes {blob} NOT NULL, PRIMARY KEY (level, idx)
        )""",
        # The erasable part, encrypted; after erasure only the id of the record that tells of it.
        f"""CREATE TABLE payloads (
            seq {integer} PRIMARY KEY, wrapped_key {blob}, data {blob}, erased_by TEXT NOT NULL DEFAULT ''
        )""",
        "CREATE TABLE releases (record_id TEXT PRIMARY KEY, staged_path TEXT NOT NULL, final_path TEXT NOT NULL)",
        f"CREATE TABLE checkpoint (only_row {integer} PRIMARY KEY CHECK (only_row = 0), note TEXT NOT NULL)",
    ]


_NAMES = "record_id, kind, created_at, mark_id, manifest_id, image_sha256"
_LEAF = f"SELECT idx, {_NAMES}, entry FROM leaves JOIN records USING (seq)"  # noqa: S608
_PAGE_OF_LEAVES = "idx >= ? AND idx < ? ORDER BY idx"
_FIND_BY = {
    name: f"{_LEAF} WHERE {name} = ? AND {name} != '' ORDER BY idx LIMIT 1"
    for name in ("record_id", "mark_id", "manifest_id", "image_sha256")
}


class SqlStore(ABC):
    """`guardrails.ledger.store.Store` over SQL with "?" for values; see there what each method is for."""

    @abstractmethod
    def _all(self, query: str, *values: object) -> list[Row]:
        """The rows of a query."""

    @abstractmethod
    def _run(self, query: str, rows: Sequence[Row]) -> None:
        """Run a statement once for each row of values."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def lock(self, what: str) -> AbstractContextManager[None]: ...

    @abstractmethod
    def lead(self) -> bool: ...

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def scrub(self) -> None: ...

    def stage(self, records: Sequence[NewRecord]) -> None:
        self._run(
            f"INSERT INTO records ({_NAMES}, entry) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            [(*record.names, record.entry) for record in records],
        )
        self._run(
            "INSERT INTO staging (seq) SELECT seq FROM records WHERE record_id = ?",
            [(record.names.record_id,) for record in records],
        )
        self._run(
            "INSERT INTO payloads (seq, wrapped_key, data) SELECT seq, ?, ? FROM records WHERE record_id = ?",
            [
                (record.payload.wrapped_key, record.payload.data, record.names.record_id)
                for record in records
                if record.payload is not None
            ],
        )
        self._run(
            "INSERT INTO releases (record_id, staged_path, final_path) VALUES (?, ?, ?)",
            [
                (record.release.record_id, absolute(record.release.staged), absolute(record.release.final))
                for record in records
                if record.release is not None
            ],
        )

    def submit(self, records: Sequence[NewRecord]) -> None:
        with self.transaction():
            self.stage(records)

    def waiting(self, limit: int) -> list[Waiting]:
        query = "SELECT seq, record_id, entry FROM staging JOIN records USING (seq) ORDER BY seq LIMIT ?"
        return [
            Waiting(seq=seq, record_id=record_id, entry=typed(entry, bytes))
            for seq, record_id, entry in self._all(query, limit)
        ]

    def backlog(self) -> tuple[int, str]:
        query = "SELECT count(*), coalesce(min(created_at), '') FROM staging JOIN records USING (seq)"
        count, oldest = self._all(query)[0]
        return int(count), str(oldest)

    def place(self, first_index: int, seqs: Sequence[int]) -> None:
        self._run("INSERT INTO leaves (idx, seq) VALUES (?, ?)", list(enumerate(seqs, first_index)))
        self._run("DELETE FROM staging WHERE seq = ?", [(seq,) for seq in seqs])

    def write_tiles(self, tiles: Mapping[tuple[int, int], bytes]) -> None:
        self._run(
            "INSERT INTO tiles (level, idx, hashes) VALUES (?, ?, ?)"
            " ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes",
            [(level, index, hashes) for (level, index), hashes in tiles.items()],
        )

    def tile(self, level: int, index: int) -> bytes:
        rows = self._all("SELECT hashes FROM tiles WHERE level = ? AND idx = ?", level, index)
        return typed(rows[0][0], bytes) if rows else b""

    def tile_count(self) -> int:
        return int(self._all("SELECT count(*) FROM tiles")[0][0])

    def set_checkpoint(self, note: str) -> None:
        self._run(
            "INSERT INTO checkpoint (only_row, note) VALUES (0, ?)"
            " ON CONFLICT (only_row) DO UPDATE SET note = excluded.note",
            [(note,)],
        )

    def checkpoint(self) -> str | None:
        rows = self._all("SELECT note FROM checkpoint")
        return typed(rows[0][0], str) if rows else None

    def size(self) -> int:
        return int(self._all("SELECT coalesce(max(idx) + 1, 0) FROM leaves")[0][0])

    def leaf_at(self, index: int) -> Leaf | None:
        return _first_leaf(self._all(f"{_LEAF} WHERE idx = ?", index))

    def leaf_by(self, name: str, value: str) -> Leaf | None:
        return _first_leaf(self._all(_FIND_BY[name], value))

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[list[KeptLeaf]]:
        query = (
            f"SELECT idx, {_NAMES}, entry, wrapped_key, data, erased_by FROM leaves JOIN records USING (seq)"  # noqa: S608
            f" LEFT JOIN payloads USING (seq) WHERE {_PAGE_OF_LEAVES}"
        )
        for page in self._pages(query, start, self.size() if stop is None else stop):
            for row in page:
                if type(row[7]) is not bytes:
                    typed(row[7], bytes)
            # The constructor of such a tuple takes four times as long.
            yield [tuple.__new__(KeptLeaf, row) for row in page]

    def leaves_between(self, since: str, until: str, kind: str = "") -> Iterator[list[Leaf]]:
        period = "created_at >= ? AND created_at < ? AND (kind = ? OR ? = '')"
        bounds = f"SELECT min(idx), max(idx) + 1 FROM leaves JOIN records USING (seq) WHERE {period}"  # noqa: S608
        start, stop = self._all(bounds, since, until, kind, kind)[0]
        if start is not None:
            query = f"{_LEAF} WHERE {period} AND {_PAGE_OF_LEAVES}"
            for page in self._pages(query, start, stop, since, until, kind, kind):
                yield [_to_leaf(row) for row in page]

    def _pages(self, query: str, start: int, stop: int, *values: object) -> Iterator[list[Row]]:
        # Each page has both its bounds: with a LIMIT alone PostgreSQL may sort all that is left of the log for it.
        for first in range(start, stop, PAGE):
            rows = self._all(query, *values, first, min(first + PAGE, stop))
            if rows:
                yield rows

    def entry(self, record_id: str) -> bytes | None:
        rows = self._all("SELECT entry FROM records WHERE record_id = ?", record_id)
        return typed(rows[0][0], bytes) if rows else None

    def payload(self, record_id: str) -> KeptPayload | None:
        query = "SELECT wrapped_key, data, erased_by FROM payloads JOIN records USING (seq) WHERE record_id = ?"
        rows = self._all(query, record_id)
        return _to_kept(rows[0]) if rows else None

    def payloads_before(self, created_at: str, limit: int) -> list[str]:
        query = (
            "SELECT record_id FROM records JOIN payloads USING (seq)"
            " WHERE created_at < ? AND erased_by = '' ORDER BY seq LIMIT ?"
        )
        return [str(row[0]) for row in self._all(query, created_at, limit)]

    def erase(self, record_ids: Collection[str], erased_by: str) -> None:
        self._run(
            "UPDATE payloads SET wrapped_key = NULL, data = NULL, erased_by = ?"
            " WHERE seq = (SELECT seq FROM records WHERE record_id = ?)",
            [(erased_by, record_id) for record_id in record_ids],
        )

    def release(self, record_id: str) -> PendingRelease | None:
        rows = self._all("SELECT record_id, staged_path, final_path FROM releases WHERE record_id = ?", record_id)
        return _to_release(rows[0]) if rows else None

    def releases(self) -> list[PendingRelease]:
        return [_to_release(row) for row in self._all("SELECT record_id, staged_path, final_path FROM releases")]

    def delete_release(self, record_id: str) -> None:
        self._run("DELETE FROM releases WHERE record_id = ?", [(record_id,)])

    def strays(self) -> list[str]:
        found = self._all(
            "SELECT record_id FROM releases WHERE record_id NOT IN (SELECT record_id FROM records)"
            " UNION ALL SELECT CAST(seq AS TEXT) FROM payloads WHERE seq NOT IN (SELECT seq FROM records)"
            " UNION ALL SELECT record_id FROM records"
            " WHERE seq NOT IN (SELECT seq FROM leaves) AND seq NOT IN (SELECT seq FROM staging)"
        )
        return [str(row[0]) for row in found]


def typed(value: Any, kind: type[T]) -> T:
    """SQLite columns take values of any type; one of the wrong type was not written by this program."""
    if not isinstance(value, kind):
        raise LedgerCorrupt(
            f"the ledger holds {type(value).__name__} where {kind.__name__} was written", hint="restore from a backup"
        )
    return value


def _first_leaf(rows: list[Row]) -> Leaf | None:
    return _to_leaf(rows[0]) if rows else None


def _to_leaf(row: Row) -> Leaf:
    return Leaf(row[0], Names(*row[1:7]), typed(row[7], bytes))


def _to_kept(row: Row) -> KeptPayload:
    wrapped_key, data, erased_by = row
    if data is None or wrapped_key is None:
        return KeptPayload(None, erased_by)
    return KeptPayload(SealedPayload(typed(wrapped_key, bytes), typed(data, bytes)), erased_by)


def _to_release(row: Row) -> PendingRelease:
    record_id, staged, final = (typed(value, str) for value in row)
    return PendingRelease(record_id=record_id, staged=Path(staged), final=Path(final))


def absolute(path: Path) -> str:
    return os.fspath(path.absolute())
