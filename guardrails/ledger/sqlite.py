"""The embedded store: SQLite in the ledger's folder, for the processes of one machine.

Durability: WAL with synchronous=FULL, so a committed transaction survives a power cut. Writers queue on an advisory
file lock before they begin: SQLite's own busy handler polls, and with two writers one of them starves for seconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from guardrails.errors import GuardrailsError, LedgerCorrupt, LedgerError, StorageError
from guardrails.files import locked, try_lock
from guardrails.ledger.sql import FORMAT, Row, SqlStore, schema

DATABASE_FILE = "ledger.db"
LOCK_FILE = "lock"
LEADER_FILE = "leader"

_APPLICATION_ID = 0x67726C67  # "grlg"
_BUSY_SECONDS = 10

# FULL flushes the write-ahead log at each commit; NORMAL would lose the last records in a power cut.
SYNCHRONOUS = "FULL"


class SqliteStore(SqlStore):
    """One connection. Reads need no lock between processes; every transaction holds it.

    Args:
        connection: as opened by `open_for_writing` or `open_for_reading`.
        folder: where the database lies.
        lock_descriptor: of the lock file; None for a store that only reads.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock_descriptor: int | None) -> None:
        self._connection = connection
        self._folder = folder
        self._lock_descriptor = lock_descriptor
        self._leader_descriptor: int | None = None
        self._threads = threading.RLock()
        self._holds_lock = False

    @classmethod
    def open_for_writing(cls, folder: Path) -> SqliteStore:
        """Open the database in `folder`; create it when it is not there.

        Raises:
            StorageError: the folder cannot be written.
            LedgerCorrupt: the file is no ledger database.
        """
        try:
            # Only the owner may read what holds prompts, encrypted or not.
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
                    connection.executescript(_SCHEMA)
                _check_format(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
                # What is erased is overwritten with zeros, not only unlinked.
                connection.execute("PRAGMA secure_delete = ON")
        except GuardrailsError:
            if connection is not None:
                connection.close()
            os.close(descriptor)
            raise
        return cls(connection, folder, descriptor)

    @classmethod
    def open_for_reading(cls, folder: Path) -> SqliteStore:
        """Open an existing database without writing to it.

        Raises:
            LedgerError: there is none.
            LedgerCorrupt: the file is no ledger database.
        """
        path = folder / DATABASE_FILE
        if not path.is_file():
            raise LedgerError(
                f"there is no ledger in {folder}",
                hint="check the folder; `generate` makes a ledger, and one in PostgreSQL is named by its database",
            )
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
        return cls(connection, folder, None)

    def close(self) -> None:
        with self._threads:
            self._connection.close()
            for descriptor in (self._lock_descriptor, self._leader_descriptor):
                if descriptor is not None:
                    os.close(descriptor)
            self._lock_descriptor = self._leader_descriptor = None

    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[None]:
        # One writer at a time is SQLite's own rule, so one lock serves for every name.
        lock_descriptor = self._writing()
        with self._threads:
            if self._holds_lock:
                yield
                return
            with locked(lock_descriptor):
                self._holds_lock = True
                try:
                    yield
                finally:
                    self._holds_lock = False

    def lead(self) -> bool:
        self._writing()
        with self._threads:
            if self._leader_descriptor is None:
                self._leader_descriptor = try_lock(self._folder / LEADER_FILE)
            return self._leader_descriptor is not None

    def _writing(self) -> int:
        if self._lock_descriptor is None:
            raise LedgerError("this ledger was opened for reading", hint="open it with create=True to write")
        return self._lock_descriptor

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.lock("writer"), errors_of_sqlite():
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
        with self._threads, errors_of_sqlite():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def scrub(self) -> None:
        # The write-ahead log still holds the pages as they were.
        with self.lock("writer"), errors_of_sqlite():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _all(self, query: str, *values: object) -> list[Row]:
        with self._threads, errors_of_sqlite():
            return self._connection.execute(query, values).fetchall()

    def _run(self, query: str, rows: Sequence[Row]) -> None:
        with self._threads, errors_of_sqlite():
            self._connection.executemany(query, rows)


@contextlib.contextmanager
def errors_of_sqlite() -> Iterator[None]:
    """Turn SQLite's errors into ours, by result code (sqlite.org/rescode.html)."""
    try:
        yield
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        code = extended & 0xFF
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
        if extended == sqlite3.SQLITE_CONSTRAINT_UNIQUE and "records.record_id" in str(error):
            raise LedgerError("the record is already in the ledger", hint="give each image its own id") from error
        raise LedgerError(f"the ledger's database refused: {error}", hint="run fsck on the ledger") from error


_SCHEMA = ";\n".join(
    [
        "BEGIN IMMEDIATE",
        f"PRAGMA application_id = {_APPLICATION_ID}",
        f"PRAGMA user_version = {FORMAT}",
        *schema(integer="INTEGER", blob="BLOB", serial="INTEGER PRIMARY KEY"),
        "COMMIT;",
    ]
)


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
    if version != FORMAT:
        raise LedgerError(
            f"the ledger has format {version}, expected {FORMAT}", hint="use the version of this software that wrote it"
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_schema").fetchone()[0])
