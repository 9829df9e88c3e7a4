"""Whether the service lives, whether it can do its work, and what it has done."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from guardrails.errors import GuardrailsError
from service.api.auth import optional_caller
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented
from service.observation import JOBS, REGISTRY, UP
from service.settings import LOOPBACK

router = APIRouter(tags=["operation"])

_LEAST_FREE_BYTES = 64 << 20
# A record is made some seconds before it is staged, and placed at most five after.
_OLDEST_WAITING = timedelta(seconds=30)


@router.get("/healthz", response_model=dict[str, str])
async def healthz() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses={503: {"description": "A part does not answer.", "model": dict[str, Any]}})
def readyz(response: Response, context: Context = Depends(context_of)) -> dict[str, Any]:
    """Requests can be served: database, signer and disk are there, and the server is not about to stop."""
    parts = _parts(context)
    ready = all(parts.values())
    response.status_code = 200 if ready else 503
    return {"status": "ready" if ready else "not ready", "parts": parts}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **documented()})
async def metrics(
    request: Request, caller: Caller | None = Depends(optional_caller), context: Context = Depends(context_of)
) -> Response:
    """For Prometheus: from this machine, or with a key of the scope report."""
    address = request.client.host if request.client is not None else ""
    if address not in LOOPBACK and (caller is None or "report" not in caller.scopes):
        raise ApiError(403, "scope_missing", "this key lacks the scope report", headers=NO_RETRY)
    for name, up in (await run_in_threadpool(_parts, context)).items():
        UP.labels(name).set(up)
    counts = await run_in_threadpool(context.table.counts)
    JOBS.clear()
    for status, count in counts.items():
        JOBS.labels(status).set(count)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _parts(context: Context) -> dict[str, bool]:
    try:
        database = context.database.one("SELECT 1 AS one") is not None
    except GuardrailsError:
        database = False
    free = os.statvfs(context.settings.folder)
    parts = {
        "database": database,
        "signer": context.signer.is_alive(),
        "disk": free.f_bavail * free.f_frsize > _LEAST_FREE_BYTES,
        "accepting": not context.draining,
    }
    return parts | ({"sequencer": _keeps_promises(context)} if context.settings.database else {})


def _keeps_promises(context: Context) -> bool:
    """Whether records get their places in the log; what waits for long is a broken promise."""
    try:
        ledger = context.ledger()
        oldest = "" if ledger is None else ledger.backlog()[1]
    except GuardrailsError:
        return False
    return not oldest or datetime.now(UTC) - datetime.fromisoformat(oldest) < _OLDEST_WAITING
