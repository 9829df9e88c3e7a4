"""Sign in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.access.persons import Session
from service.api.context import Context, context_of
from service.pages.site import MENU, cookie_name, form_of, page, same_origin, session_of

router = APIRouter()

# Guessing is slow: so many tries a minute for one name, and for one address.
_TRIES_BY_NAME = 5
_TRIES_BY_ADDRESS = 20


@router.get("/")
async def home() -> Response:
    return RedirectResponse("/verify", 303)


@router.get("/signin")
async def show(
    request: Request,
    next: Annotated[str, Query(max_length=200)] = "",
    session: Session | None = Depends(session_of),
) -> Response:
    return page(request, "signin.html", session=session, title="Sign in", next=next, message="")


@router.post("/signin")
async def sign_in(request: Request, context: Context = Depends(context_of)) -> Response:
    same_origin(request)
    form = await request.form(max_files=0, max_fields=5)
    name, password, next = (str(form.get(field, ""))[:200] for field in ("name", "password", "next"))
    address = request.client.host if request.client is not None else ""
    standings = (
        await context.limiter.admit(f"signin:{name}", _TRIES_BY_NAME),
        await context.limiter.admit(f"signin-from:{address}", _TRIES_BY_ADDRESS),
    )
    if any(standing.retry > 0 for standing in standings):
        message = "Too many tries. Wait a minute."
        return page(request, "signin.html", status=429, title="Sign in", next=next, message=message)
    seconds = context.settings.session_minutes * 60
    token = await run_in_threadpool(context.persons.sign_in, name, password, seconds)
    if token is None:
        message = "Name or password are wrong."
        return page(request, "signin.html", status=401, title="Sign in", next=next, message=message)
    answer = RedirectResponse(next if _is_ours(next) else await run_in_threadpool(_first_page, context, name), 303)
    answer.set_cookie(
        cookie_name(context),
        token,
        max_age=int(seconds),
        path="/",
        secure=context.settings.behind_tls,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/signout")
async def sign_out(
    request: Request, context: Context = Depends(context_of), session: Session | None = Depends(session_of)
) -> Response:
    answer = RedirectResponse("/verify", 303)
    if session is not None:
        await form_of(request, session)
        await run_in_threadpool(context.persons.sign_out, request.cookies[cookie_name(context)])
        answer.delete_cookie(cookie_name(context), path="/", secure=context.settings.behind_tls, httponly=True)
    return answer


def _is_ours(target: str) -> bool:
    """Whether a target is one of our pages; "//host" would lead elsewhere."""
    return any(target == url or target.startswith(f"{url}/") for url, _, _ in MENU)


def _first_page(context: Context, name: str) -> str:
    person = context.persons.get(name)
    return next((url for url, _, role in MENU if role and person.may(role)), "/verify")
