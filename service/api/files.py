"""`/v1/files`: input and output files of batches. They belong to a tenant and expire."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Path, Query, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.api.answers import taken_down
from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented
from service.api.pictures import read_upload
from service.batches.files import StoredFile

router = APIRouter(prefix="/v1/files", tags=["batches"])

FileId = Annotated[str, Path(pattern=r"^file-[0-9a-f]{32}$")]
_Seconds = Annotated[int, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)]


class FileObject(BaseModel):
    """One file."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str = "processed"


class FileList(BaseModel):
    """A page of files."""

    object: str = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    """What was deleted."""

    id: str
    object: str = "file"
    deleted: bool = True


@router.post("", responses=documented())
async def upload_file(
    file: Annotated[UploadFile, File(description="JSON lines, one request each.")],
    purpose: Annotated[Literal["batch"], Form()],
    anchor: Annotated[Literal["created_at"], Form(alias="expires_after[anchor]")] = "created_at",
    seconds: _Seconds | None = None,
    caller: Caller = needs("generate", "moderate"),
    context: Context = Depends(context_of),
) -> FileObject:
    """Keep an input file for a batch."""
    settings = context.settings
    data = await read_upload(file, settings.max_upload_bytes, "file")
    stored = await run_in_threadpool(
        context.files.upload,
        caller.tenant.id,
        data,
        name=file.filename or "",
        seconds=min(seconds or settings.file_seconds, settings.file_seconds),
        most=settings.file_bytes,
    )
    return shown(stored)


@router.get("", responses=documented(404))
def list_files(
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str, Query(max_length=64)] = "",
    caller: Caller = needs("generate", "moderate"),
    context: Context = Depends(context_of),
) -> FileList:
    """Files of the tenant."""
    try:
        found = context.files.of_tenant(
            caller.tenant.id, limit=limit + 1, after=after, purpose=purpose, ascending=order == "asc"
        )
    except KeyError as error:
        raise _absent("after") from error
    data = [shown(one) for one in found[:limit]]
    return FileList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/{file_id}", responses=documented(404))
def get_file(
    file_id: FileId, caller: Caller = needs("generate", "moderate"), context: Context = Depends(context_of)
) -> FileObject:
    """One file."""
    return shown(_found(context, caller, file_id))


@router.delete("/{file_id}", responses=documented(404, 409))
def delete_file(
    file_id: FileId, caller: Caller = needs("generate", "moderate"), context: Context = Depends(context_of)
) -> DeletedFile:
    """Forget a file at once; not while a batch reads it."""
    _found(context, caller, file_id)
    context.files.delete(file_id, caller.tenant.id)
    return DeletedFile(id=file_id)


@router.get(
    "/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, **documented(404)},
)
def get_content(
    file_id: FileId, caller: Caller = needs("generate", "moderate"), context: Context = Depends(context_of)
) -> Response:
    """What the file holds, without pictures that were taken down since."""
    found = _found(context, caller, file_id)
    path, media, headers = context.files.path(found.id), "application/octet-stream", {"cache-control": "no-store"}
    down = context.takedowns.all() if found.purpose == "batch_output" else frozenset()
    if down:
        return StreamingResponse(_withheld(path, down), media_type=media, headers=headers)
    return FileResponse(path, media_type=media, headers=headers)


def shown(file: StoredFile) -> FileObject:
    """A file as OpenAI shows it."""
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=int(file.expires_at),
        filename=file.name,
        purpose=file.purpose,
    )


def _found(context: Context, caller: Caller, id: str) -> StoredFile:
    try:
        return context.files.get(id, caller.tenant.id)
    except KeyError as error:
        raise _absent("file_id") from error


def _absent(param: str) -> ApiError:
    return ApiError(404, "not_found", "there is no such file", param=param, headers=NO_RETRY)


def _withheld(path: pathlib.Path, down: frozenset[str]) -> Iterator[bytes]:
    """The answers of a batch; one with a picture that was taken down is what a request would be told by now."""
    with path.open("rb") as file:
        for written in file:
            line = json.loads(written)
            body = line["response"]["body"] if line["response"] else {}
            if down.intersection(item["guardrails"]["record_id"] for item in body.get("data", ())):
                error = taken_down()
                line["response"] |= {"status_code": error.status, "body": {"error": error.body}}
                written = json.dumps(line).encode() + b"\n"
            yield written
