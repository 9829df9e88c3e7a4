"""What all pages share: templates, the content policy, who is signed in, and forms that cannot be forged."""

from __future__ import annotations

import functools
import hmac
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.staticfiles import StaticFiles

from guardrails.errors import OptionError
from guardrails.version import __version__
from service.access.persons import Session
from service.api.context import Context, context_of
from service.api.errors import ApiError
from service.api.pictures import read_upload

_FOLDER = Path(__file__).parent
# No inline scripts or styles, nothing from elsewhere; blob: shows a picture that was dropped, without sending it back.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": CONTENT_POLICY, "cache-control": "no-store", "x-frame-options": "DENY"}
MENU = (
    ("/verify", "Verify", ""),
    ("/playground", "Playground", "playground"),
    ("/review", "Reviews", "reviewer"),
    ("/appeals", "Appeals", "reviewer"),
    ("/audit", "Audit", "auditor"),
    ("/explore", "Explorer", "auditor"),
    ("/policy", "Policy", "auditor"),
    ("/dashboard", "Dashboard", "auditor"),
)


class NeedsSignIn(Exception):
    """Raised for a page that is shown only to people who are signed in."""


class PageError(Exception):
    """Raised where a page can say no more than what went wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def install(app: FastAPI) -> None:
    """Static files, and errors as pages."""
    app.mount("/static", StaticFiles(directory=_FOLDER / "static"), name="static")

    @app.exception_handler(NeedsSignIn)
    async def to_sign_in(request: Request, error: NeedsSignIn) -> Response:
        target = urllib.parse.quote(request.url.path, safe="/")
        return RedirectResponse(f"/signin?next={target}", 303, headers=_HEADERS)

    @app.exception_handler(PageError)
    async def as_page(request: Request, error: PageError) -> Response:
        return page(request, "error.html", status=error.status, title="Not possible", message=error.message)


def page(
    request: Request, template: str, *, session: Session | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """A rendered page."""
    person = None if session is None else session.person
    menu = [(url, name) for url, name, role in MENU if not role or (person is not None and person.may(role))]
    text = (
        _environment()
        .get_template(template)
        .render(
            **values,
            menu=menu,
            here=request.url.path,
            person=person,
            csrf="" if session is None else session.csrf,
            version=__version__,
        )
    )
    return HTMLResponse(text, status, headers=_HEADERS)


def cookie_name(context: Context) -> str:
    """Browsers keep a cookie with this prefix to this very host, and to HTTPS."""
    return "__Host-session" if context.settings.behind_tls else "guardrails-session"


async def session_of(request: Request, context: Context = Depends(context_of)) -> Session | None:
    """Who is signed in, or None."""
    token = request.cookies.get(cookie_name(context))
    return None if token is None else await run_in_threadpool(context.persons.session, token)


def signed_in(role: str) -> Any:
    """A dependency that gives the `Session` of a person with this role."""

    async def session(found: Session | None = Depends(session_of)) -> Session:
        if found is None:
            raise NeedsSignIn
        if not found.person.may(role):
            raise PageError(403, f"This page is for people with the role {role}.")
        return found

    return Depends(session)


def same_origin(request: Request) -> None:
    """Refuse a form that another site sent.

    Raises:
        PageError: it did.
    """
    # Every browser of today says it; the origin is for the others.
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or urllib.parse.urlsplit(origin).netloc == request.headers.get("host")
    if not ours:
        raise PageError(403, "This form was sent from another site.")


async def form_of(request: Request, session: Session) -> Mapping[str, str]:
    """The fields of a form that this person was shown.

    Raises:
        PageError: it is forged.
    """
    same_origin(request)
    form = await request.form(max_files=0, max_fields=30)
    given = str(form.get("csrf", "")) or request.headers.get("x-csrf", "")
    if not _equal(given, session.csrf):
        raise PageError(403, "This form is out of date. Load the page again.")
    return {name: str(value) for name, value in form.items()}


async def upload_of(request: Request, session: Session, context: Context, name: str) -> tuple[Mapping[str, str], bytes]:
    """The fields of a form with one file that this person was shown, and the file's bytes; b"" where none was chosen.

    Raises:
        PageError: it is forged, or the file is too large.
    """
    same_origin(request)
    try:
        async with request.form(max_files=1, max_fields=5) as form:
            if not _equal(str(form.get("csrf", "")), session.csrf):
                raise PageError(403, "This form is out of date. Load the page again.")
            file, data = form.get(name), b""
            if isinstance(file, UploadFile):
                data = await read_upload(file, context.settings.max_upload_bytes, name)
            return {field: value for field, value in form.items() if isinstance(value, str)}, data
    except ApiError as error:
        raise PageError(error.status, str(error.body["message"]).capitalize() + ".") from error


def said(error: OptionError) -> PageError:
    """What a person did wrong, as a page."""
    return PageError(400, f"{error.message[:1].upper()}{error.message[1:]}. {error.hint[:1].upper()}{error.hint[1:]}.")


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {"time": _time, "ago": _ago, "percent": lambda share: f"{share:.1%}"}
    environment.filters |= filters
    return environment


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(at: float) -> str:
    seconds = max(0, datetime.now(UTC).timestamp() - at)
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {name}{'s' if number > 1 else ''} ago"
    return "just now"
