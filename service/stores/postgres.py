"""PostgreSQL, for many workers on many machines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
from collections.abc import Iterator
from typing import Any

from guardrails.errors import StorageError, UnavailableError
from service.stores.database import Row
from service.stores.schema import ADDED, POSTGRESQL, statements

# Of this service's own; whoever makes the tables holds it, so that two starts do not collide.
_SCHEMA_LOCK = 0x67756172
# A machine that vanishes in the middle of a transaction must not hold up the others: the server looks whether a silent
# client is still there, ends what stands still, and lets nobody wait for a lock for ever. Of these, what a server does
# not know is left out.
_SESSION = {
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "30s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_MOST_CONNECTIONS = 8


class _Connection:
    """Implements `Transaction`."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def run(self, query: str, *values: object) -> int:
        return int(self.raw.execute(query.replace("?", "%s"), values).rowcount)

    def all(self, query: str, *values: object) -> list[Row]:
        return list(self.raw.execute(query.replace("?", "%s"), values).fetchall())

    def one(self, query: str, *values: object) -> Row | None:
        row: Row | None = self.raw.execute(query.replace("?", "%s"), values).fetchone()
        return row


class PostgresDatabase:
    """Implements `Database` with a small pool of connections, opened when they are needed.

    Args:
        address: "postgresql://user:password@host:port/database".
    """

    claiming = " FOR UPDATE SKIP LOCKED"
    locking = " FOR UPDATE"

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(_MOST_CONNECTIONS):
            self._idle.put(None)
        added = [f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {kind}" for table, column, kind in ADDED]
        self._make_tables([*statements(POSTGRESQL), *added])

    def all(self, query: str, *values: object) -> list[Row]:
        with self.transaction() as transaction:
            return transaction.all(query, *values)

    def one(self, query: str, *values: object) -> Row | None:
        with self.transaction() as transaction:
            return transaction.one(query, *values)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[_Connection]:
        import psycopg

        raw = self._idle.get()
        try:
            raw = raw if raw is not None and not raw.closed else self._connect()
            with raw.transaction():
                if not durable:
                    raw.execute("SET LOCAL synchronous_commit TO OFF")
                yield _Connection(raw)
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            # The connection may be broken; the next one is fresh.
            with contextlib.suppress(Exception):
                raw.close()
            raise StorageError(
                f"the service's database refused: {type(error).__name__}",
                hint="check that PostgreSQL runs and has room",
            ) from error
        finally:
            self._idle.put(raw)

    def close(self) -> None:
        for _ in range(_MOST_CONNECTIONS):
            raw = self._idle.get()
            if raw is not None:
                raw.close()

    def _make_tables(self, made_by: list[str]) -> None:
        """Make what is not there yet.

        Looking comes first: even where an index is there already, making it waits until every open transaction on its
        table has ended, and all that come after it wait behind.
        """
        digest = hashlib.sha256("\n".join(made_by).encode()).hexdigest()
        with self.transaction() as transaction:
            if _is_made(transaction, digest):
                return
            transaction.all("SELECT pg_advisory_xact_lock(?)", _SCHEMA_LOCK)
            for statement in (*made_by, "CREATE TABLE IF NOT EXISTS schema_made (digest TEXT PRIMARY KEY)"):
                transaction.run(statement)
            transaction.run("INSERT INTO schema_made (digest) VALUES (?) ON CONFLICT DO NOTHING", digest)

    def _connect(self) -> Any:
        import psycopg
        from psycopg.rows import dict_row

        try:
            connection: Any = psycopg.connect(self._address, autocommit=True, row_factory=dict_row, connect_timeout=10)
        except psycopg.OperationalError as error:
            # The message may quote the address, which may hold a password.
            raise UnavailableError("PostgreSQL does not answer", hint="check the setting `database`") from error
        connection.execute(
            "SELECT set_config(name, %s::json ->> name, false) FROM pg_settings WHERE %s::json ->> name IS NOT NULL",
            [json.dumps(_SESSION)] * 2,
        )
        return connection


def _is_made(transaction: _Connection, digest: str) -> bool:
    (there,) = transaction.all("SELECT to_regclass('schema_made') IS NOT NULL AS made")
    return there["made"] and transaction.one("SELECT digest FROM schema_made WHERE digest = ?", digest) is not None
