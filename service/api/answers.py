"""A job that is over, as a response: pictures, a refusal, or a failure."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guardrails.errors import GuardrailsError, QualityError
from guardrails.policy.taxonomy import load_taxonomy
from service.api.context import Context
from service.api.errors import NO_RETRY, ApiError
from service.jobs.model import Job, Status

_USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


def images_response(context: Context, job: Job) -> dict[str, Any]:
    """The body for a job that released pictures.

    Raises:
        ApiError: it released none; says why.
    """
    if job.status is not Status.SUCCEEDED:
        raise refusal_of(context, job)
    assert job.result is not None
    answer = job.request["answer"]
    return {
        "created": int(job.created_at),
        **{name: answer[name] for name in ("background", "output_format", "size", "quality")},
        "data": [item(context, job, image) for image in job.result["images"]],
        "guardrails": {
            "job_id": job.id,
            "blocked": [public_refusal(context, entry) for entry in job.result["blocked"]],
            "ignored": answer.get("ignored", []),
        },
        "usage": _USAGE,
    }


def item(context: Context, job: Job, image: Mapping[str, Any]) -> dict[str, Any]:
    """One released picture, as base64 or as a signed address."""
    shown: dict[str, Any] = {"revised_prompt": None, "guardrails": image["guardrails"]}
    if job.request["answer"]["response_format"] == "url":
        return {"url": signed_url(context, image["file"]), **shown}
    return {"b64_json": base64.b64encode(read_asset(context, image["file"])).decode(), **shown}


def stream_events(context: Context, job: Job, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events that end a stream: one for each released picture, or one error."""
    try:
        body = images_response(context, job)
    except ApiError as error:
        yield "error", {"type": "error", "error": error.body}
        return
    assert job.result is not None
    for shown, image in zip(body["data"], job.result["images"], strict=True):
        yield (
            f"{kind}.completed",
            {
                "type": f"{kind}.completed",
                "b64_json": shown.get("b64_json") or base64.b64encode(read_asset(context, image["file"])).decode(),
                "created_at": body["created"],
                **{name: body[name] for name in ("size", "quality", "background", "output_format")},
                "usage": _USAGE,
                "guardrails": {**shown["guardrails"], **body["guardrails"], "index": image["index"]},
            },
        )


def refusal_of(context: Context, job: Job) -> ApiError:
    """Why a job released nothing."""
    result = job.result or {}
    if job.status is Status.CANCELLED:
        return ApiError(409, "cancelled", "this request was cancelled", headers=NO_RETRY)
    if job.status is Status.QUARANTINED:
        message = "This request could not be processed safely and was set aside."
        return _blocked(context, job, message, "quarantined", decision_id=job.quarantine_id)
    blocked = result.get("blocked", [])
    faults = [entry["fault"] for entry in blocked if entry["fault"]]
    if result.get("error") is not None:
        error = result["error"]
        message = (
            f"{error['message']}; {error['hint']}" if error["hint"] and error["status"] < 500 else error["message"]
        )
        headers = {"retry-after": "5"} if error["status"] in (429, 503) else NO_RETRY
        return ApiError(error["status"], error["code"], message, headers=headers)
    if blocked and set(faults) == {QualityError.code} and len(faults) == len(blocked):
        message = "the watermark does not survive this output_compression; ask for a higher one, or for png"
        shown = [public_refusal(context, entry) for entry in blocked]
        extra = {"guardrails": {"job_id": job.id, "blocked": shown}}
        return ApiError(400, QualityError.code, message, param="output_compression", extra=extra, headers=NO_RETRY)
    if job.status is Status.FAILED:
        return _faulty(context, job, faults[0] if faults else "generation_failed")
    if job.status is Status.HELD:
        return _blocked(context, job, "This request waits for a review by people.", "moderation_blocked")
    messages = [message for entry in blocked for message in entry["messages"]]
    text = " ".join(dict.fromkeys(messages)) or "The request was refused by the policy."
    if any("job_id" in entry for entry in blocked):
        text = f"Pictures of this request wait for a review by people. {text}"
    return _blocked(context, job, text, "moderation_blocked")


def public_refusal(context: Context, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One refused picture, without what belongs to reviewers alone."""
    names = ("index", "stage", "categories", "rules", "messages", "action", "decision_id", "policy", "fault")
    shown = {name: entry[name] for name in names}
    return {**shown, "review": _review_of(context, entry), "appeal_url": f"{context.settings.base_url}/v1/appeals"}


def _review_of(context: Context, entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Of one held picture of several: the job under which it goes on, and how that stands now."""
    if "job_id" not in entry:
        return None
    standing = context.table.standing([entry["job_id"]]).get(entry["job_id"])
    return {"job_id": entry["job_id"], "status": "expired" if standing is None else standing[0]}


def read_asset(context: Context, name: str) -> bytes:
    """The bytes of a released picture.

    Raises:
        ApiError: it has expired, or was taken down.
    """
    if context.takedowns.is_down(name.partition(".")[0]):
        raise taken_down()
    try:
        return (context.settings.assets / name).read_bytes()
    except FileNotFoundError as error:
        raise ApiError(410, "expired", "this picture is no longer kept here", headers=NO_RETRY) from error


def taken_down() -> ApiError:
    """The answer to whoever asks for a picture that nobody is given any more."""
    return ApiError(410, "taken_down", "this picture was taken down", headers=NO_RETRY)


def signed_url(context: Context, name: str) -> str:
    """An address under which a picture can be fetched without a key for a short while."""
    expires = str(int(time.time() + context.settings.url_seconds))
    signature = context.secrets.mac("asset", name, expires)
    return f"{context.settings.base_url}/v1/assets/{name}?expires={expires}&signature={signature}"


def job_object(context: Context, job: Job) -> dict[str, Any]:
    """A job as `/v1/jobs` shows it; with its result or error once it is over."""
    shown: dict[str, Any] = {
        "id": job.id,
        "object": "job",
        "kind": job.kind,
        "status": job.status.value,
        "stage": job.stage,
        "created_at": int(job.created_at),
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "result": None,
        "error": None,
        "guardrails": {"policy": job.policy, "attempts": job.attempts},
    }
    if job.status is Status.SUCCEEDED:
        assert job.result is not None
        images = job.result["images"]
        shown["result"] = {
            "data": [{"url": signed_url(context, i["file"]), "guardrails": i["guardrails"]} for i in images],
            "guardrails": {"blocked": [public_refusal(context, entry) for entry in job.result["blocked"]]},
        }
    elif job.status.is_over:
        shown["error"] = refusal_of(context, job).body
    return shown


def moderated_categories(categories: list[str]) -> list[str]:
    """Our categories under the names that OpenAI's moderation has, where it has one."""
    taxonomy = load_taxonomy()
    named = [taxonomy[name].openai[0] if name in taxonomy and taxonomy[name].openai else name for name in categories]
    return sorted(set(named))


def _blocked(context: Context, job: Job, message: str, code: str, decision_id: str | None = None) -> ApiError:
    blocked = (job.result or {}).get("blocked", [])
    own = sorted({category for entry in blocked for category in entry["categories"]})
    stages = {entry["stage"] for entry in blocked}
    first = blocked[0] if blocked else {}
    return ApiError(
        400,
        code,
        message,
        type="image_generation_user_error",
        headers=NO_RETRY,
        extra={
            "moderation_details": {
                "moderation_stage": stages.pop() if len(stages) == 1 else "unknown",
                "categories": moderated_categories(own),
            },
            "guardrails": {
                "job_id": job.id,
                "decision_id": first.get("decision_id", decision_id),
                "policy": first.get("policy", job.policy),
                "categories": own,
                "rules": sorted({rule for entry in blocked for rule in entry["rules"]}),
                "review": "waiting" if _waits(job, blocked) else None,
                "appeal_url": f"{context.settings.base_url}/v1/appeals",
                "fallback": None,
                "blocked": [public_refusal(context, entry) for entry in blocked],
            },
        },
    )


def _waits(job: Job, blocked: Sequence[Mapping[str, Any]]) -> bool:
    return job.status is Status.HELD or any("job_id" in entry for entry in blocked)


def _faulty(context: Context, job: Job, code: str) -> ApiError:
    """A guard failed, so nothing was released; never told as a decision about the content."""
    status = _statuses().get(code, 500)
    blocked = [public_refusal(context, entry) for entry in (job.result or {}).get("blocked", [])]
    return ApiError(
        status,
        code,
        "A check of this picture failed, so it was not released.",
        headers={"retry-after": "5"} if status == 503 else NO_RETRY,
        extra={"guardrails": {"job_id": job.id, "blocked": blocked}},
    )


@functools.cache
def _statuses() -> dict[str, int]:
    """HTTP statuses by the code of our errors."""
    kinds = [GuardrailsError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind.code: kind.http_status for kind in kinds}
