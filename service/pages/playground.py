"""Try prompts: which words a rule looks at, while one types; then the picture itself."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from guardrails.domain.canonical import to_plain
from guardrails.domain.findings import Finding
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import GuardrailsError
from service.access.keys import SCOPES
from service.access.persons import Session
from service.access.tenants import LOCAL
from service.api.answers import job_object
from service.api.auth import refuse_suspended
from service.api.context import Caller, Context, context_of
from service.api.errors import ApiError, from_guardrails, from_validation
from service.api.requests import GenerationRequest
from service.api.submission import JobHeaders, submit
from service.pages.site import form_of, page, signed_in

router = APIRouter(prefix="/playground")

_Session = signed_in("playground")


@router.get("")
async def show(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    packs = list(context.policies.all)
    return page(request, "playground.html", session=session, title="Playground", packs=packs)


@router.post("/explain")
async def explain(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    """What the policy says about a prompt, with the place of each word that it looked at."""
    form = await form_of(request, session)
    prompt = form.get("prompt", "")
    if not prompt.strip():
        return JSONResponse({"action": "", "findings": [], "near_misses": [], "milliseconds": 0})
    local = await run_in_threadpool(context.tenants.get, LOCAL.id)
    asked = PromptRequest(prompt=prompt, jurisdiction=local.jurisdiction)
    try:
        _, policy = context.policy_of(local, form.get("policy", ""))
        decision = await run_in_threadpool(context.prompt_guard(policy).decide, asked)
    except GuardrailsError as error:
        return JSONResponse({"error": error.message}, error.http_status)
    return JSONResponse(_told(decision))


@router.post("/generate")
async def generate(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    """Ask for a picture; answered by a job that the page then watches."""
    form = await form_of(request, session)
    local = await run_in_threadpool(context.tenants.get, LOCAL.id)
    caller = Caller(tenant=local, key=f"person:{session.person.id}", scopes=frozenset(SCOPES))
    try:
        refuse_suspended(local)
        options: dict[str, Any] = {"policy": form.get("policy", "")}
        if form.get("seed"):
            options["seed"] = int(form["seed"]) if form["seed"].isdigit() else form["seed"]
        body = GenerationRequest.model_validate({"prompt": form.get("prompt", ""), "guardrails": options})
        submitted = await submit(request, context, caller, body, JobHeaders(idempotency_key=uuid.uuid4().hex))
    except ValidationError as error:
        return _failed(from_validation(error.errors()))
    except ApiError as error:
        return _failed(error)
    except GuardrailsError as error:
        return _failed(from_guardrails(error))
    return JSONResponse({"job": submitted.job.id}, 202)


@router.get("/jobs/{job_id}")
async def watch(
    request: Request, job_id: str, session: Session = _Session, context: Context = Depends(context_of)
) -> Response:
    """How far a job of this person has come."""
    try:
        job = await run_in_threadpool(context.table.get, job_id, LOCAL.id)
    except KeyError:
        return _failed(ApiError(404, "not_found", "there is no such job"))
    if job.api_key != f"person:{session.person.id}":
        return _failed(ApiError(404, "not_found", "there is no such job"))
    shown = await run_in_threadpool(job_object, context, job)
    for item in (shown["result"] or {}).get("data", ()):
        # On this very host, whatever the public address is.
        item["url"] = "/v1/assets/" + item["url"].partition("/v1/assets/")[2]
    return JSONResponse(shown)


def _failed(error: ApiError) -> JSONResponse:
    return JSONResponse({"error": error.body["message"]}, error.status)


def _told(decision: PromptDecision) -> dict[str, Any]:
    return {
        "action": to_plain(decision.action),
        "rewritten": decision.prompt if decision.rewritten else "",
        "findings": [_finding(finding, shadow=False) for finding in decision.findings]
        + [_finding(finding, shadow=True) for finding in decision.shadow],
        "near_misses": [
            {"rule": near.rule, "category": near.category, "why": near.why, "score": near.score}
            for near in decision.near_misses
        ],
        "milliseconds": round(decision.milliseconds, 2),
    }


def _finding(finding: Finding, *, shadow: bool) -> dict[str, Any]:
    spans = [
        {"start": span["start"], "end": span["end"]}
        for span in finding.evidence.get("spans", ())
        if span.get("field", "prompt") == "prompt"
    ]
    if not spans and finding.span is not None and finding.span.field == "prompt":
        spans = [{"start": finding.span.start, "end": finding.span.end}]
    return {
        "rule": finding.rule,
        "category": finding.category,
        "action": to_plain(finding.action),
        "message": finding.message,
        "score": finding.score,
        "threshold": finding.threshold,
        "error_rate": finding.error_rate,
        "spans": spans,
        "shadow": shadow,
    }
