"""Who calls: the API key, its scopes, the tenant's standing and its requests per minute."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from service.access.keys import SCOPES
from service.access.limits import Standing
from service.access.tenants import LOCAL, Tenant
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError

_bearer = HTTPBearer(auto_error=False, description="An API key, `sk-...`.")


def needs(*scopes: str) -> Any:
    """A dependency that gives the `Caller`, when it may do what one of `scopes` names."""
    assert set(scopes) <= set(SCOPES)

    async def caller(
        request: Request,
        context: Context = Depends(context_of),
        given: HTTPAuthorizationCredentials | None = Security(_bearer),
    ) -> Caller:
        return await authorise(request, context, given, *scopes)

    return Depends(caller)


async def authorise(
    request: Request, context: Context, given: HTTPAuthorizationCredentials | None, *scopes: str
) -> Caller:
    """The `Caller`, when it may do what one of `scopes` names, within its requests per minute.

    Raises:
        ApiError: 401, 403 or 429.
    """
    found = await _identify(context, None if given is None else given.credentials)
    request.state.tenant, request.state.key = found.tenant.id, found.key
    await _hold(request, context, found, *scopes)
    return found


async def bearer_of(request: Request) -> HTTPAuthorizationCredentials | None:
    """The key that a request shows."""
    return await _bearer(request)


async def _hold(request: Request, context: Context, found: Caller, *scopes: str) -> None:
    if not found.scopes.intersection(scopes):
        raise lacks(*scopes)
    refuse_suspended(found.tenant)
    if found.tenant.requests_per_minute:
        standing = await context.limiter.admit(f"tenant:{found.tenant.id}", found.tenant.requests_per_minute)
        refuse_over(standing)
        request.state.limits = standing.headers


def refuse_suspended(tenant: Tenant) -> None:
    """Raises ApiError 403 when the tenant may ask nothing for now."""
    if tenant.suspended:
        raise ApiError(403, "tenant_suspended", "this tenant is suspended", headers=NO_RETRY)


def lacks(*scopes: str) -> ApiError:
    """The error of a key that may not do this."""
    return ApiError(403, "scope_missing", f"this key lacks the scope {' or '.join(scopes)}", headers=NO_RETRY)


def refuse_over(standing: Standing) -> None:
    """Raises ApiError 429 when a limit is reached."""
    if standing.retry > 0:
        headers = {**standing.headers, "retry-after": str(int(standing.retry) + 1)}
        headers["retry-after-ms"] = str(int(standing.retry * 1000) + 1)
        raise ApiError(429, "rate_limit_exceeded", "too many requests in this minute", headers=headers)


async def public_limit(request: Request, context: Context) -> None:
    """Hold an address that shows no key to the public limit."""
    address = request.client.host if request.client is not None else ""
    refuse_over(await context.limiter.admit(f"address:{address}", context.settings.public_per_minute))


async def admit(request: Request, context: Context, caller: Caller | None, scope: str, *, public: bool) -> None:
    """Let in who has a key with a scope, as `authorise` does, and who shows none, within the public limit, where the
    surface is public.

    Raises:
        ApiError: 401, 403 or 429.
    """
    if caller is not None:
        await _hold(request, context, caller, scope)
    elif not public:
        raise ApiError(401, "invalid_api_key", "this service answers with a key only", headers=NO_RETRY)
    else:
        await public_limit(request, context)


async def optional_caller(
    request: Request,
    context: Context = Depends(context_of),
    given: HTTPAuthorizationCredentials | None = Security(_bearer),
) -> Caller | None:
    """The `Caller` where a key is shown; None where the surface is public and none is."""
    if given is None and context.settings.auth == "keys":
        return None
    found = await _identify(context, None if given is None else given.credentials)
    request.state.tenant, request.state.key = found.tenant.id, found.key
    return found


async def _identify(context: Context, written: str | None) -> Caller:
    if context.settings.auth == "none":
        # An administrator may have given it settings, such as a jurisdiction.
        local = await run_in_threadpool(context.tenants.get, LOCAL.id)
        return Caller(tenant=local, key="none", scopes=frozenset(SCOPES))
    known = None if written is None else context.known(written)
    if known is None and written is not None:
        known = await run_in_threadpool(context.caller, written)
    if known is None:
        message = "no API key was given" if written is None else "this API key is unknown, expired or revoked"
        headers = {**NO_RETRY, "www-authenticate": "Bearer"}
        raise ApiError(401, "invalid_api_key", message, headers=headers)
    key, tenant = known
    return Caller(tenant=tenant, key=key.id, scopes=key.scopes)
