"""A job that took its workers with it: ended, recorded, and open to an appeal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from guardrails.pipeline import Guard
from service.access.tenants import LOCAL
from service.api.answers import refusal_of
from service.api.context import Caller, Context
from service.api.requests import GenerationRequest
from service.api.submission import new_job
from service.jobs.model import Job, Status
from service.jobs.worker import Worker
from service.policies import written
from service.settings import Settings


@pytest.fixture
def context(home: Path) -> Context:
    return Context.open(Settings(home=home, max_attempts=1, batch_pictures=1))


@pytest.fixture
def worker(context: Context, guard_in: Callable[..., Guard]) -> Worker:
    settings = context.settings
    return Worker(
        context.table,
        lambda policy: guard_in(settings.home, policy=policy),
        context.policies,
        context.secrets,
        assets=settings.assets,
        uploads=settings.uploads,
        lease_seconds=settings.lease_seconds,
    )


def run(context: Context, worker: Worker, *, policy: str = "") -> Job:
    """What becomes of a job whose only attempt is used up."""
    body = GenerationRequest.model_validate({"prompt": "a red apple"})
    caller = Caller(tenant=LOCAL, key="none", scopes=frozenset())
    job = new_job(context, caller, body, request_id="req_1")
    context.table.submit(dataclasses.replace(job, attempts=1, policy=policy or job.policy))
    worker.run_one()
    return context.table.get(job.id)


def test_its_refusal_is_found_and_can_be_appealed(context: Context, worker: Worker) -> None:
    job = run(context, worker)
    assert job.status is Status.QUARANTINED
    told = refusal_of(context, job).body["guardrails"]
    row = context.database.one("SELECT * FROM decisions WHERE job = ?", job.id)
    assert row is not None
    assert (row["id"], row["kind"], row["fault"]) == (told["decision_id"], "refusal", "quarantined")
    ledger = context.ledger()
    assert ledger is not None
    assert ledger.holds(row["id"])
    assert context.appeals.open(row["id"], LOCAL.id, "It is an apple.")["status"] == "open"


def test_a_pack_that_has_changed_since_stops_no_worker(context: Context, worker: Worker) -> None:
    changed = written("default", context.policies.get()).replace("sha256:", "sha256:00")
    assert run(context, worker, policy=changed).status is Status.QUARANTINED
