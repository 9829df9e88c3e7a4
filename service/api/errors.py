"""One envelope for every error, in OpenAI's shape; RFC 9457 beside it where a client accepts problem+json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from guardrails.errors import GuardrailsError, InputError

PROBLEM = "application/problem+json"
NO_RETRY = {"x-should-retry": "false"}

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    406: "invalid_request_error",
    409: "conflict_error",
    410: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    501: "invalid_request_error",
}
_CODES = {
    400: "invalid_value",
    401: "invalid_api_key",
    403: "scope_missing",
    404: "not_found",
    405: "method_not_allowed",
    413: "file_too_large",
    415: "unsupported_media_type",
}


class ErrorBody(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="allow")

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Every error of this service."""

    model_config = ConfigDict(extra="allow")

    error: ErrorBody = Field(description="With `guardrails` and `moderation_details` where a rule spoke.")


class ApiError(Exception):
    """An error as a client sees it.

    Args:
        status: of HTTP.
        code: stable, for programs.
        param: the field that is wrong, dotted.
        extra: further members of the error object.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        type: str = "",
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "message": message,
            "type": type or _TYPES.get(status, "server_error"),
            "param": param,
            "code": code,
            **(extra or {}),
        }


def from_guardrails(error: GuardrailsError, param: str | None = None) -> ApiError:
    """One of our own errors; what the server failed at is not told in detail."""
    message = error.message
    if error.hint and isinstance(error, InputError):
        message = f"{message}; {error.hint}"
    headers = {"retry-after": "5"} if error.http_status in (429, 503) else NO_RETRY
    return ApiError(error.http_status, error.code, message, param=param, headers=headers)


def from_bug() -> ApiError:
    """What a client is told of an error that nobody foresaw."""
    return ApiError(500, "error", "the service failed; ask its operator by the id of this request", headers=NO_RETRY)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for the OpenAPI document; 400, 401, 403, 413, 429 and 5xx belong to all."""
    common = {400, 401, 403, 413, 429, 500, 503, 507}
    content: dict[str, Any] = {"application/json": {}, PROBLEM: {}}
    return {
        status: {"model": ErrorEnvelope, "description": _TYPES.get(status, "server_error"), "content": content}
        for status in sorted(common | set(statuses))
    }


def respond(request: Request, error: ApiError) -> Response:
    """The response of an error."""
    content: dict[str, Any] = {"error": error.body}
    media = "application/json"
    if PROBLEM in request.headers.get("accept", ""):
        media = PROBLEM
        content |= {
            "type": f"urn:guardrails:error:{error.body['code']}",
            "title": str(error.body["type"]).replace("_", " "),
            "status": error.status,
            "detail": error.body["message"],
            "instance": request.url.path,
        }
    # ASCII alone, because a name that a client made up may hold what UTF-8 cannot.
    return Response(json.dumps(content), error.status, error.headers, media_type=media)


def install(app: FastAPI) -> None:
    """Answer every kind of error in the one shape."""

    @app.exception_handler(ApiError)
    async def of_api(request: Request, error: ApiError) -> Response:
        return respond(request, error)

    @app.exception_handler(GuardrailsError)
    async def of_guardrails(request: Request, error: GuardrailsError) -> Response:
        return respond(request, from_guardrails(error))

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        return respond(request, from_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "error")
        return respond(request, ApiError(error.status_code, code, str(error.detail), headers=error.headers))


def from_validation(errors: Sequence[Any]) -> ApiError:
    """The first thing that is wrong, with its place; the value itself is not repeated, it may be a prompt."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    return ApiError(400, "invalid_value", f"{place or 'body'}: {first['msg']}", param=place or None)
