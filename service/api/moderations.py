"""`POST /v1/moderations`: texts by the policy's rules, pictures by its screens, in OpenAI's 13 categories."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from guardrails.domain.canonical import to_plain
from guardrails.domain.findings import Action, Finding, strongest
from guardrails.domain.requests import PromptRequest
from guardrails.errors import PromptError
from guardrails.policy.taxonomy import load_taxonomy
from guardrails.screens import judge
from guardrails.screens.persons import without_persons
from guardrails.screens.scanning import look, shown_as
from service.api.auth import authorise, bearer_of, needs
from service.api.context import Caller, Context, context_of
from service.api.direct import direct_router, json_body
from service.api.errors import ApiError, documented, from_guardrails
from service.api.pictures import decoded, from_data_url
from service.api.requests import ModerationPart, ModerationRequest
from service.observation import MODERATIONS

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
# What a rule without a score of its own stands for; an exact match of a word is no probability.
_SCORES = {Action.ALLOW: 0.0, Action.FLAG: 0.3, Action.REWRITE: 0.3, Action.REVIEW: 0.7, Action.BLOCK: 1.0}


class ModerationResult(BaseModel):
    """One moderated input. Our own categories stand beside OpenAI's."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    guardrails: dict[str, Any]


class ModerationResponse(BaseModel):
    """One result for each text; one for all parts of a multimodal input."""

    id: str
    model: str
    results: list[ModerationResult]


async def _found(request: Request) -> Response:
    context = await context_of(request)
    caller = await authorise(request, context, await bearer_of(request), "moderate")
    return await moderate(await json_body(request, ModerationRequest), caller, context)


router = direct_router(_found, prefix="/v1", tags=["moderation"])


@dataclass(slots=True)
class _Tally:
    """What was found in one input, by kind of input."""

    findings: list[tuple[str, Finding]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)


@router.post("/moderations", response_model=ModerationResponse, responses=documented(404))
async def moderate(
    body: ModerationRequest, caller: Caller = needs("moderate"), context: Context = Depends(context_of)
) -> JSONResponse:
    """Say what the policy finds in texts and pictures; nothing is kept."""
    moderator = Moderator(context, caller, body)
    # A few rules on a short text cost less than handing them to another thread.
    return JSONResponse(moderator.answer() if moderator.is_quick else await run_in_threadpool(moderator.answer))


class Moderator:
    """Moderates one request under the caller's policy.

    Raises:
        ApiError: the policy is not to be had.
    """

    def __init__(self, context: Context, caller: Caller, body: ModerationRequest) -> None:
        self._context, self._body, self._tenant = context, body, caller.tenant
        self._words_only = body.guardrails.get("depth") == "rules"
        name, self._policy = context.policy_of(caller.tenant)
        self._prompts = context.prompt_guard(self._policy, words_only=self._words_only)
        self.model = f"guardrails/{name}@{self._policy.version}"

    @property
    def is_quick(self) -> bool:
        return self._words_only and isinstance(self._body.input, str) and len(self._body.input) < 2000

    def answer(self) -> dict[str, Any]:
        """The body of the response.

        Raises:
            ApiError: a text or a picture cannot be read.
        """
        results = self._results()
        for result in results:
            MODERATIONS.labels(str(result["flagged"]).lower()).inc()
        return {"id": f"modr-{uuid.uuid4().hex}", "model": self.model, "results": results}

    def _results(self) -> list[dict[str, Any]]:
        given = self._body.input
        if isinstance(given, str):
            return [self._of_text(given, "input")]
        if isinstance(given[0], str):
            return [self._of_text(str(text), f"input.{number}") for number, text in enumerate(given)]
        tally = _Tally()
        parts = [(part, f"input.{number}") for number, part in enumerate(given) if isinstance(part, ModerationPart)]
        # Texts first: whom they name matters to the pictures, as a prompt does to what is drawn from it.
        for part, param in sorted(parts, key=lambda one: one[0].type != "text"):
            self._add_part(tally, part, param)
        return [_result(tally)]

    def _of_text(self, text: str, param: str) -> dict[str, Any]:
        tally = _Tally()
        self._add_text(tally, text, param)
        return _result(tally)

    def _add_part(self, tally: _Tally, part: ModerationPart, param: str) -> None:
        if part.type == "text" and part.text is not None:
            self._add_text(tally, part.text, f"{param}.text")
        elif part.type == "image_url" and part.image_url is not None:
            self._add_picture(tally, part.image_url.url, f"{param}.image_url.url")
        else:
            raise ApiError(400, "invalid_value", f"{param} lacks its {part.type}", param=f"{param}.{part.type}")

    def _add_text(self, tally: _Tally, text: str, param: str) -> None:
        if not text.strip():
            return
        try:
            decision = self._prompts.decide(PromptRequest(prompt=text, jurisdiction=self._tenant.jurisdiction))
        except PromptError as error:
            raise from_guardrails(error, param) from error
        tally.findings += [("text", finding) for finding in decision.findings]

    def _add_picture(self, tally: _Tally, url: str, param: str) -> None:
        picture = decoded(from_data_url(url, param), param)
        for pixels in shown_as(picture).values():
            listed = self._context.hash_lists.look(pixels)
            if listed is not None:
                tally.findings += [("image", finding) for finding in (listed.finding,) if finding is not None]
                tally.checks.append(to_plain(listed.check))
        prompted = [finding for kind, finding in tally.findings if kind == "text"]
        checks = look(picture, self._context.screens(), prompted)
        tally.findings += [("image", finding) for finding in judge(checks, self._policy.screen_rules)]
        tally.checks += [to_plain(without_persons(check)) for check in checks]


def _result(tally: _Tally) -> dict[str, Any]:
    findings = [finding for _, finding in tally.findings]
    scores = dict.fromkeys(CATEGORIES, 0.0)
    flagged = dict.fromkeys(CATEGORIES, False)
    types: dict[str, list[str]] = {name: [] for name in CATEGORIES}
    for kind, finding in tally.findings:
        for name in _names(finding.category):
            scores[name] = max(scores.get(name, 0.0), _score(finding))
            flagged[name] = flagged.get(name, False) or finding.action >= Action.REVIEW
            types[name] = sorted({*types.get(name, ()), kind})
    return {
        "flagged": any(flagged.values()),
        "categories": flagged,
        "category_scores": scores,
        "category_applied_input_types": types,
        "guardrails": {
            "action": to_plain(strongest(findings)),
            "findings": [_shown(finding) for finding in findings],
            "checks": tally.checks,
        },
    }


@functools.cache
def _names(category: str) -> tuple[str, ...]:
    """The OpenAI category that a finding of ours speaks of first, and our own."""
    known = load_taxonomy().get(category)
    own = () if category in CATEGORIES else (category,)
    return (*(known.openai[:1] if known else ()), *own)


def _score(finding: Finding) -> float:
    return _SCORES[finding.action] if finding.score is None else min(1.0, max(0.0, finding.score))


def _shown(finding: Finding) -> Mapping[str, Any]:
    """A finding with its place in the text, which the caller wrote; evidence that quotes it is left out."""
    span = None if finding.span is None else {"start": finding.span.start, "end": finding.span.end}
    return {
        "rule": finding.rule,
        "category": finding.category,
        "action": to_plain(finding.action),
        "message": finding.message,
        "score": finding.score,
        "threshold": finding.threshold,
        "span": span,
        "spans": list(_places(finding.evidence.get("spans", ()))),
    }


def _places(spans: Any) -> Iterable[dict[str, int]]:
    return ({"start": span["start"], "end": span["end"]} for span in spans if span.get("field") == "prompt")
