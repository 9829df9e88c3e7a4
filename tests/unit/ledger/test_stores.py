"""One conformance suite for every store, and stores that are broken on purpose."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from guardrails.errors import LedgerError, StorageError
from guardrails.ledger.postgres import PostgresStore
from guardrails.ledger.sqlite import SqliteStore
from guardrails.ledger.store import Leaf, NewRecord
from guardrails.testing.store_contract import NewDatabase, new_record, store_violations


def sqlite_databases(folder: Path, kind: type[SqliteStore] = SqliteStore) -> NewDatabase:
    numbers = itertools.count()

    def new_database() -> Callable[[], SqliteStore]:
        place = folder / str(next(numbers))
        return lambda: kind.open_for_writing(place)  # type: ignore[return-value]

    return new_database


def test_sqlite_keeps_the_contract(tmp_path: Path) -> None:
    assert store_violations(sqlite_databases(tmp_path)) == []


def test_postgres_keeps_the_contract(new_postgres: Callable[[], str]) -> None:
    def new_database() -> Callable[[], PostgresStore]:
        address = new_postgres()
        return lambda: PostgresStore(address, writes=True)

    assert store_violations(new_database) == []


class CommitsWhatFailed(SqliteStore):
    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.lock("writer"):
            yield


class LocksNothing(SqliteStore):
    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[None]:
        yield


class FindsTheLast(SqliteStore):
    def leaf_by(self, name: str, value: str) -> Leaf | None:
        found = [leaf.position for page in self.leaves() for leaf in page if getattr(leaf, name) == value]
        return self.leaf_at(found[-1]) if found else None


class LeavesGaps(SqliteStore):
    def place(self, first_index: int, seqs: Sequence[int]) -> None:
        super().place(first_index, seqs[:1])
        super().place(first_index + 2, seqs[1:])


class LosesAPage(SqliteStore):
    def leaves(self, start: int = 0, stop: int | None = None):  # type: ignore[no-untyped-def]
        yield from itertools.islice(super().leaves(start, stop), 2)


class ErasesNothing(SqliteStore):
    def erase(self, record_ids: Collection[str], erased_by: str) -> None:
        pass


class ErasesEverything(SqliteStore):
    def erase(self, record_ids: Collection[str], erased_by: str) -> None:
        self._run("UPDATE payloads SET wrapped_key = NULL, data = NULL, erased_by = ?", [(erased_by,)])


class OverwritesIds(SqliteStore):
    def stage(self, records: Sequence[NewRecord]) -> None:
        self._run("DELETE FROM records WHERE record_id = ?", [(record.names.record_id,) for record in records])
        super().stage(records)


class SeesTheFuture(SqliteStore):
    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        yield


class KeepsOldTiles(SqliteStore):
    def write_tiles(self, tiles):  # type: ignore[no-untyped-def]
        super().write_tiles({key: tile for key, tile in tiles.items() if not self.tile(*key)})


@pytest.mark.parametrize(
    "broken",
    [
        CommitsWhatFailed,
        LocksNothing,
        FindsTheLast,
        LeavesGaps,
        LosesAPage,
        ErasesNothing,
        ErasesEverything,
        OverwritesIds,
        SeesTheFuture,
        KeepsOldTiles,
    ],
)
def test_a_broken_store_breaks_the_contract(tmp_path: Path, broken: type[SqliteStore]) -> None:
    def opened(place: Path) -> SqliteStore:
        store = SqliteStore.open_for_writing(place)
        store.__class__ = broken
        return store

    numbers = itertools.count()

    def new_database() -> Callable[[], SqliteStore]:
        place = tmp_path / str(next(numbers))
        return lambda: opened(place)

    assert store_violations(new_database)


def test_postgres_is_opened_for_reading_without_writing(new_postgres: Callable[[], str]) -> None:
    address = new_postgres()
    with pytest.raises(LedgerError, match="holds no ledger"):
        PostgresStore(address, writes=False)
    with contextlib.closing(PostgresStore(address, writes=True)):
        pass
    with contextlib.closing(PostgresStore(address, writes=False)) as reader:
        with pytest.raises(LedgerError, match="opened for reading"), reader.transaction():
            pass
        with pytest.raises(LedgerError, match="opened for reading"), reader.lock("sequencer"):
            pass
        assert reader.size() == 0


def test_a_server_that_is_not_there_is_a_storage_error_that_hides_the_password() -> None:
    with pytest.raises(StorageError, match="cannot be used") as caught:
        PostgresStore("postgresql://user:hush@127.0.0.1:1/none", writes=True)
    assert "hush" not in str(caught.value)


def test_postgres_commits_are_durable_whatever_the_servers_default(new_postgres: Callable[[], str]) -> None:
    address = new_postgres()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("ALTER DATABASE " + connection.info.dbname + " SET synchronous_commit TO off")
    with contextlib.closing(PostgresStore(address, writes=True)) as store:
        assert store._all("SHOW synchronous_commit") == [("on",)]


def test_a_connection_that_the_server_closed_is_made_anew_but_not_in_the_middle_of_a_transaction(
    new_postgres: Callable[[], str],
) -> None:
    address = new_postgres()

    def close_the_others() -> None:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )

    with contextlib.closing(PostgresStore(address, writes=True)) as store:
        record = new_record()

        def interrupted_in_the_middle() -> None:
            with store.transaction():
                store.stage([new_record()])
                close_the_others()
                store.stage([record])

        with pytest.raises(StorageError):
            interrupted_in_the_middle()
        with store.transaction():
            store.stage([record])
        assert [each.record_id for each in store.waiting(9)] == [record.names.record_id]


def test_a_format_of_another_version_is_refused(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    SqliteStore.open_for_writing(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(LedgerError, match="format 1, expected 2"):
        SqliteStore.open_for_writing(tmp_path)
    address = new_postgres()
    with contextlib.closing(PostgresStore(address, writes=True)) as store:
        store._run("UPDATE format SET version = ?", [(1,)])
    with pytest.raises(LedgerError, match="format 1, expected 2"):
        PostgresStore(address, writes=True)
