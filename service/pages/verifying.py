"""The public page: drop a file, read what it proves. The file is looked at in memory and not kept."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from service.access.persons import Session
from service.api.auth import public_limit
from service.api.context import Context, context_of
from service.api.errors import ApiError
from service.api.pictures import read_upload
from service.api.provenance import LIMITS, examine
from service.pages.site import PageError, page, same_origin, session_of

router = APIRouter()

# What each verdict is called, and how it is coloured; see `guardrails.audit.report.FileVerdict`.
VERDICTS = {
    "confirmed": ("Made here", "good"),
    "recovered": ("Made here, changed since", "good"),
    "signed": ("Signed by a trusted signer", "good"),
    "suspected": ("Traces, but no proof", "unsure"),
    "conflict": ("Contradictory marks", "bad"),
    "tampered": ("Changed after signing", "bad"),
    "not_found": ("Nothing found", "unsure"),
    "unreadable": ("Not a readable picture", "unsure"),
}


@router.get("/verify")
async def show(
    request: Request, context: Context = Depends(context_of), session: Session | None = Depends(session_of)
) -> Response:
    _check_open(context, session)
    return page(request, "verify.html", session=session, title="Verify a picture", report=None, limits=LIMITS)


@router.post("/verify")
async def check(
    request: Request, context: Context = Depends(context_of), session: Session | None = Depends(session_of)
) -> Response:
    """The page with the report; for our script, the report alone."""
    same_origin(request)
    _check_open(context, session)
    try:
        if session is None:
            await public_limit(request, context)
        async with request.form(max_files=1, max_fields=5) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise PageError(400, "Choose a file first.")
            data = await read_upload(file, context.settings.max_upload_bytes, "file")
    except ApiError as error:
        raise PageError(error.status, str(error.body["message"]).capitalize() + ".") from error
    if not data:
        raise PageError(400, "The file is empty.")
    answer = await run_in_threadpool(examine, context, data, context.settings.verify_depth)
    alone = request.headers.get("x-fragment") == "1"
    template = "verify_report.html" if alone else "verify.html"
    report = _told(answer)
    return page(request, template, session=session, title="Verify a picture", report=report, limits=LIMITS)


def _check_open(context: Context, session: Session | None) -> None:
    if session is None and not context.settings.public_verify:
        raise PageError(403, "Sign in to verify pictures.")


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer in words: a verdict, and what each layer said."""
    evidence, (result, *_) = answer["guardrails"], answer["results"]
    name, tone = VERDICTS[evidence["verdict"]]
    manifest, mark, log = evidence["c2pa"], evidence["watermark"], evidence["log"]
    chain = [line.rpartition(": ")[0] or line for line in manifest["ancestry"]]
    return {
        "name": name,
        "tone": tone,
        "explanation": evidence["explanation"],
        "layers": [
            ("Signed manifest", manifest["explanation"], _tone(result["validation_state"], "trusted", "not_present")),
            ("Watermark", _mark_words(mark), _tone((mark or {}).get("verdict"), "present", "not_detected")),
            ("Public log", _log_words(log), _tone(log["status"], "verified", "no_record")),
        ],
        "facts": [
            (label, value)
            for label, value in (
                ("Signer", result["issuer"]),
                ("Signed", manifest["signed_at"]),
                ("Time-stamped", "yes" if manifest["time_stamped"] else ""),
                ("Model", log["model"] or result["model"]),
                ("Visible label", manifest["label"]),
                ("Record", log["record_id"]),
                ("Recorded", log["created_at"]),
                ("Place in the log", f"{log['index']} of {log['size']}" if log["index"] is not None else ""),
                ("Exact copy", "yes, byte for byte" if evidence["exact"] else ""),
            )
            if value
        ],
        "chain": [*chain, manifest["manifest_id"]] if manifest["manifest_id"] else chain,
    }


def _tone(value: str | None, good: str, absent: str) -> str:
    return "good" if value == good else "unsure" if value in (absent, None, "unavailable", "error", "") else "bad"


def _mark_words(mark: dict[str, Any] | None) -> str:
    if mark is None:
        return "The pixels cannot be read."
    return {
        "present": "The invisible mark of this service is in the pixels.",
        "present_unbound": "The mark belongs to another picture: it was probably carried over.",
        "suspected": "Something like our mark is there, too weak to be read.",
        "not_detected": "No mark of this service was found.",
    }.get(mark["verdict"], "The mark could not be looked for.")


def _log_words(log: dict[str, Any]) -> str:
    if log["status"] == "verified":
        return "The picture is recorded in the log, and the record is proven unchanged."
    return {
        "no_record": "The log has no record of this picture.",
        "corrupt": "The log does not verify, so its record proves nothing.",
    }.get(log["status"], "There is no log here yet.")
