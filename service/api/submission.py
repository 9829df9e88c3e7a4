"""From a checked request to a job: policy, limits, and whether it is a repetition of one that is here."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from guardrails.domain.canonical import canonical_json
from guardrails.errors import OptionError
from guardrails.policy.labelling import wanted_labels
from guardrails.policy.places import country_of
from service import tracing
from service.access.tenants import Tenant
from service.api.context import Caller, Context
from service.api.errors import NO_RETRY, ApiError, from_guardrails
from service.api.requests import PictureOptions
from service.jobs.model import Job, Status, form_of
from service.jobs.table import Limits, Refused
from service.policies import written


class JobHeaders(BaseModel):
    """Headers that say how a job is to be handled."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    prefer: str | None = None
    x_stainless_retry_count: str | None = None

    @property
    def is_retry(self) -> bool:
        """Whether the client's library repeats a request by itself; it sends no key of its own."""
        count = self.x_stainless_retry_count or ""
        return count.isdigit() and int(count) > 0

    @property
    def respond_async(self) -> bool:
        """RFC 7240, section 4.1."""
        return any(part.strip().lower() == "respond-async" for part in (self.prefer or "").split(","))


JobHeadersGiven = Annotated[JobHeaders, Header()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that was taken in, or found."""

    job: Job
    is_new: bool


async def submit(
    request: Request,
    context: Context,
    caller: Caller,
    body: PictureOptions,
    headers: JobHeaders,
    *,
    kind: str = "generation",
    told: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
) -> Submitted:
    """Take in a job.

    Args:
        told: what an edit starts from; part of what makes two requests equal.
        files: where it lies; no part of it.

    Raises:
        ApiError: the policy, a limit, or an Idempotency-Key stands against it.
    """
    job = new_job(context, caller, body, kind=kind, told=told, files=files, request_id=request.state.request_id)
    job = dataclasses.replace(job, idempotency_key=headers.idempotency_key)
    if context.draining:
        raise ApiError(503, "draining", "this server is about to stop", headers={"retry-after": "5"})
    joins = job.created_at - context.settings.replay_seconds if headers.is_retry else None
    try:
        found, is_new = await run_in_threadpool(
            context.table.submit, job, limits_of(context, caller.tenant), joins_since=joins
        )
    except Refused as error:
        raise from_guardrails(error) from error
    if not is_new:
        _check_repetition(found, job, headers)
    return Submitted(job=found, is_new=is_new)


def new_job(
    context: Context,
    caller: Caller,
    body: PictureOptions,
    *,
    request_id: str,
    kind: str = "generation",
    told: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
) -> Job:
    """The job of a checked request; see `submit`.

    Raises:
        OptionError: the policy is not to be had here.
        ApiError: there is no such label or jurisdiction.
    """
    name, policy = context.policy_of(caller.tenant, body.guardrails.policy)
    told = body.to_job() | dict(told or {})
    told["jurisdiction"] = jurisdiction_of(caller.tenant, body.guardrails.jurisdiction)
    told["labels"] = _labels(caller.tenant, body.guardrails.jurisdiction, body.guardrails.labels)
    told["answer"]["ignored"] = body.ignored(context.settings.model, name)
    count = body.n or 1
    # `stream` and `respond_async` say how to answer, not what to make; a retry may differ in nothing else.
    asked = {"kind": kind, **told, "n": count, "policy": name}
    digest = hashlib.sha256(canonical_json(asked)).hexdigest()
    return Job(
        id=f"job_{uuid.uuid4().hex}",
        tenant=caller.tenant.id,
        api_key=caller.key,
        kind=kind,
        request={**told, **(files or {}), "count": count},
        ids=tuple(str(uuid.uuid4()) for _ in range(count)),
        policy=written(name, policy),
        created_at=time.time(),
        body_sha256=digest,
        request_id=request_id,
        form=form_of(kind, told),
        trace=tracing.traceparent(),
    )


def jurisdiction_of(tenant: Tenant, asked: str) -> str:
    """Where a request is held against the rules: a request adds its place to its tenant's, and cannot leave that.

    Two places at once are "", which is held against the rules of all.
    """
    places = sorted({tenant.jurisdiction, asked} - {""}, key=len)
    if len(places) == 2 and country_of(places[1]) != places[0]:
        return ""
    return places[-1] if places else ""


def limits_of(context: Context, tenant: Tenant) -> Limits:
    """What a job of this tenant is held against."""
    return Limits(
        queue=context.settings.queue_limit,
        images_per_day=tenant.images_per_day,
        concurrent_jobs=tenant.concurrent_jobs,
    )


def _labels(tenant: Tenant, jurisdiction: str, asked: Sequence[str]) -> list[str]:
    """What must be drawn: a request adds to what its tenant has, and cannot leave it by naming another jurisdiction."""
    try:
        profiles = [*wanted_labels(tenant.jurisdiction, tenant.labels), *wanted_labels(jurisdiction, asked)]
    except OptionError as error:
        raise ApiError(400, "invalid_value", error.message, param="guardrails.labels", headers=NO_RETRY) from error
    return sorted({profile.id for profile in profiles})


def _check_repetition(found: Job, asked: Job, headers: JobHeaders) -> None:
    if found.body_sha256 != asked.body_sha256:
        message = "this Idempotency-Key was used for another request"
        raise ApiError(422, "idempotency_key_reused", message, headers=NO_RETRY)
    running = found.status in (Status.QUEUED, Status.RUNNING)
    if headers.idempotency_key is not None and running and not headers.is_retry:
        message = "the first request with this Idempotency-Key is still at work"
        raise ApiError(409, "idempotency_in_progress", message, headers={"retry-after": "1"})
