"""Routes that find their arguments by themselves.

FastAPI solves the arguments of a function anew for every request, which costs as much processor time as moderating a
short text. The two surfaces that are asked most are documented by their functions as all others are, and called
directly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from service.api.errors import NO_RETRY, ApiError, from_validation

Handler = Callable[[Request], Awaitable[Response]]
_Body = TypeVar("_Body", bound=BaseModel)


def direct_router(handler: Handler, **options: Any) -> APIRouter:
    """A router whose functions stand in the OpenAPI document, and whose requests go to `handler`."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            async def handle(request: Request) -> Response:
                return await handler(request)

            return handle

    return APIRouter(route_class=Route, **options)


async def json_body(request: Request, kind: type[_Body]) -> _Body:
    """The body of a request, checked.

    Raises:
        ApiError: it is no JSON, or not of this kind.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise ApiError(400, "invalid_value", "send the body as application/json", headers=NO_RETRY)
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise from_validation(error.errors()) from error
