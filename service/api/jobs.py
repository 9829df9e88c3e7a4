"""`/v1/jobs`: what was asked for with `Prefer: respond-async`, its progress, and stopping it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.api.answers import job_object
from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented
from service.api.generations import JobObject, event
from service.jobs.model import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^job_[0-9a-f]{32}$")]
_POLL_SECONDS = 0.1
_KEEP_ALIVE_SECONDS = 10.0


class JobList(BaseModel):
    """Jobs, the newest first."""

    object: str = "list"
    data: list[JobObject]


@router.get("", responses=documented())
def list_jobs(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    caller: Caller = needs("generate"),
    context: Context = Depends(context_of),
) -> JobList:
    """The newest jobs of the tenant."""
    jobs = context.table.of_tenant(caller.tenant.id, limit)
    return JobList(data=[JobObject(**job_object(context, job)) for job in jobs])


@router.get("/{job_id}", responses=documented(404))
def get_job(job_id: JobId, caller: Caller = needs("generate"), context: Context = Depends(context_of)) -> JobObject:
    """One job."""
    return JobObject(**job_object(context, _job(context, caller, job_id)))


@router.post("/{job_id}/cancel", responses=documented(404))
def cancel_job(job_id: JobId, caller: Caller = needs("generate"), context: Context = Depends(context_of)) -> JobObject:
    """Stop a job; pictures that were released before stay released and recorded."""
    _job(context, caller, job_id)
    return JobObject(**job_object(context, context.table.cancel(job_id)))


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented(404)},
)
async def job_events(
    job_id: JobId,
    last_event_id: Annotated[str | None, Header()] = None,
    caller: Caller = needs("generate"),
    context: Context = Depends(context_of),
) -> Response:
    """The job's stages as server-sent events; go on after `Last-Event-ID`."""
    await run_in_threadpool(_job, context, caller, job_id)
    after = int(last_event_id) if last_event_id is not None and last_event_id.isdigit() else 0
    stream = _events(context, job_id, min(after, 2**31))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _events(context: Context, id: str, after: int) -> AsyncIterator[str]:
    quiet = 0.0
    while True:
        # The status first: whatever ends a job is written together with its last event.
        job = await run_in_threadpool(context.table.get, id)
        for happened in await run_in_threadpool(context.table.events, id, after):
            after, quiet = happened.seq, 0.0
            data: dict[str, Any] = {"type": happened.type, "at": happened.at, **happened.data}
            yield event("job", data, str(happened.seq))
        if job.status.is_over:
            return
        await asyncio.sleep(_POLL_SECONDS)
        quiet += _POLL_SECONDS
        if quiet >= _KEEP_ALIVE_SECONDS:
            quiet = 0.0
            yield ": still at work\n\n"


def _job(context: Context, caller: Caller, id: str) -> Job:
    try:
        return context.table.get(id, caller.tenant.id)
    except KeyError as error:
        raise ApiError(404, "not_found", "there is no such job", param="job_id", headers=NO_RETRY) from error
