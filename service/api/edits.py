"""`POST /v1/images/edits`: change a picture, given as multipart or as a `data:` URL in JSON."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from guardrails.errors import ImageError
from guardrails.files import write_atomically
from guardrails.pipeline.original import Original
from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, from_validation
from service.api.generations import ANSWERS, answer
from service.api.pictures import from_data_url, read_upload, unreadable
from service.api.requests import EditRequest, GuardrailsOptions, ImageReference, PictureOptions
from service.api.submission import JobHeadersGiven, submit

router = APIRouter(prefix="/v1", tags=["images"])

_MOST_PICTURES = 16
_MOST_MASK_BYTES = 4 << 20
_NUMBERS = ("n", "output_compression", "partial_images")
_TEXTS = frozenset(name for name, field in GuardrailsOptions.model_fields.items() if field.annotation is str)
_OPTION = re.compile(r"guardrails\[(\w{1,32})\]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    options: PictureOptions
    pictures: Sequence[bytes]
    mask: bytes | None


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "mask": {"type": "string", "format": "binary"},
                        "prompt": {"type": "string", "minLength": 1, "maxLength": 32000},
                        "n": {"type": "integer", "minimum": 1, "maximum": 10},
                        "size": {"type": "string"},
                    },
                }
            },
            "application/json": {"schema": EditRequest.model_json_schema(ref_template="#/components/schemas/{model}")},
        },
    }
}
_BODY["requestBody"]["content"]["application/json"]["schema"].pop("$defs", None)


@router.post("/images/edits", responses=ANSWERS, openapi_extra=_BODY)
async def edit(
    request: Request,
    headers: JobHeadersGiven,
    caller: Caller = needs("generate"),
    context: Context = Depends(context_of),
) -> Response:
    """Change a picture by a prompt; where a mask is given, only inside it."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        async with request.form(max_files=_MOST_PICTURES + 1, max_fields=100) as form:
            asked = await _from_form(form, context.settings.max_upload_bytes)
    elif media == "application/json":
        asked = _from_json(await _json(request))
    else:
        raise ApiError(415, "unsupported_media_type", "send multipart/form-data or application/json", headers=NO_RETRY)
    if len(asked.pictures) != 1:
        raise ApiError(
            400, "invalid_value", "this model changes one picture at a time", param="image", headers=NO_RETRY
        )
    picture, mask = asked.pictures[0], asked.mask
    strength = asked.options.guardrails.strength
    try:
        await run_in_threadpool(Original.read, picture, strength=strength, mask=mask)
    except ImageError as error:
        raise unreadable(error, "mask" if "mask" in error.message else "image") from error
    told = {"sha256": hashlib.sha256(picture).hexdigest(), "strength": strength}
    told["mask_sha256"] = "" if mask is None else hashlib.sha256(mask).hexdigest()
    files = await run_in_threadpool(_keep, context, picture, mask)
    try:
        submitted = await submit(request, context, caller, asked.options, headers, kind="edit", told=told, files=files)
    except Exception:
        _drop(context, files)
        raise
    if not submitted.is_new:
        _drop(context, files)
    return await answer(context, asked.options, headers, submitted, "image_edit")


async def _from_form(form: FormData, limit: int) -> _Asked:
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    pictures: list[bytes] = []
    mask: bytes | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name in ("image", "image[]"):
                pictures.append(await read_upload(value, limit, "image"))
            elif name == "mask":
                mask = await read_upload(value, _MOST_MASK_BYTES, "mask")
        elif match := _OPTION.fullmatch(name):
            options[match[1]] = value if match[1] in _TEXTS else _plain(value)
        elif name in _NUMBERS or name == "stream":
            fields[name] = _plain(value)
        elif name == "guardrails":
            options |= _object(value)
        else:
            fields[name] = value
    return _Asked(options=_checked(PictureOptions, {**fields, "guardrails": options}), pictures=pictures, mask=mask)


def _from_json(body: Any) -> _Asked:
    options = _checked(EditRequest, body)
    assert isinstance(options, EditRequest)
    pictures = [_referenced(one, f"images.{number}") for number, one in enumerate(options.images)]
    mask = None if options.mask is None else _referenced(options.mask, "mask")
    return _Asked(options=options, pictures=pictures, mask=mask)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_value", "the body is no JSON", headers=NO_RETRY) from error


def _checked(kind: type[PictureOptions], values: Any) -> PictureOptions:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise from_validation(error.errors()) from error


def _referenced(reference: ImageReference, param: str) -> bytes:
    if reference.image_url is None:
        message = "no files are kept here; give the picture as a data: URL"
        raise ApiError(400, "url_not_supported", message, param=f"{param}.image_url", headers=NO_RETRY)
    return from_data_url(reference.image_url, f"{param}.image_url")


def _plain(value: str) -> Any:
    """A number or a truth value of a form, which knows only text; anything else stays text and fails its check."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _object(value: str) -> Mapping[str, Any]:
    found = _plain(value)
    if not isinstance(found, dict):
        raise ApiError(400, "invalid_value", "guardrails: write a JSON object", param="guardrails", headers=NO_RETRY)
    return found


def _keep(context: Context, picture: bytes, mask: bytes | None) -> dict[str, Any]:
    """Put the pictures where a worker finds them."""
    names = [f"{uuid.uuid4().hex}.bin" for _ in (picture, mask)]
    write_atomically(context.settings.uploads / names[0], picture, mode=0o600)
    if mask is None:
        return {"inputs": names[:1]}
    write_atomically(context.settings.uploads / names[1], mask, mode=0o600)
    return {"inputs": names}


def _drop(context: Context, files: Mapping[str, Any]) -> None:
    for name in files["inputs"]:
        (context.settings.uploads / name).unlink(missing_ok=True)
