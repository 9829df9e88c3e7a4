"""Several sequencers on one log: one leads, and when it is killed another one goes on."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg
import pytest

from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import LedgerError, StorageError
from guardrails.ledger import Ledger, Sequencer
from guardrails.ledger.postgres import PostgresStore

FORK = multiprocessing.get_context("fork")
PATIENCE = 60.0


def record_of() -> Record:
    return Record(
        id=str(ImageId.new()),
        kind=RecordKind.GENERATION,
        created_at="2026-11-24T08:00:00.000Z",
        policy=PolicyRef(id="default", version="1", digest="ab" * 32),
    )


def sequence_forever(folder: Path, database: str) -> None:
    with Ledger.open(folder, database=database) as ledger:
        Sequencer(ledger, interval=0.02).run()


def wait_until_placed(ledger: Ledger, record_ids: list[str]) -> list[int]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = [ledger.find_by_id(record_id) for record_id in record_ids]
        if None not in found:
            return [logged.index for logged in found if logged is not None]
        time.sleep(0.01)
    raise AssertionError("records were not given their places")


@pytest.fixture
def sequencers(tmp_path: Path, database: str) -> Iterator[list[BaseProcess]]:
    Ledger.open(tmp_path / "ledger", database=database).close()
    running: list[BaseProcess] = []
    for _ in range(3):
        running.append(FORK.Process(target=sequence_forever, args=(tmp_path / "ledger", database)))
        running[-1].start()
    yield running
    for process in running:
        process.kill()
        process.join()


def test_whoever_leads_is_killed_and_another_goes_on(
    tmp_path: Path, database: str, sequencers: list[BaseProcess]
) -> None:
    with Ledger.open(tmp_path / "ledger", database=database, merges=False) as worker:
        records = []
        for survivors in (2, 1):
            records += [worker.append(record_of()).record_id for _ in range(20)]
            sequencers.pop(0).kill()
            records += [worker.append(record_of()).record_id for _ in range(20)]
            wait_until_placed(worker, records)
            assert sum(process.is_alive() for process in sequencers) == survivors
        assert sorted(wait_until_placed(worker, records)) == list(range(80))
        assert worker.fsck() == 80


def test_who_does_not_lead_places_nothing(tmp_path: Path, database: str) -> None:
    with (
        Ledger.open(tmp_path / "ledger", database=database) as leader,
        Ledger.open(tmp_path / "ledger", database=database) as standby,
        Ledger.open(tmp_path / "ledger", database=database, merges=False) as worker,
    ):
        assert leader.lead()
        worker.append(record_of())
        sequencer = Sequencer(standby, interval=0.01)
        sequencer.stop()
        sequencer.run()
        assert worker.backlog()[0] == 1
        leader.close()
        until = time.monotonic() + PATIENCE
        while worker.backlog()[0] and time.monotonic() < until:
            sequencer.run()
        assert worker.fsck() == 1


def test_a_reader_cannot_lead(tmp_path: Path, database: str) -> None:
    Ledger.open(tmp_path / "ledger", database=database).close()
    with (
        Ledger.open(tmp_path / "ledger", database=database, create=False) as reader,
        pytest.raises(LedgerError, match="for reading"),
    ):
        reader.lead()


def test_a_waiting_record_is_known_and_promised_anew(tmp_path: Path, database: str) -> None:
    with Ledger.open(tmp_path / "ledger", database=database, merges=False) as worker:
        record = record_of()
        assert worker.record(record.id) is None
        with pytest.raises(LedgerError, match="no record"):
            worker.receipt(record.id)
        promised = worker.append(record)
        again = worker.receipt(record.id)
        assert worker.record(record.id) == record
        assert (again.index, again.checkpoint, again.leaf_hash) == (None, "", promised.leaf_hash)
        worker.merge()
        placed = worker.receipt(record.id)
        assert (placed.index, placed.checkpoint) == (0, worker.checkpoint())
        assert worker.read_receipt(placed.note)[1] == worker.find_by_id(record.id)
        with Ledger.open(tmp_path / "ledger", database=database, create=False) as reader:
            assert reader.record(record.id) == record
            with pytest.raises(LedgerError, match="for reading"):
                reader.receipt(record.id)


def test_a_leader_whose_session_ends_leads_no_more(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    database = new_postgres()
    with (
        Ledger.open(tmp_path / "ledger", database=database) as leader,
        Ledger.open(tmp_path / "ledger", database=database) as standby,
    ):
        assert leader.lead()
        assert not standby.lead()
        store = leader._store
        assert isinstance(store, PostgresStore)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [store._connection.info.backend_pid])
        until = time.monotonic() + PATIENCE
        while not standby.lead():
            assert time.monotonic() < until
        # Its own connection tells it at the next use; until then nothing that it does can succeed.
        with pytest.raises(StorageError):
            leader.merge()
        assert not leader.lead()
        standby.append(record_of())
        assert leader.fsck() == 1
