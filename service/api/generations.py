"""`POST /v1/images/generations`: at once, as a stream, or as a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from service.api.answers import images_response, job_object, stream_events
from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import ApiError, documented
from service.api.requests import GenerationRequest, PictureOptions
from service.api.submission import JobHeaders, JobHeadersGiven, Submitted, submit

router = APIRouter(prefix="/v1", tags=["images"])

_KEEP_ALIVE_SECONDS = 10.0


class ImageItem(BaseModel):
    """One released picture."""

    model_config = ConfigDict(extra="allow")

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None
    guardrails: dict[str, Any]


class ImagesResponse(BaseModel):
    """Released pictures, and which ones were refused."""

    model_config = ConfigDict(extra="allow")

    created: int
    background: str
    output_format: str
    size: str
    quality: str
    data: list[ImageItem]
    guardrails: dict[str, Any]
    usage: dict[str, Any]


class JobObject(BaseModel):
    """A job and how far it has come."""

    id: str
    object: str
    kind: str
    status: str
    stage: str
    created_at: int
    finished_at: int | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    guardrails: dict[str, Any]


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": ImagesResponse, "content": {"application/json": {}, "text/event-stream": {}}},
    202: {"model": JobObject, "description": "Taken in as a job."},
    **documented(404, 409, 410, 415, 422, 501),
}


@router.post("/images/generations", responses=ANSWERS)
async def generate(
    request: Request,
    body: GenerationRequest,
    headers: JobHeadersGiven,
    caller: Caller = needs("generate"),
    context: Context = Depends(context_of),
) -> Response:
    """Make pictures from a prompt."""
    submitted = await submit(request, context, caller, body, headers)
    return await answer(context, body, headers, submitted, "image_generation")


async def answer(
    context: Context, body: PictureOptions, headers: JobHeaders, submitted: Submitted, kind: str
) -> Response:
    """The response to a job, in the way that the client asked for."""
    job = submitted.job
    replayed = {} if submitted.is_new else {"idempotent-replayed": "true"}
    if headers.respond_async or body.guardrails.respond_async:
        shown = await run_in_threadpool(job_object, context, job)
        location = {"location": f"/v1/jobs/{job.id}", "preference-applied": "respond-async"}
        return JSONResponse(shown, 202, {**replayed, **location})
    if body.stream:
        stream = _stream(context, job.id, kind)
        return StreamingResponse(
            stream, headers=replayed | {"cache-control": "no-store"}, media_type="text/event-stream"
        )
    over = await context.waiter.over(job.id, context.settings.wait_seconds)
    if over is None:
        raise still_running(job.id)
    try:
        return JSONResponse(await run_in_threadpool(images_response, context, over), headers=replayed)
    except ApiError as error:
        error.headers |= replayed
        raise


def still_running(id: str) -> ApiError:
    """The answer to somebody who has waited too long; the work goes on."""
    extra = {"guardrails": {"job_id": id}}
    return ApiError(503, "still_running", "the pictures are not ready yet", extra=extra, headers={"retry-after": "10"})


async def _stream(context: Context, id: str, kind: str) -> AsyncIterator[str]:
    """Keep-alive comments, then what was released. Nothing is shown of a picture before every guard has passed it."""
    yield ": accepted\n\n"
    waiting = asyncio.ensure_future(context.waiter.over(id, context.settings.wait_seconds))
    try:
        while not (await asyncio.wait({waiting}, timeout=_KEEP_ALIVE_SECONDS))[0]:
            yield ": still at work\n\n"
    finally:
        waiting.cancel()
    over = waiting.result()
    if over is None:
        yield event("error", {"type": "error", "error": still_running(id).body})
        return
    for name, data in await run_in_threadpool(lambda: list(stream_events(context, over, kind))):
        yield event(name, data)


def event(name: str, data: Any, id: str = "") -> str:
    """One server-sent event."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"
