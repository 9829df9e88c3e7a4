"""The table of jobs. Whatever changes a job is one transaction, so that a crash falls between two states, never inside.

A worker owns a job by its lease and by the number of its attempt. When the lease runs out another worker may claim the
job; what the first one still writes is then refused (`LeaseLost`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from guardrails.errors import GuardrailsError
from service.jobs.model import Job, JobEvent, Stage, Status
from service.jobs.webhooks import enqueue
from service.stores import Also, Database, Transaction

_OPEN = "('queued', 'running')"
_ALIKE = "SELECT * FROM jobs WHERE status = 'queued' AND attempts = 0 AND form = ? ORDER BY created_at LIMIT ?"
_WAITING = (
    "SELECT * FROM jobs WHERE status = 'queued' OR (status = 'running' AND lease_until < ?) ORDER BY created_at LIMIT 1"
)


class LeaseLost(GuardrailsError):
    """Another worker has the job by now, or it was cancelled."""

    code = "lease_lost"


class Refused(GuardrailsError):
    """A job that is not taken in: too many wait, or the tenant's limits are reached."""

    code, http_status = "rate_limit_exceeded", 429


class QueueFull(Refused):
    """Too many jobs wait."""

    code, http_status = "overloaded", 503


class QuotaExceeded(Refused):
    """The tenant's pictures of this day are used up."""

    code = "quota_exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a submission is held against; 0 is no limit."""

    queue: int = 0
    images_per_day: int = 0
    concurrent_jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claimed job; `job.attempts` is this attempt."""

    job: Job
    worker: str


class JobTable:
    """Jobs on a database, shared by the API and by all workers.

    Args:
        lease_seconds: a worker that sends no heartbeat for so long has lost its job.
        max_attempts: a job that was claimed so often and never finished is quarantined.
    """

    def __init__(self, database: Database, *, lease_seconds: float = 30.0, max_attempts: int = 2) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts

    def submit(self, job: Job, limits: Limits | None = None, *, joins_since: float | None = None) -> tuple[Job, bool]:
        """Take in a job, unless it is the repetition of one that is here.

        Args:
            joins_since: take an equal body of the same API key that arrived after this time for the same job.

        Returns:
            The job as it stands, and whether it is new.

        Raises:
            QueueFull, QuotaExceeded, Refused: a limit is reached.
        """
        with self._database.transaction() as transaction:
            known = self._known(transaction, job, joins_since)
            if known is not None:
                return known, False
            inserted = _insert(transaction, job)
            if inserted:
                # What is raised here takes the row back again.
                _check_limits(transaction, job, limits or Limits())
                _add_event(transaction, job.id, Stage.RECEIVED, {})
        # Two machines may take in the same key at once; the second one finds the first one's job.
        return (self.get(job.id), True) if inserted else (self._by_key(job), False)

    def get(self, id: str, tenant: str | None = None) -> Job:
        """The job as it stands.

        Raises:
            KeyError: no such job, or another tenant's.
        """
        row = self._database.one("SELECT * FROM jobs WHERE id = ?", id)
        if row is None or (tenant is not None and row["tenant"] != tenant):
            raise KeyError(id)
        return Job.from_row(row)

    def standing(self, ids: Sequence[str]) -> dict[str, tuple[str, float]]:
        """Status and time of the last change of many jobs at once."""
        marks = ", ".join("?" * len(ids))
        rows = self._database.all(f"SELECT id, status, updated_at FROM jobs WHERE id IN ({marks})", *ids)  # noqa: S608
        return {row["id"]: (row["status"], row["updated_at"]) for row in rows}

    def of_tenant(self, tenant: str, limit: int = 50) -> list[Job]:
        """The newest jobs of a tenant."""
        rows = self._database.all("SELECT * FROM jobs WHERE tenant = ? ORDER BY created_at DESC LIMIT ?", tenant, limit)
        return [Job.from_row(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each status."""
        rows = self._database.all("SELECT status, COUNT(*) AS n FROM jobs GROUP BY status")
        return {row["status"]: int(row["n"]) for row in rows}

    def claim(self, worker: str, also_quarantined: Callable[[Transaction, Job], None] | None = None) -> Lease | None:
        """The oldest job that waits, or whose worker has gone silent; None when there is none.

        A job that has used up its attempts is quarantined here instead of being tried again.
        """
        now = time.time()
        if self._database.one(_WAITING, now) is None:
            return None
        with self._database.transaction() as transaction:
            row = transaction.one(_WAITING + self._database.claiming, now)
            if row is None:
                return None
            job = Job.from_row(row)
            if job.attempts >= self._max_attempts:
                self._quarantine(transaction, job, also_quarantined)
                return None
            return self._take(transaction, job, worker, now)

    def claim_alike(self, lease: Lease, pictures: int) -> list[Lease]:
        """Jobs that can be drawn in one call with a claimed one; the oldest first.

        Only jobs that nobody has tried: one that took its worker with it is tried by itself, and so is found.

        Args:
            pictures: they have at most so many together.
        """
        now, asked = time.time(), (lease.job.form, pictures)
        if not lease.job.form or lease.job.attempts > 1 or self._database.one(_ALIKE, *asked) is None:
            return []
        leases: list[Lease] = []
        with self._database.transaction() as transaction:
            for row in transaction.all(_ALIKE + self._database.claiming, *asked):
                job = Job.from_row(row)
                pictures -= len(job.ids)
                if pictures < 0:
                    break
                leases.append(self._take(transaction, job, lease.worker, now))
        return leases

    def heartbeat(self, lease: Lease) -> None:
        """Say that the worker is alive.

        Raises:
            LeaseLost: the job is another worker's by now.
        """
        with self._database.transaction() as transaction:
            self._own(transaction, lease, "lease_until = ?", time.time() + self._lease_seconds)

    def advance(self, lease: Lease, stage: str, data: Mapping[str, Any]) -> None:
        """Note that a step is done; also a heartbeat.

        Raises:
            LeaseLost: the job is another worker's by now, or was cancelled.
        """
        now = time.time()
        with self._database.transaction() as transaction:
            self._own(
                transaction, lease, "stage = ?, lease_until = ?, updated_at = ?", stage, now + self._lease_seconds, now
            )
            _add_event(transaction, lease.job.id, stage, data)

    def finish(self, lease: Lease, status: Status, result: Mapping[str, Any], also: Also | None = None) -> Job:
        """End a job. What `also` writes is part of the same transaction.

        Raises:
            LeaseLost: the job is another worker's by now.
        """
        now = time.time()
        with self._database.transaction() as transaction:
            self._own(
                transaction,
                lease,
                "status = ?, result = ?, updated_at = ?, finished_at = ?, lease_until = 0",
                status.value,
                json.dumps(result),
                now,
                now,
                cancelled=True,
            )
            _add_event(transaction, lease.job.id, status.value, {})
            if also is not None:
                also(transaction)
        return self.get(lease.job.id)

    def release(self, lease: Lease) -> None:
        """Give an unfinished job back, without it counting as an attempt."""
        with self._database.transaction() as transaction:
            self._own(transaction, lease, "status = 'queued', attempts = attempts - 1, lease_until = 0", cancelled=True)

    def set_aside(self, transaction: Transaction, job: Job) -> None:
        """Take in a job that begins as a held one; what it cost was counted with the job that it comes from."""
        if _insert(transaction, job):
            _add_event(transaction, job.id, Status.HELD.value, {})

    def resume(self, transaction: Transaction, id: str, request: Mapping[str, Any]) -> bool:
        """Queue a held job again, with what its reviewers allowed; False when it is not held."""
        changed = transaction.run(
            "UPDATE jobs SET status = 'queued', attempts = 0, form = '', request = ?, result = NULL,"
            " finished_at = NULL, updated_at = ? WHERE id = ? AND status = 'held'",
            json.dumps(request),
            time.time(),
            id,
        )
        if changed:
            _add_event(transaction, id, "approved", {})
        return bool(changed)

    def reject(self, transaction: Transaction, id: str) -> bool:
        """End a held job for good."""
        changed = transaction.run(
            "UPDATE jobs SET status = 'refused', updated_at = ? WHERE id = ? AND status = 'held'", time.time(), id
        )
        if changed:
            _add_event(transaction, id, Status.REFUSED.value, {"by": "review"})
        return bool(changed)

    def cancel(self, id: str) -> Job:
        """Stop a job: at once when it waits, for a worker or for reviewers; at the next step when it runs. What was
        released stays released."""
        job = self.get(id)
        with self._database.transaction() as transaction:
            now = time.time()
            waiting = transaction.run(
                "UPDATE jobs SET status = 'cancelled', cancelled = 1, updated_at = ?, finished_at = ?"
                " WHERE id = ? AND status IN ('queued', 'held')",
                now,
                now,
                id,
            )
            if waiting:
                _add_event(transaction, id, Status.CANCELLED.value, {})
                enqueue(transaction, job, Status.CANCELLED, {"blocked": []})
            else:
                transaction.run("UPDATE jobs SET cancelled = 1 WHERE id = ? AND status = 'running'", id)
        return self.get(id)

    def events(self, id: str, after: int = 0) -> list[JobEvent]:
        """What happened to a job after event number `after`."""
        rows = self._database.all("SELECT * FROM job_events WHERE job = ? AND seq > ? ORDER BY seq", id, after)
        return [JobEvent(seq=row["seq"], at=row["at"], type=row["type"], data=json.loads(row["data"])) for row in rows]

    def forget_before(self, at: float) -> list[Job]:
        """Jobs that were over before this time, removed from the table; the ledger keeps their records."""
        rows = self._database.all(
            "SELECT * FROM jobs WHERE finished_at < ? AND status <> 'held' ORDER BY finished_at LIMIT 500", at
        )
        with self._database.transaction() as transaction:
            for row in rows:
                transaction.run("DELETE FROM job_events WHERE job = ?", row["id"])
                transaction.run("DELETE FROM jobs WHERE id = ?", row["id"])
        return [Job.from_row(row) for row in rows]

    def _known(self, transaction: Transaction, job: Job, joins_since: float | None) -> Job | None:
        row = None
        if job.idempotency_key is not None:
            row = transaction.one(
                "SELECT * FROM jobs WHERE tenant = ? AND idempotency_key = ?", job.tenant, job.idempotency_key
            )
        elif joins_since is not None:
            row = transaction.one(
                "SELECT * FROM jobs WHERE tenant = ? AND body_sha256 = ? AND api_key = ? AND created_at >= ?"
                " AND status <> 'failed' ORDER BY created_at DESC LIMIT 1",
                job.tenant,
                job.body_sha256,
                job.api_key,
                joins_since,
            )
        return None if row is None else Job.from_row(row)

    def _by_key(self, job: Job) -> Job:
        row = self._database.one(
            "SELECT * FROM jobs WHERE tenant = ? AND idempotency_key = ?", job.tenant, job.idempotency_key
        )
        assert row is not None
        return Job.from_row(row)

    def _own(
        self, transaction: Transaction, lease: Lease, change: str, *values: object, cancelled: bool = False
    ) -> None:
        """Change the row of a job that this worker still owns; a cancelled one may only be ended."""
        running = "status = 'running'" if cancelled else "status = 'running' AND cancelled = 0"
        changed = transaction.run(
            f"UPDATE jobs SET {change} WHERE id = ? AND worker = ? AND attempts = ? AND {running}",  # noqa: S608
            *values,
            lease.job.id,
            lease.worker,
            lease.job.attempts,
        )
        if not changed:
            raise LeaseLost(f"job {lease.job.id} is no longer this worker's", hint="nothing; another worker has it")

    def _take(self, transaction: Transaction, job: Job, worker: str, now: float) -> Lease:
        transaction.run(
            "UPDATE jobs SET status = 'running', stage = ?, worker = ?, attempts = attempts + 1, lease_until = ?,"
            " updated_at = ? WHERE id = ?",
            str(Stage.CLAIMED),
            worker,
            now + self._lease_seconds,
            now,
            job.id,
        )
        _add_event(transaction, job.id, Stage.CLAIMED, {"attempt": job.attempts + 1})
        claimed = dataclasses.replace(job, status=Status.RUNNING, worker=worker, attempts=job.attempts + 1)
        return Lease(job=claimed, worker=worker)

    def _quarantine(self, transaction: Transaction, job: Job, also: Callable[[Transaction, Job], None] | None) -> None:
        now = time.time()
        error = {"code": "quarantined", "message": "This request stopped every worker that took it."}
        transaction.run(
            "UPDATE jobs SET status = 'quarantined', result = ?, updated_at = ?, finished_at = ?, lease_until = 0"
            " WHERE id = ?",
            json.dumps({"images": [], "blocked": [], "error": error}),
            now,
            now,
            job.id,
        )
        _add_event(transaction, job.id, Status.QUARANTINED.value, {})
        if also is not None:
            also(transaction, job)


def _insert(transaction: Transaction, job: Job) -> bool:
    row = job.to_row() | {"updated_at": job.created_at}
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    return bool(
        transaction.run(
            f"INSERT INTO jobs ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING",  # noqa: S608 - own names
            *row.values(),
        )
    )


def _add_event(transaction: Transaction, job: str, type: str, data: Mapping[str, Any]) -> None:
    transaction.run(
        "INSERT INTO job_events (job, seq, at, type, data)"
        " SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ? FROM job_events WHERE job = ?",
        job,
        time.time(),
        str(type),
        json.dumps(data),
        job,
    )


def _check_limits(transaction: Transaction, job: Job, limits: Limits) -> None:
    day = datetime.fromtimestamp(job.created_at, UTC).date().isoformat()
    # First, because it holds the tenant's row until the transaction ends: what is counted below, nobody else adds to.
    transaction.run(
        "INSERT INTO usage (tenant, day, images) VALUES (?, ?, ?)"
        " ON CONFLICT (tenant, day) DO UPDATE SET images = usage.images + excluded.images",
        job.tenant,
        day,
        len(job.ids),
    )
    if limits.queue and _count(transaction, "status = 'queued'") > limits.queue:
        raise QueueFull("too many requests wait already", hint="try again in a minute")
    if limits.concurrent_jobs:
        mine = _count(transaction, f"tenant = ? AND status IN {_OPEN}", job.tenant)
        if mine > limits.concurrent_jobs:
            raise Refused(
                f"{limits.concurrent_jobs} requests of this tenant are open already", hint="wait for one of them"
            )
    if limits.images_per_day:
        row = transaction.one("SELECT images FROM usage WHERE tenant = ? AND day = ?", job.tenant, day)
        assert row is not None
        if row["images"] > limits.images_per_day:
            # Raised inside the transaction: what was counted just now is taken back.
            raise QuotaExceeded("the pictures of this day are used up", hint="ask tomorrow, or for a higher quota")


def _count(transaction: Transaction, condition: str, *values: object) -> int:
    row = transaction.one(f"SELECT COUNT(*) AS n FROM jobs WHERE {condition}", *values)  # noqa: S608 - own conditions
    return 0 if row is None else int(row["n"])
