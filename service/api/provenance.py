"""`POST /v1/content_provenance_checks`: what a file proves about where it comes from. The file is not kept."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, cast, get_args

from fastapi import Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as StarletteUpload

from guardrails.audit import FileReport
from guardrails.domain.images import ManifestStatus, ManifestVerdict
from service.api.auth import admit, bearer_of, optional_caller
from service.api.context import Caller, Context, context_of
from service.api.direct import direct_router
from service.api.errors import NO_RETRY, ApiError, documented
from service.api.pictures import read_upload
from service.observation import VERIFICATIONS

Depth = Literal["c2pa", "fast", "standard", "deep"]

LIMITS = "Not detected does not mean not made by AI: marks and manifests can be missing, removed or unknown here."
_STATES = {
    ManifestStatus.TRUSTED: "trusted",
    ManifestStatus.VALID_UNTRUSTED: "valid",
    ManifestStatus.EXPIRED: "valid",
    ManifestStatus.NO_MANIFEST: "not_present",
    ManifestStatus.RECOVERED: "not_present",
}


class ProvenanceResult(BaseModel):
    """What one technique says."""

    type: str
    outcome: str
    validation_state: str
    issuer: str | None
    model: str | None
    generated_at: str | None


class ProvenanceResponse(BaseModel):
    """The official result, and all our evidence in `guardrails`."""

    object: str
    created_at: int
    results: list[ProvenanceResult]
    guardrails: dict[str, Any]


async def _found(request: Request) -> Response:
    context = await context_of(request)
    caller = await optional_caller(request, context, await bearer_of(request))
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(400, "invalid_value", "send the file as multipart/form-data", param="file", headers=NO_RETRY)
    async with request.form(max_files=1, max_fields=10) as form:
        file, depth = form.get("file"), form.get("depth") or None
        if not isinstance(file, StarletteUpload):
            raise ApiError(400, "invalid_value", "file: Field required", param="file", headers=NO_RETRY)
        if depth is not None and depth not in get_args(Depth):
            message = f"depth: one of {', '.join(get_args(Depth))}"
            raise ApiError(400, "invalid_value", message, param="depth", headers=NO_RETRY)
        return await check(request, cast(UploadFile, file), cast(Depth | None, depth), caller, context)


router = direct_router(_found, prefix="/v1", tags=["provenance"])


@router.post("/content_provenance_checks", response_model=ProvenanceResponse, responses=documented(404))
async def check(
    request: Request,
    file: Annotated[UploadFile, File(description="PNG, JPEG, WebP, AVIF, TIFF or GIF.")],
    depth: Annotated[Depth | None, Form(description="How hard the watermark is looked for; c2pa: not at all.")] = None,
    caller: Caller | None = Depends(optional_caller),
    context: Context = Depends(context_of),
) -> JSONResponse:
    """Look for a manifest, a watermark and a record."""
    await admit(request, context, caller, "verify", public=context.settings.public_verify)
    data = await read_upload(file, context.settings.max_upload_bytes, "file")
    if not data:
        raise ApiError(400, "unsupported_image", "the file is empty", param="file", headers=NO_RETRY)
    chosen: Depth = depth or context.settings.verify_depth
    return JSONResponse(await run_in_threadpool(examine, context, data, chosen))


def examine(context: Context, data: bytes, depth: Depth) -> dict[str, Any]:
    """The answer for the bytes of one file."""
    auditor = context.auditor()
    if depth == "c2pa":
        verdict = auditor.verifier.verify(data)
        VERIFICATIONS.labels(verdict.status.value).inc()
        return _answer(verdict, {"verdict": verdict.status.value, "explanation": verdict.explanation, "depth": depth})
    report = auditor.verify(data, mode=depth)
    VERIFICATIONS.labels(report.verdict.value).inc()
    return _answer(report.manifest, {**describe(report), "depth": depth})


def describe(report: FileReport) -> dict[str, Any]:
    """All evidence but what may be about a person: titles, names and places of a foreign manifest are left out."""
    mark, ledger, manifest = report.mark, report.ledger, report.manifest
    return {
        "verdict": report.verdict.value,
        "explanation": report.explanation,
        "exact": report.exact,
        "decodable": not report.problem or mark is not None,
        "c2pa": {
            "status": manifest.status.value,
            "explanation": manifest.explanation,
            "manifest_id": manifest.manifest_id,
            "signed_at": manifest.signed_at,
            "time_stamped": manifest.time_stamped,
            "ai_generated": manifest.ai_generated,
            # Whoever signs for themselves can write anything there.
            "label": manifest.label if manifest.status is ManifestStatus.TRUSTED else "",
            "codes": list(manifest.codes),
            "ancestry": list(manifest.ancestry),
        },
        "watermark": None
        if mark is None
        else {"verdict": mark.verdict.value, "id": mark.mark_id, "p_value": mark.p_value, "scheme": mark.scheme},
        "log": {
            "status": ledger.status.value,
            "found_by": ledger.found_by,
            "record_id": ledger.record_id,
            "created_at": ledger.created_at,
            "model": ledger.model,
            "policy": ledger.policy,
            "index": None if ledger.proof is None else ledger.proof.index,
            "size": None if ledger.proof is None else ledger.proof.size,
        },
        "recovery": None if report.recovery is None else report.recovery.level.value,
        "likeness": report.likeness,
        "public_mark": None if report.public_mark is None else report.public_mark.program,
    }


def _answer(manifest: ManifestVerdict, evidence: dict[str, Any]) -> dict[str, Any]:
    state = _STATES.get(manifest.status, "invalid")
    # Of an unreadable file it cannot be told whether there is a manifest.
    present = state != "not_present" and manifest.status is not ManifestStatus.UNREADABLE
    return {
        "object": "content_provenance_check",
        "created_at": int(time.time()),
        "results": [
            {
                "type": "c2pa",
                "outcome": "detected" if present else "not_detected",
                "validation_state": state,
                "issuer": (manifest.issuer or None) if present else None,
                "model": (manifest.model or None) if present else None,
                "generated_at": (manifest.signed_at or None) if present else None,
            }
        ],
        "guardrails": {**evidence, "limits": LIMITS},
    }
