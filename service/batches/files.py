"""Files of a tenant: what it uploaded for a batch, and what a batch answered. They hold prompts, so they expire."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrails.errors import GuardrailsError
from guardrails.files import write_atomically
from service.stores import Database, Row, Transaction

# What is younger than this may belong to a row that is about to be written.
_ORPHAN_SECONDS = 3600.0
_LONGEST_NAME = 255


class FilesFull(GuardrailsError):
    """The tenant's files take up all the room that it has."""

    code, http_status = "files_full", 413


class FileInUse(GuardrailsError):
    """A batch still reads the file."""

    code, http_status = "file_in_use", 409


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file.

    Attributes:
        name: as the client called it; never used as a path.
        purpose: "batch" or "batch_output".
        bytes: its length.
    """

    id: str
    tenant: str
    name: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float


class Files:
    """The table of files and the folder that they lie in, shared by all API processes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def upload(self, tenant: str, data: bytes, *, name: str, seconds: float, most: int) -> StoredFile:
        """Keep an input file.

        Args:
            seconds: how long.
            most: bytes that all files of the tenant may have together.

        Raises:
            FilesFull: there is no room left.
            StorageError: it cannot be written.
        """
        id = new_id()
        write_atomically(self.path(id), data, mode=0o600)
        try:
            return self.register(id, tenant, name=name, purpose="batch", seconds=seconds, most=most)
        except FilesFull:
            self.path(id).unlink()
            raise

    def register(
        self, id: str, tenant: str, *, name: str, purpose: str, seconds: float, most: int | None = None
    ) -> StoredFile:
        """Note a file that lies at `path(id)` already; a second time changes nothing."""
        now = time.time()
        file = StoredFile(
            id=id,
            tenant=tenant,
            name=name[:_LONGEST_NAME],
            purpose=purpose,
            bytes=self.path(id).stat().st_size,
            created_at=now,
            expires_at=now + seconds,
        )
        with self._database.transaction() as transaction:
            if most is not None and _used(transaction, tenant) + file.bytes > most:
                raise FilesFull(f"the files of a tenant have at most {most} bytes", hint="delete some")
            transaction.run(
                "INSERT INTO files (id, tenant, name, purpose, bytes, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                id,
                tenant,
                # The client's own words: as JSON, because a database that keeps text cannot keep every character.
                json.dumps(file.name),
                purpose,
                file.bytes,
                now,
                file.expires_at,
            )
        return file

    def get(self, id: str, tenant: str) -> StoredFile:
        """Raises KeyError: no such file, it has expired, or it is another tenant's."""
        row = self._database.one(
            "SELECT * FROM files WHERE id = ? AND tenant = ? AND expires_at > ?", id, tenant, time.time()
        )
        if row is None:
            raise KeyError(id)
        return _file(row)

    def of_tenant(
        self, tenant: str, *, limit: int, after: str = "", purpose: str = "", ascending: bool = False
    ) -> list[StoredFile]:
        """Files in the order of their arrival, beginning behind the file `after`.

        Raises:
            KeyError: there is no file `after`.
        """
        compare, order = (">", "ASC") if ascending else ("<", "DESC")
        condition: str = "tenant = ? AND expires_at > ?"
        values: list[Any] = [tenant, time.time()]
        if purpose:
            condition, values = f"{condition} AND purpose = ?", [*values, purpose]
        if after:
            first = self.get(after, tenant)
            condition = f"{condition} AND (created_at, id) {compare} (?, ?)"
            values = [*values, first.created_at, first.id]
        rows = self._database.all(
            f"SELECT * FROM files WHERE {condition} ORDER BY created_at {order}, id {order} LIMIT ?",  # noqa: S608
            *values,
            limit,
        )
        return [_file(row) for row in rows]

    def path(self, id: str) -> Path:
        """Where a file lies; ids are of our own making."""
        return self._folder / id

    def delete(self, id: str, tenant: str) -> None:
        """Forget a file at once.

        Raises:
            KeyError: there is none.
            FileInUse: a batch still reads it.
        """
        file = self.get(id, tenant)
        with self._database.transaction() as transaction:
            # Nobody begins a batch with it meanwhile, see `BatchTable.add`.
            transaction.one(f"SELECT id FROM files WHERE id = ?{self._database.locking}", id)  # noqa: S608 - own
            if transaction.one("SELECT id FROM batches WHERE input_file = ? AND ended_at IS NULL LIMIT 1", id):
                raise FileInUse("a batch still reads this file", hint="cancel the batch first")
            transaction.run("DELETE FROM files WHERE id = ?", id)
        self.path(file.id).unlink(missing_ok=True)

    def forget_expired(self) -> None:
        """Remove what has expired and is read by no batch, and what no row names."""
        now = time.time()
        with self._database.transaction() as transaction:
            transaction.run(
                "DELETE FROM files WHERE expires_at < ?"
                " AND id NOT IN (SELECT input_file FROM batches WHERE ended_at IS NULL)",
                now,
            )
        known = {row["id"] for row in self._database.all("SELECT id FROM files")}
        for path in self._folder.glob("file-*"):
            with contextlib.suppress(FileNotFoundError):
                if path.name not in known and path.stat().st_mtime < now - _ORPHAN_SECONDS:
                    path.unlink()


def new_id() -> str:
    return f"file-{uuid.uuid4().hex}"


def _file(row: Row) -> StoredFile:
    return StoredFile(**{**row, "name": json.loads(row["name"])})


def _used(transaction: Transaction, tenant: str) -> int:
    row = transaction.one("SELECT COALESCE(SUM(bytes), 0) AS used FROM files WHERE tenant = ?", tenant)
    return 0 if row is None else int(row["used"])
