"""What happens around every request: an id, a limit on its body, headers that protect, one line of log, metrics."""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import tracing
from service.api.errors import from_bug, respond
from service.observation import HTTP_REQUESTS, HTTP_SECONDS

_log = logging.getLogger("service.access")

_UPLOADS = (
    "/v1/files",
    "/v1/images/edits",
    "/v1/moderations",
    "/v1/content_provenance_checks",
    "/v1/matches/byContent",
    "/verify",
    "/audit",
    "/explore",
)
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Envelope:
    """The outermost layer of the application.

    Args:
        body_limit, upload_limit: bytes of a body without, and with, pictures.
        strict_transport: tell browsers to come back by HTTPS only.
    """

    def __init__(self, app: ASGIApp, *, body_limit: int, upload_limit: int, strict_transport: bool) -> None:
        self._app = app
        self._body_limit = body_limit
        self._upload_limit = upload_limit
        self._headers = [*_SECURITY]
        if strict_transport:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        with tracing.span(scope["method"], parent=parent, kind="SERVER"):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, begun = time.perf_counter(), 500, False
        limit = self._upload_limit if scope["path"].startswith(_UPLOADS) else self._body_limit

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                names = {name for name, _ in message["headers"]}
                extra = [(name, value) for name, value in self._headers if name not in names]
                limits = scope["state"].get("limits", {})
                extra += [
                    (name.encode(), value.encode()) for name, value in limits.items() if name.encode() not in names
                ]
                message["headers"] = [*message["headers"], *extra, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive, limit), answer)
        except Exception as error:
            # A bug. The client learns that there is one and by which id to ask; the log says where.
            _log.getChild("fault").error("%s in %s", type(error).__name__, request_id, exc_info=error)
            if begun:
                raise
            await respond(Request(scope), from_bug())(scope, receive, answer)
        finally:
            _note(scope, status, time.perf_counter() - started, request_id)


def _limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    """Stops a body that is too large while it comes in; it is never held in memory as a whole."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    seen = 0

    async def receive_some() -> Message:
        nonlocal seen
        if declared.isdigit() and int(declared) > limit:
            raise HTTPException(413, f"the body has more than {limit} bytes")
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, f"the body has more than {limit} bytes")
        return message

    return receive_some


def _note(scope: Scope, status: int, seconds: float, request_id: str) -> None:
    """One line: never a query, a body or a header, which may hold a prompt or a key."""
    route: Any = scope.get("route")
    path = getattr(route, "path", "unmatched")
    HTTP_REQUESTS.labels(scope["method"], path, str(status)).inc()
    HTTP_SECONDS.labels(path).observe(seconds)
    tracing.answered(scope["method"], path, status, request_id)
    if _log.isEnabledFor(logging.INFO):
        state = scope.get("state", {})
        line = {
            "request_id": request_id,
            "method": scope["method"],
            "route": path,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "tenant": state.get("tenant", ""),
            "key": state.get("key", ""),
        }
        _log.info(json.dumps(line))
