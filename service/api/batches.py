"""`/v1/batches`: many requests at once, answered within a day by files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.auth import lacks, needs
from service.api.batching import SCOPE_OF
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented
from service.batches.table import Batch, BatchStatus, LineState

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchId = Annotated[str, Path(pattern=r"^batch_[0-9a-f]{32}$")]
_Key = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class BatchRequest(BaseModel):
    """Work through a file."""

    model_config = ConfigDict(extra="allow")

    input_file_id: Annotated[str, Field(max_length=64)]
    endpoint: Literal["/v1/images/generations", "/v1/moderations"]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = None


class RequestCounts(BaseModel):
    """Lines by what became of them."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """One batch."""

    id: str
    object: str = "batch"
    endpoint: str
    errors: dict[str, Any] | None
    input_file_id: str
    completion_window: str = "24h"
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """A page of batches, the newest first."""

    object: str = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("", responses=documented(404))
def create_batch(
    body: BatchRequest, caller: Caller = needs("generate", "moderate"), context: Context = Depends(context_of)
) -> BatchObject:
    """Begin a batch."""
    scope = SCOPE_OF[body.endpoint]
    if scope not in caller.scopes:
        raise lacks(scope)
    try:
        file = context.files.get(body.input_file_id, caller.tenant.id)
        if file.purpose != "batch":
            message = "the file was not uploaded with the purpose batch"
            raise ApiError(400, "invalid_value", message, param="input_file_id", headers=NO_RETRY)
        batch = context.batches.add(
            tenant=caller.tenant.id,
            api_key=caller.key,
            endpoint=body.endpoint,
            input_file=file.id,
            metadata=body.metadata,
            seconds=context.settings.batch_seconds,
            most=context.settings.batches_open,
        )
    except KeyError as error:
        message = "there is no such file"
        raise ApiError(404, "not_found", message, param="input_file_id", headers=NO_RETRY) from error
    return _shown(batch, {})


@router.get("", responses=documented(404))
def list_batches(
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    caller: Caller = needs("generate", "moderate"),
    context: Context = Depends(context_of),
) -> BatchList:
    """Batches of the tenant."""
    try:
        found = context.batches.of_tenant(caller.tenant.id, limit=limit + 1, after=after)
    except KeyError as error:
        raise _absent("after") from error
    counts = context.batches.counts([one.id for one in found[:limit]])
    data = [_shown(one, counts[one.id]) for one in found[:limit]]
    return BatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/{batch_id}", responses=documented(404))
def get_batch(
    batch_id: BatchId, caller: Caller = needs("generate", "moderate"), context: Context = Depends(context_of)
) -> BatchObject:
    """One batch."""
    return _shown(_found(context, caller, batch_id), context.batches.counts([batch_id])[batch_id])


@router.post("/{batch_id}/cancel", responses=documented(404))
def cancel_batch(
    batch_id: BatchId, caller: Caller = needs("generate", "moderate"), context: Context = Depends(context_of)
) -> BatchObject:
    """Stop a batch; what was answered by then stands in its files."""
    _found(context, caller, batch_id)
    batch = context.batches.end_early(batch_id, BatchStatus.CANCELLED)
    return _shown(batch, context.batches.counts([batch_id])[batch_id])


def _found(context: Context, caller: Caller, id: str) -> Batch:
    try:
        return context.batches.get(id, caller.tenant.id)
    except KeyError as error:
        raise _absent("batch_id") from error


def _absent(param: str) -> ApiError:
    return ApiError(404, "not_found", "there is no such batch", param=param, headers=NO_RETRY)


def _shown(batch: Batch, counts: Mapping[LineState, int]) -> BatchObject:
    times = {f"{status}_at": _whole(batch.times.get(status)) for status in BatchStatus if status != "validating"}
    return BatchObject.model_validate(
        {
            "id": batch.id,
            "endpoint": batch.endpoint,
            "errors": {"object": "list", "data": list(batch.errors)} if batch.errors else None,
            "input_file_id": batch.input_file,
            "status": batch.status.value,
            "output_file_id": batch.output_file,
            "error_file_id": batch.error_file,
            "created_at": int(batch.created_at),
            "expires_at": int(batch.expires_at),
            "request_counts": {
                "total": sum(counts.values()),
                "completed": counts.get(LineState.SUCCEEDED, 0),
                "failed": counts.get(LineState.FAILED, 0),
            },
            "metadata": batch.metadata,
            **times,
        }
    )


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)
