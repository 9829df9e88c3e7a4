"""The embedded database: one SQLite file in WAL mode with full synchronisation."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from guardrails.errors import StorageError
from guardrails.files import locked
from service.stores.database import Row
from service.stores.schema import ADDED, SQLITE, statements

_BUSY_SECONDS = 30.0


class _Connection:
    """Implements `Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.raw = connection

    def run(self, query: str, *values: object) -> int:
        with _our_errors():
            return self.raw.execute(query, values).rowcount

    def all(self, query: str, *values: object) -> list[Row]:
        with _our_errors():
            return [dict(row) for row in self.raw.execute(query, values).fetchall()]

    def one(self, query: str, *values: object) -> Row | None:
        with _our_errors():
            row = self.raw.execute(query, values).fetchone()
        return None if row is None else dict(row)


class SqliteDatabase:
    """Implements `Database`.

    SQLite lets a busy process starve another for seconds. Here writers of all processes queue for a file lock first,
    so that each of them gets its turn.
    """

    claiming = ""
    locking = ""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._threads = threading.RLock()
        self._reading = threading.local()
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        with locked(self._lock):
            self._writing = _Connection(_connect(path))
            os.chmod(path, 0o600)
            with _our_errors():
                self._writing.raw.execute("PRAGMA journal_mode = WAL")
                for statement in statements(SQLITE):
                    self._writing.raw.execute(statement)
                for table, column, definition in ADDED:
                    if not self._writing.all(f"SELECT 1 FROM pragma_table_info('{table}') WHERE name = '{column}'"):  # noqa: S608
                        self._writing.raw.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")

    def all(self, query: str, *values: object) -> list[Row]:
        return self._reader().all(query, *values)

    def one(self, query: str, *values: object) -> Row | None:
        return self._reader().one(query, *values)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[_Connection]:
        # A lock of this process for its threads, then one of the file for the processes.
        with self._threads, locked(self._lock), self._synchronising(durable):
            self._writing.run("BEGIN IMMEDIATE")
            try:
                yield self._writing
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writing.raw.execute("ROLLBACK")
                raise
            try:
                self._writing.run("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writing.raw.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _synchronising(self, durable: bool) -> Iterator[None]:
        """In WAL mode NORMAL commits without waiting for the disk; the next durable commit takes them along."""
        if durable:
            yield
            return
        self._writing.run("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._writing.run("PRAGMA synchronous = FULL")

    def close(self) -> None:
        self._writing.raw.close()
        os.close(self._lock)

    def _reader(self) -> _Connection:
        connection: _Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = _Connection(_connect(self._path))
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    with _our_errors():
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


@contextlib.contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise StorageError(
            f"the service's database refused: {error}", hint="check the disk's free space and the folder's permissions"
        ) from error
