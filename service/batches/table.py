"""The tables of batches and of their lines. Whatever changes a batch is one transaction.

A batch is driven by the API process that holds its lease; when that process dies, another one goes on where it stopped.
"""

from __future__ import annotations

import enum
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardrails.errors import GuardrailsError
from service.batches.lines import Place
from service.jobs.webhooks import enqueue_event
from service.stores import Database, Row, Transaction


class TooManyBatches(GuardrailsError):
    """The tenant has as many open batches as it may have."""

    code, http_status = "too_many_batches", 429


class BatchStatus(enum.StrEnum):
    """As OpenAI names them."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class LineState(enum.StrEnum):
    """WAITING for its turn, SUBMITTED as a job, or answered: with status 200, or otherwise."""

    WAITING = "waiting"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch.

    Attributes:
        api_key: id of the key that made it; the batch ends when the key does.
        endpoint: what its lines ask.
        ending: CANCELLED or EXPIRED once it is to end early, else "".
        times: when it came into each status.
        ended_at: when there was nothing left to do.
    """

    id: str
    tenant: str
    api_key: str
    endpoint: str
    input_file: str
    metadata: Mapping[str, str] | None
    status: BatchStatus
    ending: str
    errors: Sequence[Mapping[str, Any]]
    times: Mapping[str, float]
    created_at: float
    expires_at: float
    ended_at: float | None
    output_file: str | None
    error_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a batch, and the job that it became."""

    line: int
    start: int
    length: int
    state: LineState
    job: str


class BatchTable:
    """Batches on a database, shared by all API processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        tenant: str,
        api_key: str,
        endpoint: str,
        input_file: str,
        metadata: Mapping[str, str] | None,
        seconds: float,
        most: int,
    ) -> Batch:
        """A new batch.

        Args:
            seconds: after which what is not done by then is given up.
            most: batches of the tenant that may be open at once.

        Raises:
            KeyError: the input file is no longer there.
            TooManyBatches: there are as many already.
        """
        now, id = time.time(), f"batch_{uuid.uuid4().hex}"
        with self._database.transaction() as transaction:
            # Held until the batch is there, from when on nobody may delete the file.
            file = f"SELECT id FROM files WHERE id = ?{self._database.locking}"  # noqa: S608 - own
            if transaction.one(file, input_file) is None:
                raise KeyError(input_file)
            open_ = transaction.one("SELECT COUNT(*) AS n FROM batches WHERE tenant = ? AND ended_at IS NULL", tenant)
            if open_ is not None and open_["n"] >= most:
                raise TooManyBatches(f"a tenant has at most {most} open batches", hint="wait for one of them")
            transaction.run(
                "INSERT INTO batches (id, tenant, api_key, endpoint, input_file, metadata, status, ending, errors,"
                " times, created_at, expires_at, ended_at, output_file, error_file, runner, lease_until)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, '', '[]', '{}', ?, ?, NULL, NULL, NULL, '', 0)",
                id,
                tenant,
                api_key,
                endpoint,
                input_file,
                None if metadata is None else json.dumps(metadata),
                BatchStatus.VALIDATING.value,
                now,
                now + seconds,
            )
        return self.get(id, tenant)

    def get(self, id: str, tenant: str | None = None) -> Batch:
        """Raises KeyError: no such batch, or another tenant's."""
        row = self._database.one("SELECT * FROM batches WHERE id = ?", id)
        if row is None or (tenant is not None and row["tenant"] != tenant):
            raise KeyError(id)
        return _batch(row)

    def of_tenant(self, tenant: str, *, limit: int, after: str = "") -> list[Batch]:
        """The newest batches, beginning behind the batch `after`.

        Raises:
            KeyError: there is no batch `after`.
        """
        condition: str = "tenant = ?"
        values: list[Any] = [tenant]
        if after:
            first = self.get(after, tenant)
            condition, values = f"{condition} AND (created_at, id) < (?, ?)", [*values, first.created_at, first.id]
        rows = self._database.all(
            f"SELECT * FROM batches WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT ?",  # noqa: S608
            *values,
            limit,
        )
        return [_batch(row) for row in rows]

    def counts(self, ids: Sequence[str]) -> dict[str, dict[LineState, int]]:
        """How many lines of each batch are in each state."""
        found: dict[str, dict[LineState, int]] = {id: {} for id in ids}
        marks = ", ".join("?" * len(ids))
        query = f"SELECT batch, state, COUNT(*) AS n FROM batch_lines WHERE batch IN ({marks}) GROUP BY batch, state"  # noqa: S608
        for row in self._database.all(query, *ids) if ids else ():
            found[row["batch"]][LineState(row["state"])] = int(row["n"])
        return found

    def claim(self, runner: str, seconds: float) -> Batch | None:
        """The batch that has rested longest and is nobody's; None when there is none."""
        now = time.time()
        due = "SELECT * FROM batches WHERE ended_at IS NULL AND lease_until < ? ORDER BY lease_until LIMIT 1"
        if self._database.one(due, now) is None:
            return None
        with self._database.transaction() as transaction:
            row = transaction.one(due + self._database.claiming, now)
            if row is None:
                return None
            transaction.run(
                "UPDATE batches SET runner = ?, lease_until = ? WHERE id = ?", runner, now + seconds, row["id"]
            )
        return _batch(row)

    def rest(self, id: str, runner: str, seconds: float) -> None:
        """Give a batch back for a while."""
        with self._database.transaction() as transaction:
            transaction.run(
                "UPDATE batches SET lease_until = ? WHERE id = ? AND runner = ?", time.time() + seconds, id, runner
            )

    def begin(self, batch: Batch, places: Sequence[Place]) -> None:
        """The input file is sound: its lines wait from now on."""
        with self._database.transaction() as transaction:
            for place in places:
                transaction.run(
                    "INSERT INTO batch_lines (batch, line, start, length, state, job)"
                    " VALUES (?, ?, ?, ?, 'waiting', '') ON CONFLICT DO NOTHING",
                    batch.id,
                    place.number,
                    place.start,
                    place.length,
                )
            self._move(transaction, batch.id, BatchStatus.IN_PROGRESS, "status = 'validating'")

    def fail(self, batch: Batch, errors: Sequence[Mapping[str, Any]]) -> None:
        """The input file cannot be run."""
        with self._database.transaction() as transaction:
            if self._move(transaction, batch.id, BatchStatus.FAILED, "ended_at IS NULL"):
                transaction.run(
                    "UPDATE batches SET errors = ?, ended_at = ? WHERE id = ?",
                    json.dumps(errors),
                    time.time(),
                    batch.id,
                )
                enqueue_event(transaction, batch.tenant, "batch.failed", {"batch_id": batch.id})

    def end_early(self, id: str, why: BatchStatus) -> Batch:
        """Stop a batch, because a client cancelled it or its time is over; what was answered stays."""
        with self._database.transaction() as transaction:
            changed = transaction.run(
                "UPDATE batches SET ending = ? WHERE id = ? AND ending = ''"
                " AND status IN ('validating', 'in_progress')",
                why.value,
                id,
            )
            if changed and why is BatchStatus.CANCELLED:
                self._move(transaction, id, BatchStatus.CANCELLING, "ended_at IS NULL")
        return self.get(id)

    def finalize(self, batch: Batch) -> None:
        """Every line is answered or given up; the files are written next."""
        with self._database.transaction() as transaction:
            self._move(transaction, batch.id, BatchStatus.FINALIZING, "ended_at IS NULL")

    def finish(self, batch: Batch, output_file: str | None, error_file: str | None) -> None:
        """The files are there."""
        status = BatchStatus(batch.ending or BatchStatus.COMPLETED)
        with self._database.transaction() as transaction:
            if self._move(transaction, batch.id, status, "ended_at IS NULL"):
                transaction.run(
                    "UPDATE batches SET output_file = ?, error_file = ?, ended_at = ? WHERE id = ?",
                    output_file,
                    error_file,
                    time.time(),
                    batch.id,
                )
                enqueue_event(transaction, batch.tenant, f"batch.{status}", {"batch_id": batch.id})

    def lines(self, id: str, *states: LineState, limit: int = -1) -> list[Line]:
        """Lines in the order of the file."""
        marks = ", ".join("?" * len(states))
        rows = self._database.all(
            f"SELECT line, start, length, state, job FROM batch_lines WHERE batch = ? AND state IN ({marks})"  # noqa: S608
            " ORDER BY line" + (f" LIMIT {limit:d}" if limit >= 0 else ""),
            id,
            *(state.value for state in states),
        )
        return [Line(**{**row, "state": LineState(row["state"])}) for row in rows]

    def set_line(self, id: str, line: int, state: LineState, job: str = "") -> None:
        """Move a line on; one that is answered stays as it is."""
        with self._database.transaction() as transaction:
            transaction.run(
                "UPDATE batch_lines SET state = ?, job = ? WHERE batch = ? AND line = ?"
                " AND state IN ('waiting', 'submitted')",
                state.value,
                job,
                id,
                line,
            )

    def _move(self, transaction: Transaction, id: str, status: BatchStatus, condition: str) -> bool:
        """Come into a status if the batch, which nobody else changes until the transaction ends, fits the condition."""
        query = f"SELECT times FROM batches WHERE id = ? AND {condition}{self._database.locking}"  # noqa: S608 - own
        row = transaction.one(query, id)
        if row is None:
            return False
        times = {**json.loads(row["times"]), status.value: time.time()}
        transaction.run("UPDATE batches SET status = ?, times = ? WHERE id = ?", status.value, json.dumps(times), id)
        return True

    def forget_before(self, at: float) -> None:
        """Batches that ended before this time."""
        with self._database.transaction() as transaction:
            transaction.run("DELETE FROM batch_lines WHERE batch IN (SELECT id FROM batches WHERE ended_at < ?)", at)
            transaction.run("DELETE FROM batches WHERE ended_at < ?", at)


def _batch(row: Row) -> Batch:
    names = set(Batch.__slots__)
    values = {name: value for name, value in row.items() if name in names}
    metadata = row["metadata"]
    return Batch(
        **{
            **values,
            "metadata": None if metadata is None else json.loads(metadata),
            "status": BatchStatus(row["status"]),
            "errors": json.loads(row["errors"]),
            "times": json.loads(row["times"]),
        }
    )
