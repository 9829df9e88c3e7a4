"""Thumbnails of an index's works: one SQLite file beside its segments, `thumbnails.sqlite`.

They lie apart from the segments because segments are never changed, and a thumbnail must be able to go.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.errors import IndexFormatError, StorageError

if TYPE_CHECKING:
    from sqlite3 import Connection

FILE = "thumbnails.sqlite"
_CREATE = "CREATE TABLE IF NOT EXISTS thumbnails (id TEXT PRIMARY KEY, webp BLOB NOT NULL)"
_IS_MADE = "SELECT 1 FROM sqlite_master WHERE name = 'thumbnails'"
_GET = "SELECT webp FROM thumbnails WHERE id = ?"
_PUT = "INSERT OR REPLACE INTO thumbnails (id, webp) VALUES (?, ?)"
_TAKE_OVER = "INSERT OR REPLACE INTO thumbnails (id, webp) SELECT id, webp FROM other.thumbnails"
_SECONDS = 30.0


class Thumbnails:
    """The thumbnails in an index folder; may be shared between threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def put(self, thumbnails: Mapping[str, bytes]) -> None:
        """Keep WebP files by the ids of their works, all or none; nothing is written for an empty mapping.

        Raises:
            StorageError: the folder cannot be written.
        """
        if thumbnails:
            with self._writing() as connection:
                connection.executemany(_PUT, thumbnails.items())

    def get(self, entry_id: str) -> bytes | None:
        """The WebP of a work, or None.

        Raises:
            IndexFormatError: the file is damaged.
        """
        if not self._path.exists():
            return None
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_SECONDS)) as connection:
                # Another process may be making the file just now.
                is_made = connection.execute(_IS_MADE).fetchone()
                row = connection.execute(_GET, (entry_id,)).fetchone() if is_made else None
        except sqlite3.Error as error:
            if not self._path.exists():
                # Dropped since the look.
                return None
            raise IndexFormatError(f"cannot read {self._path}: {error}", hint="remove it, nothing needs it") from error
        return None if row is None else bytes(row[0])

    def take_over(self, folder: Path) -> None:
        """Add those of another folder.

        Raises:
            StorageError: either cannot be used.
        """
        if (folder / FILE).exists():
            with self._writing() as connection:
                connection.execute("ATTACH DATABASE ? AS other", (str(folder / FILE),))
                connection.execute(_TAKE_OVER)

    def drop(self) -> None:
        """Remove all."""
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_SECONDS)) as connection, connection:
                connection.execute(_CREATE)
                yield connection
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot write {self._path}: {error}", hint="check that the folder is writable and has room"
            ) from error
