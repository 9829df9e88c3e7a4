"""The queue of what is held, and appeals. Pictures are covered until somebody uncovers them, which is noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from guardrails import home as homes
from guardrails.errors import OptionError
from service.access.persons import Session
from service.api.context import Context, context_of
from service.jobs.outcomes import LISTED
from service.pages.recorded import kept
from service.pages.site import PageError, form_of, page, said, signed_in
from service.review import APPROVALS, Decision

router = APIRouter()

_Session = signed_in("reviewer")


@router.get("/review")
def queue(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    return page(
        request,
        "reviews.html",
        session=session,
        title="Reviews",
        items=context.reviews.waiting(),
        statistics=context.reviews.statistics(),
        approvals=APPROVALS,
    )


@router.get("/review/{id}")
def item(request: Request, id: str, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    review = _review(context, id)
    waiting = [row["id"] for row in context.reviews.waiting()]
    place = waiting.index(id) if id in waiting else -1
    return page(
        request,
        "review.html",
        session=session,
        title="Review",
        review=review,
        approvals=APPROVALS,
        listed=review["stage"] == LISTED,
        next=waiting[place + 1] if 0 <= place < len(waiting) - 1 else "",
        previous=waiting[place - 1] if place > 0 else "",
        categories=sorted({name for entry in review["findings"] for name in entry["categories"]}),
        rules=sorted({rule for entry in review["findings"] for rule in entry["rules"]}),
    )


@router.get("/review/{id}/picture")
def picture(id: str, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    """The held picture. It has no mark and no manifest: it must not leave this page."""
    path = Path(_review(context, id)["evidence"])
    folder = homes.evidence_folder(context.settings.home).resolve()
    if not path.name or not path.resolve().is_relative_to(folder) or not path.is_file():
        raise PageError(404, "There is no picture of this request.")
    return Response(path.read_bytes(), media_type="image/png", headers={"cache-control": "no-store"})


@router.post("/review/{id}/{act}")
async def act(
    request: Request, id: str, act: str, session: Session = _Session, context: Context = Depends(context_of)
) -> Response:
    """Claim, uncover, release or refuse."""
    form = await form_of(request, session)
    person = session.person.id
    try:
        match act:
            case "claim":
                await run_in_threadpool(context.reviews.claim, id, person)
            case "reveal":
                await run_in_threadpool(_review, context, id)
                await run_in_threadpool(context.reviews.note, id, person, "reveal")
                return JSONResponse({"noted": True})
            case "release" | "refuse":
                decision = Decision(
                    release=act == "release",
                    category=form.get("category", "")[:100],
                    rule=form.get("rule", "")[:100],
                    reason=form.get("reason", ""),
                )
                await run_in_threadpool(context.reviews.decide, id, person, decision)
                return RedirectResponse("/review", 303)
            case _:
                raise PageError(404, "There is no such act.")
    except OptionError as error:
        raise said(error) from error
    return RedirectResponse(f"/review/{id}", 303)


@router.get("/appeals")
def appeals(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    return page(
        request,
        "appeals.html",
        session=session,
        title="Appeals",
        items=context.appeals.waiting(),
        statistics=context.appeals.statistics(),
    )


@router.get("/appeals/{id}")
def appeal(request: Request, id: str, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    try:
        found = context.appeals.get(id)
    except OptionError as error:
        raise PageError(404, "There is no such appeal.") from error
    decision = context.database.one("SELECT * FROM decisions WHERE id = ?", found["decision"])
    return page(
        request,
        "appeal.html",
        session=session,
        title="Appeal",
        appeal=found,
        decision=decision,
        prompt=_prompt_of(context, found["decision"]),
    )


@router.post("/appeals/{id}/{act}")
async def answer(
    request: Request, id: str, act: str, session: Session = _Session, context: Context = Depends(context_of)
) -> Response:
    """Reply, uphold or overturn."""
    form = await form_of(request, session)
    person, text = session.person.id, form.get("text", "")
    try:
        if act == "reply":
            await run_in_threadpool(context.appeals.reply, id, f"person:{person}", text)
        else:
            await run_in_threadpool(context.appeals.answer, id, person, act, text)
    except OptionError as error:
        raise said(error) from error
    return RedirectResponse(f"/appeals/{id}", 303)


def _review(context: Context, id: str) -> dict[str, Any]:
    try:
        return context.reviews.get(id)
    except OptionError as error:
        raise PageError(404, "There is no such review.") from error


def _prompt_of(context: Context, record_id: str) -> str:
    """What was asked, while the ledger still keeps it; "" once it is erased."""
    return str(kept(context.ledger(), record_id).get("request", {}).get("prompt", ""))
