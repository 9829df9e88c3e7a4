"""The time-stamp authority as a route: POST /tsa (RFC 3161, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.routing import Route
from starlette.types import ASGIApp

from guardrails.provenance.timestamps import TimeStampAuthority
from guardrails.provenance.timestamps.server import TimeStampApplication


def router(authority: TimeStampAuthority, *, behind: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> APIRouter:
    """One route that speaks the protocol of RFC 3161; it is no JSON interface and stands in no OpenAPI document.

    Args:
        behind: wraps the application, for example to limit who asks how often.
    """
    return APIRouter(routes=[Route("/tsa", behind(TimeStampApplication(authority)))])
