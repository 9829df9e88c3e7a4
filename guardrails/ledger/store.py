"""The ledger's tables in SQLite, and the lock that lets several processes write.

Durability: WAL with synchronous=FULL, so a committed transaction survives a power cut. Writers queue on an advisory
file lock before they begin: SQLite's own busy handler polls, and with two writers one of them starves for seconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from guardrails.errors import GuardrailsError, LedgerCorrupt, LedgerError, StorageError
from guardrails.files import locked

DATABASE_FILE = "ledger.db"
LOCK_FILE = "lock"

_APPLICATION_ID = 0x67726C67  # "grlg"
_FORMAT = 1
_BUSY_SECONDS = 10

# FULL flushes the write-ahead log at each commit; NORMAL would lose the last records in a power cut.
SYNCHRONOUS = "FULL"

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
CREATE TABLE leaves (
    idx INTEGER PRIMARY KEY,           -- dense, from 0
    leaf_hash BLOB NOT NULL,
    entry BLOB NOT NULL,               -- canonical JSON
    record_id TEXT NOT NULL UNIQUE,
    mark_id TEXT NOT NULL,             -- this and the two below repeat what the entry says, to be found by
    manifest_id TEXT NOT NULL,
    image_sha256 TEXT NOT NULL
);
CREATE INDEX leaves_by_mark ON leaves (mark_id) WHERE mark_id != '';
CREATE INDEX leaves_by_manifest ON leaves (manifest_id) WHERE manifest_id != '';
CREATE INDEX leaves_by_image ON leaves (image_sha256) WHERE image_sha256 != '';
CREATE TABLE nodes (                   -- complete nodes above the leaves
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) WITHOUT ROWID;
CREATE TABLE payloads (record_id TEXT PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE releases (record_id TEXT PRIMARY KEY, staged_path TEXT NOT NULL, final_path TEXT NOT NULL);
CREATE TABLE checkpoint (only INTEGER PRIMARY KEY CHECK (only = 0), note TEXT NOT NULL);
"""

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

_LEAF_COLUMNS = "idx, leaf_hash, entry, record_id, mark_id, manifest_id, image_sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One row of the log."""

    index: int
    leaf_hash: bytes
    entry: bytes
    record_id: str
    mark_id: str
    manifest_id: str
    image_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRelease:
    """One row of the outbox: a recorded image whose file may not have its final name yet."""

    record_id: str
    staged: Path
    final: Path


class Store:
    """One connection. Reads need no lock between processes; writes happen inside `writing()`.

    Args:
        connection: as opened by `open_for_writing` or `open_for_reading`.
        lock_descriptor: of the lock file; None for a store that only reads.
    """

    def __init__(self, connection: sqlite3.Connection, lock_descriptor: int | None) -> None:
        self._connection = connection
        self._lock_descriptor = lock_descriptor
        self._threads = threading.RLock()

    @classmethod
    def open_for_writing(cls, folder: Path) -> Store:
        """Open the database in `folder`; create it when it is not there.

        Raises:
            StorageError: the folder cannot be written.
            LedgerCorrupt: the file is no ledger database.
        """
        try:
            # The payloads hold prompts: only the owner may read them.
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"cannot write in {folder}: {error.strerror or error}", hint="choose a writable folder for the ledger"
            ) from error
        connection: sqlite3.Connection | None = None
        try:
            with errors_of_sqlite(), locked(descriptor):
                database = folder / DATABASE_FILE
                database.touch(mode=0o600)
                connection = _connect(f"{database.absolute().as_uri()}?mode=rw")
                if _is_empty(connection):
                    connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
                _check_format(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        except GuardrailsError:
            if connection is not None:
                connection.close()
            os.close(descriptor)
            raise
        return cls(connection, descriptor)

    @classmethod
    def open_for_reading(cls, folder: Path) -> Store:
        """Open an existing database without writing to it.

        Raises:
            LedgerError: there is none.
            LedgerCorrupt: the file is no ledger database.
        """
        path = folder / DATABASE_FILE
        if not path.is_file():
            raise LedgerError(f"there is no ledger in {folder}", hint="check the folder; `generate` makes a ledger")
        address = f"{path.absolute().as_uri()}?mode=ro"
        with errors_of_sqlite():
            connection = _connect(address)
            try:
                _check_format(connection)
            except sqlite3.OperationalError:
                connection.close()
                # In a folder that cannot be written SQLite cannot make its shared-memory file. Without a
                # write-ahead log beside it, the database file alone is the whole truth.
                if path.with_name(f"{path.name}-wal").exists():
                    raise
                connection = _connect(f"{address}&immutable=1")
                _check_format(connection)
        return cls(connection, None)

    def close(self) -> None:
        with self._threads:
            self._connection.close()
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
                self._lock_descriptor = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer among all threads and processes; transactions go inside.

        Raises:
            LedgerError: the ledger was opened for reading only.
        """
        if self._lock_descriptor is None:
            raise LedgerError("this ledger was opened for reading", hint="open it with create=True to write")
        with self._threads, locked(self._lock_descriptor):
            yield

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when the block has ended; only inside `writing()`."""
        with errors_of_sqlite():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back by itself after some errors, a full disk for one.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state, whatever other processes write meanwhile."""
        with self._threads, errors_of_sqlite():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def insert_leaf(self, leaf: Leaf) -> None:
        self._run(
            f"INSERT INTO leaves ({_LEAF_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            leaf.index,
            leaf.leaf_hash,
            leaf.entry,
            leaf.record_id,
            leaf.mark_id,
            leaf.manifest_id,
            leaf.image_sha256,
        )

    def insert_nodes(self, nodes: list[tuple[int, int, bytes]]) -> None:
        for level, index, node in nodes:
            self._run("INSERT INTO nodes (level, idx, hash) VALUES (?, ?, ?)", level, index, node)

    def insert_payload(self, record_id: str, payload: bytes) -> None:
        self._run("INSERT INTO payloads (record_id, payload) VALUES (?, ?)", record_id, payload)

    def insert_release(self, release: PendingRelease) -> None:
        self._run(
            "INSERT INTO releases (record_id, staged_path, final_path) VALUES (?, ?, ?)",
            release.record_id,
            os.fspath(release.staged.absolute()),
            os.fspath(release.final.absolute()),
        )

    def delete_release(self, record_id: str) -> None:
        self._run("DELETE FROM releases WHERE record_id = ?", record_id)

    def set_checkpoint(self, note: str) -> None:
        self._run("INSERT OR REPLACE INTO checkpoint (only, note) VALUES (0, ?)", note)

    def checkpoint(self) -> str | None:
        row = self._one("SELECT note FROM checkpoint")
        return None if row is None else _typed(row[0], str)

    def size(self) -> int:
        """Number of leaves, taking the last index at its word; `all_leaves` shows gaps."""
        return int(self._all("SELECT ifnull(max(idx) + 1, 0) FROM leaves")[0][0])

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete node; level 0 are the leaves.

        Raises:
            LedgerCorrupt: it is not there.
        """
        row = (
            self._one("SELECT leaf_hash FROM leaves WHERE idx = ?", index)
            if level == 0
            else self._one("SELECT hash FROM nodes WHERE level = ? AND idx = ?", level, index)
        )
        if row is None:
            raise LedgerCorrupt(f"tree node {level}/{index} is missing", hint="run fsck, then restore from a backup")
        return _typed(row[0], bytes)

    def leaf_by_index(self, index: int) -> Leaf | None:
        return self._leaf("idx = ?", index)

    def leaf_by_record(self, record_id: str) -> Leaf | None:
        return self._leaf("record_id = ?", record_id)

    def leaf_by_mark(self, mark_id: str) -> Leaf | None:
        return self._leaf("mark_id = ? AND mark_id != ''", mark_id)

    def leaf_by_manifest(self, manifest_id: str) -> Leaf | None:
        return self._leaf("manifest_id = ? AND manifest_id != ''", manifest_id)

    def leaf_by_image(self, image_sha256: str) -> Leaf | None:
        return self._leaf("image_sha256 = ? AND image_sha256 != ''", image_sha256)

    def payload(self, record_id: str) -> bytes | None:
        row = self._one("SELECT payload FROM payloads WHERE record_id = ?", record_id)
        return None if row is None else _typed(row[0], bytes)

    def release(self, record_id: str) -> PendingRelease | None:
        rows = self._all("SELECT record_id, staged_path, final_path FROM releases WHERE record_id = ?", record_id)
        return _to_release(rows[0]) if rows else None

    def releases(self) -> list[PendingRelease]:
        return [_to_release(row) for row in self._all("SELECT record_id, staged_path, final_path FROM releases")]

    def strays(self) -> list[str]:
        """Ids in the payload and release tables for which there is no leaf."""
        rows = self._all(
            "SELECT record_id FROM payloads UNION SELECT record_id FROM releases EXCEPT SELECT record_id FROM leaves"
        )
        return [str(row[0]) for row in rows]

    def all_leaves(self) -> Iterator[Leaf]:
        """Every leaf in the order of the log, read in pieces."""
        after = -1
        while True:
            query = f"SELECT {_LEAF_COLUMNS} FROM leaves WHERE idx > ? ORDER BY idx LIMIT 1000"  # noqa: S608
            rows = self._all(query, after)
            if not rows:
                return
            yield from (_to_leaf(row) for row in rows)
            after = rows[-1][0]

    def node_count(self) -> int:
        """Number of complete nodes above the leaves."""
        return int(self._all("SELECT count(*) FROM nodes")[0][0])

    def _leaf(self, condition: str, value: object) -> Leaf | None:
        # The conditions are the constants above; the first record of an id is the one that counts.
        row = self._one(f"SELECT {_LEAF_COLUMNS} FROM leaves WHERE {condition} ORDER BY idx LIMIT 1", value)  # noqa: S608
        return None if row is None else _to_leaf(row)

    def _run(self, query: str, *values: object) -> None:
        with self._threads, errors_of_sqlite():
            self._connection.execute(query, values)

    def _one(self, query: str, *values: object) -> Row | None:
        rows = self._all(query, *values)
        return rows[0] if rows else None

    def _all(self, query: str, *values: object) -> list[Row]:
        with self._threads, errors_of_sqlite():
            return self._connection.execute(query, values).fetchall()


@contextlib.contextmanager
def errors_of_sqlite() -> Iterator[None]:
    """Turn SQLite's errors into ours, by result code (sqlite.org/rescode.html)."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise StorageError(
                f"the ledger cannot be written: {error}",
                hint="check the disk's free space and the folder's permissions",
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LedgerCorrupt(
                f"the ledger's database is damaged: {error}", hint="restore ledger.db from a backup, then run fsck"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LedgerError(
                "another program holds the ledger's database", hint="close whatever has ledger.db open, then try again"
            ) from error
        raise LedgerError(f"the ledger's database refused: {error}", hint="run fsck on the ledger") from error


def _connect(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    # A damaged schema must not run code of its own (sqlite.org/security.html).
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _check_format(connection: sqlite3.Connection) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id != _APPLICATION_ID:
        raise LedgerCorrupt("the database is not a ledger", hint="choose another folder")
    if version != _FORMAT:
        raise LedgerError(f"the ledger has format {version}, expected {_FORMAT}", hint="update this software")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_schema").fetchone()[0])


def _typed(value: Any, kind: type[T]) -> T:
    """SQLite columns take values of any type; one of the wrong type was not written by this program."""
    if not isinstance(value, kind):
        raise LedgerCorrupt(
            f"the ledger holds {type(value).__name__} where {kind.__name__} was written", hint="restore from a backup"
        )
    return value


def _to_leaf(row: Row) -> Leaf:
    index, digest, entry, record_id, mark_id, manifest_id, image_sha256 = row
    return Leaf(
        index=index,
        leaf_hash=_typed(digest, bytes),
        entry=_typed(entry, bytes),
        record_id=_typed(record_id, str),
        mark_id=_typed(mark_id, str),
        manifest_id=_typed(manifest_id, str),
        image_sha256=_typed(image_sha256, str),
    )


def _to_release(row: Row) -> PendingRelease:
    record_id, staged, final = (_typed(value, str) for value in row)
    return PendingRelease(record_id=record_id, staged=Path(staged), final=Path(final))
