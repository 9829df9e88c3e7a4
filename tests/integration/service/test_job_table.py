"""The conformance suite of the job table: the same promises on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from service.jobs.model import Job, Status
from service.jobs.table import JobTable, LeaseLost, Limits, QueueFull, QuotaExceeded, Refused
from service.settings import Settings
from service.stores import Database, open_database

DONE = {"images": [], "blocked": [], "error": None}


@pytest.fixture
def database(database_address: str, tmp_path: Path) -> Iterator[Database]:
    opened = open_database(Settings(home=tmp_path, database=database_address))
    yield opened
    opened.close()


@pytest.fixture
def table(database: Database) -> JobTable:
    return JobTable(database, lease_seconds=30, max_attempts=2)


def job(tenant: str = "acme", count: int = 1, **fields: Any) -> Job:
    values = {
        "id": f"job_{uuid.uuid4().hex}",
        "tenant": tenant,
        "api_key": "key",
        "kind": "generation",
        "request": {"prompt": "a fox", "format": "png"},
        "ids": tuple(str(uuid.uuid4()) for _ in range(count)),
        "policy": "default@sha256:0",
        "created_at": time.time(),
        "body_sha256": "body",
    }
    return Job(**{**values, **fields})


def test_a_job_comes_back_as_it_was(table: JobTable) -> None:
    given = job(count=2)
    found, is_new = table.submit(given)
    assert is_new
    assert dataclasses.replace(found, updated_at=0.0) == given
    assert [event.type for event in table.events(given.id)] == ["received"]


def test_the_oldest_job_is_claimed_first_and_by_one_worker(table: JobTable) -> None:
    first, _ = table.submit(job(created_at=1.0))
    second, _ = table.submit(job(created_at=2.0))
    leases = [table.claim("a"), table.claim("b"), table.claim("c")]
    assert [lease.job.id if lease else None for lease in leases] == [first.id, second.id, None]
    assert table.get(first.id).status is Status.RUNNING


def test_many_workers_never_share_a_job(table: JobTable) -> None:
    ids = {table.submit(job())[0].id for _ in range(24)}
    claimed: list[str] = []

    def work(name: int) -> None:
        while (lease := table.claim(f"worker-{name}")) is not None or len(claimed) < len(ids):
            if lease is not None:
                claimed.append(lease.job.id)
                table.finish(lease, Status.SUCCEEDED, DONE)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert sorted(claimed) == sorted(ids)
    assert table.counts() == {"succeeded": 24}


def test_requests_that_come_at_once_do_not_pass_a_tenants_limit_together(table: JobTable) -> None:
    for round_ in range(5):
        everyone_is_there, taken = threading.Barrier(6), []

        def submit(tenant: str, together: threading.Barrier, taken: list[Job]) -> None:
            together.wait(60)
            with contextlib.suppress(Refused):
                taken.append(table.submit(job(tenant), Limits(concurrent_jobs=2))[0])

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: submit(f"tenant {round_}", everyone_is_there, taken), range(6)))  # noqa: B023
        assert len(taken) == 2


def test_jobs_alike_are_claimed_up_to_a_number_of_pictures(table: JobTable) -> None:
    counts = {"a": 1, "b": 2, "c": 3, "d": 1}
    ids = {
        name: table.submit(job(count=n, form="small", created_at=i))[0].id for i, (name, n) in enumerate(counts.items())
    }
    table.submit(job(form="large"))
    first = table.claim("worker")
    assert first is not None
    assert [lease.job.id for lease in table.claim_alike(first, 4)] == [ids["b"]]
    more = table.claim_alike(first, 4)
    assert [(lease.job.id, lease.worker, lease.job.attempts) for lease in more] == [
        (ids["c"], "worker", 1),
        (ids["d"], "worker", 1),
    ]
    assert table.claim_alike(first, 4) == []
    for lease in more:
        table.heartbeat(lease)
        table.finish(lease, Status.SUCCEEDED, DONE)


def test_a_job_without_a_form_is_claimed_by_itself(table: JobTable) -> None:
    table.submit(job())
    table.submit(job())
    first = table.claim("a")
    assert first is not None
    assert table.claim_alike(first, 8) == []


def test_what_took_its_worker_with_it_is_tried_alone(table: JobTable, database: Database) -> None:
    ids = {table.submit(job(form="small"))[0].id for _ in range(3)}
    first = table.claim("dies")
    assert first is not None
    assert len(table.claim_alike(first, 8)) == 2
    with database.transaction() as transaction:
        transaction.run("UPDATE jobs SET lease_until = 0")
    table.submit(job(form="small"))
    for _ in ids:
        lease = table.claim("b")
        assert lease is not None
        assert (lease.job.id in ids, lease.job.attempts) == (True, 2)
        # Not even with the new one, which waits beside it.
        assert table.claim_alike(lease, 8) == []
        table.finish(lease, Status.SUCCEEDED, DONE)


def test_workers_that_take_several_never_share_one(table: JobTable) -> None:
    ids = {table.submit(job(form="small"))[0].id for _ in range(30)}
    claimed: list[str] = []

    def work(name: int) -> None:
        while (lease := table.claim(f"worker-{name}")) is not None or len(claimed) < len(ids):
            if lease is not None:
                for one in (lease, *table.claim_alike(lease, 4)):
                    claimed.append(one.job.id)
                    table.finish(one, Status.SUCCEEDED, DONE)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    assert sorted(claimed) == sorted(ids)


def test_events_count_from_one_without_gaps(table: JobTable) -> None:
    given, _ = table.submit(job())
    lease = table.claim("a")
    assert lease is not None
    for stage in ("screened", "generated", "checked"):
        table.advance(lease, stage, {"image": 0})
    table.finish(lease, Status.SUCCEEDED, DONE)
    events = table.events(given.id)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.type for event in table.events(given.id, 4)] == ["checked", "succeeded"]


def test_a_silent_worker_loses_its_job_and_can_write_nothing_more(database: Database) -> None:
    table = JobTable(database, lease_seconds=0.05, max_attempts=2)
    given, _ = table.submit(job())
    silent = table.claim("a")
    assert silent is not None
    time.sleep(0.1)
    other = table.claim("b")
    assert other is not None
    assert (other.job.id, other.job.attempts) == (given.id, 2)
    for write in (
        lambda: table.heartbeat(silent),
        lambda: table.advance(silent, "generated", {}),
        lambda: table.finish(silent, Status.SUCCEEDED, DONE),
    ):
        with pytest.raises(LeaseLost):
            write()
    table.finish(other, Status.SUCCEEDED, DONE)
    assert table.get(given.id).status is Status.SUCCEEDED


def test_a_heartbeat_keeps_the_job(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=time.time() + 1)
    monkeypatch.setattr("service.jobs.table.time", SimpleNamespace(time=lambda: clock.now))
    table = JobTable(database, lease_seconds=30, max_attempts=2)
    table.submit(job())
    lease = table.claim("a")
    assert lease is not None
    for _ in range(4):
        clock.now += 20
        assert table.claim("b") is None
        table.heartbeat(lease)
    clock.now += 31
    assert table.claim("b") is not None


def test_a_job_that_takes_its_workers_with_it_is_quarantined(database: Database) -> None:
    table = JobTable(database, lease_seconds=0.02, max_attempts=2)
    given, _ = table.submit(job())
    told: list[str] = []
    for name in "abc":
        lease = table.claim(name, lambda transaction, poison: told.append(poison.id))
        assert (lease is None) is (name == "c")
        time.sleep(0.05)
    found = table.get(given.id)
    assert found.status is Status.QUARANTINED
    assert found.result is not None
    assert found.result["error"]["code"] == "quarantined"
    assert told == [given.id]
    assert table.claim("d") is None


def test_what_belongs_to_the_end_of_a_job_is_written_with_it_or_not_at_all(table: JobTable, database: Database) -> None:
    given, _ = table.submit(job())
    lease = table.claim("a")
    assert lease is not None

    def fails(transaction: Any) -> None:
        transaction.run("INSERT INTO audit (at, actor, action, subject, details) VALUES (1, 'a', 'b', 'c', '{}')")
        raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError):
        table.finish(lease, Status.SUCCEEDED, DONE, fails)
    assert table.get(given.id).status is Status.RUNNING
    assert database.all("SELECT * FROM audit") == []


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_at_its_next_step(table: JobTable) -> None:
    waiting, _ = table.submit(job(created_at=2.0))
    running, _ = table.submit(job(created_at=1.0))
    lease = table.claim("a")
    assert lease is not None
    assert lease.job.id == running.id
    assert table.cancel(waiting.id).status is Status.CANCELLED
    assert table.cancel(running.id).status is Status.RUNNING
    with pytest.raises(LeaseLost):
        table.advance(lease, "generated", {})
    assert table.finish(lease, Status.CANCELLED, DONE).status is Status.CANCELLED


def test_one_idempotency_key_is_one_job_for_each_tenant(table: JobTable) -> None:
    first, _ = table.submit(job(idempotency_key="k"))
    again, is_new = table.submit(job(idempotency_key="k", body_sha256="other"))
    assert (again.id, is_new) == (first.id, False)
    assert table.submit(job("other", idempotency_key="k"))[1]


def test_equal_keys_at_the_same_moment_make_one_job(table: JobTable) -> None:
    barrier = threading.Barrier(6)

    def ask(_: int) -> str:
        barrier.wait()
        return table.submit(job(idempotency_key="same"))[0].id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1


def test_a_retry_joins_an_equal_request_of_the_same_key(table: JobTable) -> None:
    first, _ = table.submit(job())
    assert table.submit(job(), joins_since=0.0) == (first, False)
    assert table.submit(job(body_sha256="other"), joins_since=0.0)[1]
    assert table.submit(job(api_key="other"), joins_since=0.0)[1]
    assert table.submit(job(), joins_since=time.time() + 60)[1]
    assert table.submit(job())[1]


def test_limits(table: JobTable) -> None:
    table.submit(job(), Limits(queue=1))
    with pytest.raises(QueueFull):
        table.submit(job(), Limits(queue=1))
    with pytest.raises(Refused):
        table.submit(job(), Limits(concurrent_jobs=1))


def test_a_refused_quota_costs_nothing(table: JobTable, database: Database) -> None:
    table.submit(job(count=3), Limits(images_per_day=4))
    with pytest.raises(QuotaExceeded):
        table.submit(job(count=2), Limits(images_per_day=4))
    table.submit(job(count=1), Limits(images_per_day=4))
    assert [row["images"] for row in database.all("SELECT images FROM usage")] == [4]


def test_a_held_job_goes_on_once_it_is_approved(table: JobTable, database: Database) -> None:
    given, _ = table.submit(job())
    lease = table.claim("a")
    assert lease is not None
    table.finish(lease, Status.HELD, DONE)
    assert table.claim("b") is None
    with database.transaction() as transaction:
        assert table.resume(transaction, given.id, {"prompt": "a fox", "approval": {"review": "r", "rules": ["X"]}})
        assert not table.resume(transaction, given.id, {})
    again = table.claim("b")
    assert again is not None
    assert again.job.request["approval"]["rules"] == ["X"]


def test_a_held_job_that_is_cancelled_cannot_be_approved(table: JobTable, database: Database) -> None:
    given, _ = table.submit(job())
    lease = table.claim("a")
    assert lease is not None
    table.finish(lease, Status.HELD, DONE)
    assert table.cancel(given.id).status is Status.CANCELLED
    with database.transaction() as transaction:
        assert not table.resume(transaction, given.id, {"prompt": "a fox"})
    assert table.claim("a") is None


def test_old_jobs_are_forgotten_but_held_ones_are_not(table: JobTable) -> None:
    for status in (Status.SUCCEEDED, Status.HELD):
        table.submit(job())
        lease = table.claim("a")
        assert lease is not None
        table.finish(lease, status, DONE)
    assert table.forget_before(time.time() - 60) == []
    (gone,) = table.forget_before(time.time() + 60)
    assert gone.status is Status.SUCCEEDED
    with pytest.raises(KeyError):
        table.get(gone.id)
    assert table.counts() == {"held": 1}


def test_values_of_other_alphabets_and_odd_signs_survive(table: JobTable) -> None:
    given, _ = table.submit(job(request={"prompt": "ein Bär? 100 % ? — 熊 \\ ' \"", "format": "png"}))
    assert table.get(given.id).request["prompt"] == "ein Bär? 100 % ? — 熊 \\ ' \""


def test_a_start_waits_for_nobody_and_nobody_waits_for_ever(postgresql: str, tmp_path: Path) -> None:
    """A machine that vanished in the middle of a transaction holds up neither starts nor others for long."""
    settings = Settings(home=tmp_path, database=postgresql)
    vanished, table = open_database(settings), JobTable(open_database(settings), lease_seconds=30)
    table.submit(job())
    with vanished.transaction() as transaction:
        transaction.run("UPDATE jobs SET updated_at = updated_at")
        started = open_database(settings)
        assert started.one("SELECT COUNT(*) AS n FROM jobs") is not None
        with started.transaction() as waiting:
            timeouts = {
                name: waiting.one(f"SHOW {name}")[name]
                for name in ("lock_timeout", "idle_in_transaction_session_timeout")
            }
            assert timeouts == {"lock_timeout": "30s", "idle_in_transaction_session_timeout": "1min"}
            waiting.run("SET LOCAL lock_timeout TO '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                waiting.run("UPDATE jobs SET updated_at = 0")
