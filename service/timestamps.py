"""The time-stamp authority as a route: POST /tsa (RFC 3161, section 3.4)."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.routing import Route

from guardrails.provenance.timestamps import TimeStampAuthority
from guardrails.provenance.timestamps.server import TimeStampApplication


def router(authority: TimeStampAuthority) -> APIRouter:
    """One route that speaks the protocol of RFC 3161; it is no JSON interface and stands in no OpenAPI document."""
    return APIRouter(routes=[Route("/tsa", TimeStampApplication(authority))])
