"""The rules in force and in shadow, and what another pack would have decided on recent requests."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from guardrails.domain.canonical import to_plain
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import OptionError, PromptError
from guardrails.policy import Policy
from guardrails.policy.comparison import compare
from guardrails.policy.model import Mode
from service.access.persons import Session
from service.api.context import Context, context_of
from service.jobs.model import prompt_request
from service.pages.recorded import kept
from service.pages.site import PageError, page, signed_in

router = APIRouter(prefix="/policy")

_Session = signed_in("auditor")
_RECENT = 200


@router.get("")
def show(
    request: Request,
    name: Annotated[str, Query(max_length=200)] = "",
    against: Annotated[str, Query(max_length=200)] = "",
    session: Session = _Session,
    context: Context = Depends(context_of),
) -> Response:
    try:
        policy = context.policies.get(name)
        other = context.policies.get(against) if against else None
    except OptionError as error:
        raise PageError(404, "There is no such policy here.") from error
    return page(
        request,
        "policy.html",
        session=session,
        title="Policy",
        packs=list(context.policies.all),
        name=name or next(iter(context.policies.all)),
        against=against,
        policy=policy,
        rules=_rules(policy),
        shadow=[rule for rule in _rules(policy) if rule["mode"] == Mode.SHADOW.value],
        spoken=_spoken(context),
        difference=None if other is None else _difference(context, policy, other),
    )


def _rules(policy: Policy) -> list[dict[str, Any]]:
    prompts = [
        {
            "id": rule.id,
            "on": "prompt",
            "category": rule.category,
            "action": to_plain(rule.action),
            "mode": rule.mode.value,
            "what": f"{len(rule.terms)} terms" + (", names of a registry" if rule.names_from else ""),
            "rate": "",
            "jurisdictions": ", ".join(rule.jurisdictions),
        }
        for rule in policy.prompt_rules
    ]
    screens = [
        {
            "id": rule.id,
            "on": "picture",
            "category": rule.category,
            "action": to_plain(rule.action),
            "mode": Mode.ENFORCE.value,
            "what": f"{rule.screen}: {rule.concept} ≥ {rule.threshold:g}",
            "rate": rule.error_rate,
            "jurisdictions": "",
        }
        for rule in policy.screen_rules
    ]
    similar = [
        {
            "id": rule.id,
            "on": "similarity",
            "category": rule.category,
            "action": to_plain(rule.action),
            "mode": Mode.ENFORCE.value,
            "what": f"{rule.state} match, {rule.reservation}",
            "rate": "",
            "jurisdictions": "",
        }
        for rule in policy.similarity_rules
    ]
    return prompts + screens + similar


def _spoken(context: Context) -> dict[str, int]:
    """How often each rule spoke in the newest thousand decisions."""
    counts: dict[str, int] = {}
    for row in context.database.all("SELECT rules FROM decisions ORDER BY at DESC LIMIT 1000"):
        for rule in filter(None, row["rules"].split(",")):
            counts[rule] = counts.get(rule, 0) + 1
    return counts


def _difference(context: Context, policy: Policy, other: Policy) -> dict[str, Any]:
    """Both packs on the newest prompts that the ledger still keeps; the prompts themselves are not shown."""
    guards = (context.prompt_guard(policy), context.prompt_guard(other))
    decisions: list[tuple[str, PromptDecision, PromptDecision]] = []
    for asked in _recent(context):
        try:
            first, second = (guard.decide(asked) for guard in guards)
        except PromptError:
            continue
        decisions.append(("", first, second))
    compared = compare(policy.ref, other.ref, decisions)
    changes: dict[str, int] = {}
    for change in compared.changes:
        for rule in change.rules:
            changes[rule] = changes.get(rule, 0) + 1
    return {"total": compared.total, "verdicts": dict(compared.verdicts), "rules": dict(sorted(changes.items()))}


def _recent(context: Context) -> list[PromptRequest]:
    ledger = context.ledger()
    if ledger is None:
        return []
    size, requests = len(ledger), []
    for index in range(size - 1, max(-1, size - 1 - _RECENT), -1):
        logged = ledger.find_by_index(index)
        asked = {} if logged is None else kept(ledger, logged.record.id).get("request", {})
        if asked.get("prompt"):
            requests.append(prompt_request(asked))
    return requests
