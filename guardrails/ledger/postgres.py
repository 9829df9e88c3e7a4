"""The store for many workers and machines: PostgreSQL through psycopg.

Writers insert freely, each in a transaction of its own; only the sequencer holds an advisory lock. A lock around every
insert would cost one commit's latency per record (about 170 records/s instead of thousands).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import errors

from guardrails.errors import GuardrailsError, LedgerError, StorageError
from guardrails.ledger.sql import FORMAT, Row, SqlStore, absolute, schema
from guardrails.ledger.store import NewRecord

SCHEMA = "guardrails_ledger"

# Set for each connection: the server's own default may trade durability for speed.
_DURABLE = "SET synchronous_commit TO on"
# Of a machine that vanished the server hears after these seconds, and frees the locks that it held.
_KEEPALIVES = "SET tcp_keepalives_idle TO 2; SET tcp_keepalives_interval TO 1; SET tcp_keepalives_count TO 2"
_MAKE_LOCK = "guardrails_ledger schema"

# One statement for any number of records, so that staging costs one round trip and one commit.
_STAGE = """
WITH given (
    record_id, kind, created_at, mark_id, manifest_id, image_sha256, entry, wrapped_key, data, release_id, staged_path,
    final_path, number
) AS ({rows}), written AS (
    INSERT INTO records (record_id, kind, created_at, mark_id, manifest_id, image_sha256, entry)
    SELECT record_id, kind, created_at, mark_id, manifest_id, image_sha256, entry FROM given ORDER BY number
    RETURNING seq, record_id
), waiting AS (
    INSERT INTO staging (seq) SELECT seq FROM written
), kept AS (
    INSERT INTO payloads (seq, wrapped_key, data)
    SELECT seq, wrapped_key, data FROM given JOIN written USING (record_id) WHERE data IS NOT NULL
)
INSERT INTO releases (record_id, staged_path, final_path)
SELECT release_id, staged_path, final_path FROM given WHERE release_id IS NOT NULL
"""
# In the binary form: as text every byte of an entry would travel as two digits. Arrays take any number of records, and
# cost twice as much as plain values when there is one.
_TYPES = ("text",) * 6 + ("bytea",) * 3 + ("text",) * 3
_STAGE_ONE = _STAGE.format(rows=f"VALUES ({', '.join(f'%b::{kind}' for kind in _TYPES)}, 1)")
_ARRAYS = ", ".join(f"%b::{kind}[]" for kind in _TYPES)
_STAGE_MANY = _STAGE.format(rows=f"SELECT * FROM unnest({_ARRAYS}) WITH ORDINALITY")  # noqa: S608
_PLACE = """
WITH placed AS (
    INSERT INTO leaves (idx, seq)
    SELECT %b + number - 1, seq FROM unnest(%b::bigint[]) WITH ORDINALITY AS row (seq, number)
)
DELETE FROM staging WHERE seq = ANY (%b::bigint[])
"""


class PostgresStore(SqlStore):
    """One connection; it is made anew when the server has closed it.

    Args:
        address: a libpq connection string or URL.
        writes: False opens for reading only.

    Raises:
        StorageError: the server cannot be reached.
        LedgerError: the database holds no ledger (writes=False), or one of another format.
    """

    def __init__(self, address: str, *, writes: bool) -> None:
        self._address = address
        self._writes = writes
        self._threads = threading.RLock()
        self._depth = 0
        self._leading: psycopg.Connection[Row] | None = None
        with errors_of_postgres():
            self._connection = self._connect()
        try:
            if writes:
                self._make_tables()
            self._check_format()
        except GuardrailsError:
            self._connection.close()
            raise

    def close(self) -> None:
        with self._threads:
            self._connection.close()

    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[None]:
        self._refuse_reader()
        with self._held():
            self._all("SELECT pg_advisory_lock(hashtextextended(?, 0))", f"{SCHEMA} {what}")
            try:
                yield
            finally:
                # A closed connection has given its locks back.
                if not self._connection.closed:
                    self._all("SELECT pg_advisory_unlock(hashtextextended(?, 0))", f"{SCHEMA} {what}")

    def lead(self) -> bool:
        self._refuse_reader()
        with self._held():
            if self._leading is not self._connection:
                held = self._all("SELECT pg_try_advisory_lock(hashtextextended(?, 0))", f"{SCHEMA} leader")[0][0]
                self._leading = self._connection if held else None
            return self._leading is self._connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._refuse_reader()
        with self._held(), errors_of_postgres(), self._connection.transaction():
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._held(), errors_of_postgres(), self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def submit(self, records: Sequence[NewRecord]) -> None:
        # A statement by itself is a transaction.
        self._refuse_reader()
        self.stage(records)

    def stage(self, records: Sequence[NewRecord]) -> None:
        if len(records) == 1:
            self._one(_STAGE_ONE, *_columns(records[0]))
        elif records:
            self._one(_STAGE_MANY, *map(list, zip(*map(_columns, records), strict=True)))

    def place(self, first_index: int, seqs: Sequence[int]) -> None:
        self._one(_PLACE, first_index, list(seqs), list(seqs))

    def scrub(self) -> None:
        # Erased rows are dead rows until they are vacuumed.
        self._refuse_reader()
        with self._threads, errors_of_postgres():
            self._live().execute(f"VACUUM {SCHEMA}.payloads")

    def _all(self, query: str, *values: object) -> list[Row]:
        with self._threads, errors_of_postgres():
            return self._live().execute(_translated(query), values, binary=True).fetchall()

    def _one(self, query: str, *values: object) -> None:
        with self._threads, errors_of_postgres():
            self._live().execute(query, values)

    def _run(self, query: str, rows: Sequence[Row]) -> None:
        if rows:
            with self._threads, errors_of_postgres(), self._live().cursor() as cursor:
                cursor.executemany(_translated(query), rows)

    def _connect(self) -> psycopg.Connection[Row]:
        connection = psycopg.connect(self._address, autocommit=True)
        connection.execute(f"SET search_path TO {SCHEMA}")
        connection.execute(_KEEPALIVES)
        connection.execute(_DURABLE if self._writes else "SET default_transaction_read_only TO on")
        return connection

    def _live(self) -> psycopg.Connection[Row]:
        # Not within a transaction or a lock: both went with the connection that held them.
        if self._connection.closed and not self._depth:
            self._connection = self._connect()
        return self._connection

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """This thread's alone, and the same connection to the end."""
        with self._threads:
            with errors_of_postgres():
                self._live()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def _make_tables(self) -> None:
        with self.lock(_MAKE_LOCK), self.transaction():
            if not self._exists():
                self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                for statement in schema(
                    integer="BIGINT", blob="BYTEA", serial="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
                ):
                    self._connection.execute(statement)
                self._connection.execute(f"CREATE TABLE format AS SELECT {FORMAT} AS version")

    def _check_format(self) -> None:
        if not self._exists():
            raise LedgerError(
                "the database holds no ledger", hint="check the address; opening it for writing makes a ledger"
            )
        version = self._all("SELECT version FROM format")[0][0]
        if version != FORMAT:
            raise LedgerError(
                f"the ledger has format {version}, expected {FORMAT}",
                hint="use the version of this software that wrote it",
            )

    def _exists(self) -> bool:
        return bool(self._all(f"SELECT to_regclass('{SCHEMA}.format') IS NOT NULL")[0][0])

    def _refuse_reader(self) -> None:
        if not self._writes:
            raise LedgerError("this ledger was opened for reading", hint="open it with create=True to write")


@contextlib.contextmanager
def errors_of_postgres() -> Iterator[None]:
    """Turn PostgreSQL's errors into ours, by class of SQLSTATE."""
    try:
        yield
    except errors.UniqueViolation as error:
        if error.diag.constraint_name == "records_record_id_key":
            raise LedgerError("the record is already in the ledger", hint="give each image its own id") from error
        raise LedgerError(f"the ledger's database refused: {error}", hint="run fsck on the ledger") from error
    except psycopg.OperationalError as error:
        raise StorageError(
            f"the ledger's database cannot be used: {_first_line(error)}",
            hint="check that the server runs, its address, and its free space",
        ) from error
    except psycopg.Error as error:
        raise LedgerError(
            f"the ledger's database refused: {_first_line(error)}", hint="run fsck on the ledger"
        ) from error


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _columns(record: NewRecord) -> Row:
    payload, release = record.payload, record.release
    return (
        *record.names,
        record.entry,
        *(payload or (None, None)),
        *((None,) * 3 if release is None else (release.record_id, absolute(release.staged), absolute(release.final))),
    )


def _translated(query: str) -> str:
    return query.replace("?", "%s")
