"""The repository's tables in SQLite. WAL with synchronous=FULL: what was added survives a power cut."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from guardrails.errors import RepositoryError, StorageError
from guardrails.files import locked
from guardrails.provenance.repository.entries import Entry, Fingerprints

DATABASE_FILE = "manifests.db"
LOCK_FILE = "lock"

_APPLICATION_ID = 0x67726D66  # "grmf"
_FORMAT = 1
_BUSY_SECONDS = 10

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
CREATE TABLE manifests (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so that what is in memory stays right
    manifest_id TEXT NOT NULL UNIQUE,
    mark_id TEXT NOT NULL,
    rest_sha256 BLOB NOT NULL,
    file_sha256 BLOB NOT NULL,
    start INTEGER,
    added_at TEXT NOT NULL,
    pieces TEXT NOT NULL,                      -- JSON
    container BLOB NOT NULL
);
CREATE INDEX manifests_by_mark ON manifests (mark_id) WHERE mark_id != '';
CREATE INDEX manifests_by_rest ON manifests (rest_sha256) WHERE rest_sha256 != x'';
CREATE TABLE fingerprints (                    -- apart, so that reading them all does not read the manifests
    number INTEGER PRIMARY KEY REFERENCES manifests (number) ON DELETE CASCADE,
    iscc BLOB NOT NULL,
    pdq BLOB NOT NULL
);
"""
_COLUMNS = "manifest_id, mark_id, rest_sha256, file_sha256, start, added_at, pieces, container, iscc, pdq"
_SELECT = f"SELECT {_COLUMNS} FROM manifests JOIN fingerprints USING (number)"  # noqa: S608 - constants alone

Row: TypeAlias = tuple[Any, ...]


class Store:
    """One connection; not safe between threads by itself, and not to be taken through a fork.

    Args:
        folder: holds the database and its lock.
        create: make the database when it is not there; else it is opened for reading.

    Raises:
        RepositoryError: there is none, or the file is something else.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, create: bool) -> None:
        self._lock: int | None = None
        path = folder / DATABASE_FILE
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                path.touch(mode=0o600)
            except OSError as error:
                raise StorageError(
                    f"cannot write in {folder}: {error.strerror or error}", hint="choose a writable folder"
                ) from error
        elif not path.is_file():
            raise RepositoryError(
                f"there is no repository of manifests in {folder}", hint="`generate` and `manifests add` make one"
            )
        try:
            self._connection = self._open(path)
        except BaseException:
            self._close_lock()
            raise

    def _open(self, path: Path) -> sqlite3.Connection:
        address = path.absolute().as_uri()
        with _errors_of_sqlite():
            if self._lock is None:
                return _open_for_reading(f"{address}?mode=ro", path)
            connection = _connect(f"{address}?mode=rw")
            try:
                with locked(self._lock):
                    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
                    _check_format(connection, path)
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        self._connection.close()
        self._close_lock()

    def _close_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def insert(self, entries: Iterable[Entry], *, replace: bool) -> None:
        """Make entries durable, all or none.

        Raises:
            RepositoryError: another manifest is kept under an id and is not to be replaced; or opened for reading.
        """
        with self._writing():
            for entry in entries:
                self._insert(entry, replace)

    def _insert(self, entry: Entry, replace: bool) -> None:
        kept = self.by_manifest(entry.manifest_id)
        if kept is not None:
            if (kept.container, kept.file_sha256) == (entry.container, entry.file_sha256):
                return
            if not replace:
                raise RepositoryError(
                    f"another manifest is kept as {entry.manifest_id}", hint="replace it knowingly, or look why"
                )
            self._connection.execute("DELETE FROM manifests WHERE manifest_id = ?", (entry.manifest_id,))
        cursor = self._connection.execute(
            "INSERT INTO manifests (manifest_id, mark_id, rest_sha256, file_sha256, start, added_at, pieces, "
            "container) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.manifest_id,
                entry.mark_id,
                entry.rest_sha256,
                entry.file_sha256,
                entry.start,
                entry.added_at,
                json.dumps(entry.pieces),
                entry.container,
            ),
        )
        self._connection.execute(
            "INSERT INTO fingerprints (number, iscc, pdq) VALUES (?, ?, ?)",
            (cursor.lastrowid, entry.fingerprints.iscc, entry.fingerprints.pdq),
        )

    def delete(self, manifest_id: str) -> bool:
        """Forget a manifest; False when it was not there."""
        with self._writing():
            done = self._connection.execute("DELETE FROM manifests WHERE manifest_id = ?", (manifest_id,))
            return done.rowcount > 0

    def count(self) -> int:
        return int(self._all("SELECT count(*) FROM manifests")[0][0])

    def by_manifest(self, manifest_id: str) -> Entry | None:
        return next(iter(self._entries(f"{_SELECT} WHERE manifest_id = ?", manifest_id)), None)

    def by_mark(self, mark_id: str) -> list[Entry]:
        return self._entries(f"{_SELECT} WHERE mark_id = ? AND mark_id != '' ORDER BY number DESC", mark_id)

    def by_rest(self, rest_sha256: bytes) -> list[Entry]:
        query = f"{_SELECT} WHERE rest_sha256 = ? AND rest_sha256 != x'' ORDER BY number DESC"
        return self._entries(query, rest_sha256)

    def by_number(self, number: int) -> Entry | None:
        return next(iter(self._entries(f"{_SELECT} WHERE number = ?", number)), None)

    def newest(self, limit: int) -> list[Entry]:
        return self._entries(f"{_SELECT} ORDER BY number DESC LIMIT ?", limit)

    def fingerprints_after(self, number: int) -> list[tuple[int, bytes, bytes]]:
        """Number, ISCC and PDQ of everything added after `number`, in order."""
        return self._all("SELECT number, iscc, pdq FROM fingerprints WHERE number > ? ORDER BY number", number)

    def _entries(self, query: str, value: object) -> list[Entry]:
        rows = self._all(query, value)
        try:
            return [_to_entry(row) for row in rows]
        except (ValueError, TypeError) as error:
            raise _damaged(str(error)) from error

    def _all(self, query: str, *values: object) -> list[Row]:
        with _errors_of_sqlite():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the only writer; what happens inside is durable at its end, or did not happen."""
        if self._lock is None:
            raise RepositoryError("this repository was opened for reading", hint="open it with create=True to write")
        with locked(self._lock), _errors_of_sqlite():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back by itself after some errors, a full disk for one.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _to_entry(row: Row) -> Entry:
    manifest_id, mark_id, rest, whole, start, added_at, pieces, container, iscc, pdq = row
    return Entry(
        manifest_id=manifest_id,
        mark_id=mark_id,
        fingerprints=Fingerprints(iscc=iscc, pdq=pdq),
        container=container,
        pieces=tuple((int(offset), int(length)) for offset, length in json.loads(pieces)),
        start=start,
        rest_sha256=rest,
        file_sha256=whole,
        added_at=added_at,
    )


def _connect(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    # A damaged schema must not run code of its own (sqlite.org/security.html).
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _open_for_reading(address: str, path: Path) -> sqlite3.Connection:
    connection = _connect(address)
    try:
        _check_format(connection, path)
    except sqlite3.OperationalError:
        connection.close()
        # In a folder that cannot be written SQLite cannot make its shared-memory file. Without a write-ahead log
        # beside it, the database file alone is the whole truth.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection = _connect(f"{address}&immutable=1")
        _check_format(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) != (_APPLICATION_ID, _FORMAT):
        raise RepositoryError(
            f"{path} is no repository of manifests in format {_FORMAT}", hint="choose another folder, or update"
        )


@contextlib.contextmanager
def _errors_of_sqlite() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise StorageError(
                f"the repository of manifests cannot be written: {error}",
                hint="check the disk's free space and the folder's permissions",
            ) from error
        raise _damaged(str(error)) from error


def _damaged(why: str) -> RepositoryError:
    return RepositoryError(
        f"the repository of manifests cannot be used: {why}",
        hint=f"close what else has {DATABASE_FILE} open, or restore it from a backup",
    )
