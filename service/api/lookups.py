"""Surfaces of others' protocols that the settings switch on: manifest resolution, and a time-stamp authority."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from guardrails import home as homes
from guardrails.audit.matching import Matcher
from guardrails.provenance.repository import Repository
from guardrails.provenance.timestamps import TimeStampAuthority
from guardrails.watermark.keys import Keyring
from service import resolution, timestamps
from service.api.auth import admit, optional_caller, public_limit
from service.api.context import Caller, Context, context_of
from service.api.errors import ApiError, documented, respond


def install(app: FastAPI, context: Context) -> None:
    """Add what the settings ask for.

    Raises:
        KeyMaterialError: there is no authority to answer time-stamp requests with.
    """
    if context.settings.resolution != "off":
        matcher = _matcher(context)
        routes = resolution.router(matcher, dependencies=[Depends(_may_resolve)])
        app.include_router(routes, prefix="/v1", responses=_ANSWERS)
    if context.settings.time_stamps:
        authority = TimeStampAuthority.open(homes.keys_folder(context.settings.home))
        app.include_router(timestamps.router(authority, behind=lambda inner: _Limited(inner, context)))


# The specification gives errors no shape; what it wants as 400 is told by the router itself.
_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: answer if status in (401, 403, 429) else {"description": answer["description"]}
    for status, answer in documented(404, 414, 415).items()
}


def _matcher(context: Context) -> Matcher:
    """Over the repository and the mark's key, which are made here when no worker has been before."""
    home = context.settings.home
    Keyring.load_or_create(homes.keys_folder(home))
    Repository(homes.manifests_folder(home)).close()
    return Matcher.open(home)


async def _may_resolve(
    request: Request, caller: Caller | None = Depends(optional_caller), context: Context = Depends(context_of)
) -> None:
    await admit(request, context, caller, "verify", public=context.settings.resolution == "public")


class _Limited:
    """Holds whoever asks to the public limit."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            await public_limit(request, self._context)
        except ApiError as error:
            await respond(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)
