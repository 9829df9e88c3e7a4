"""The authority behind HTTP (RFC 3161, section 3.4), as an ASGI application that any server or framework can mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from guardrails.provenance.timestamps.authority import MAX_REQUEST_BYTES, TimeStampAuthority
from guardrails.provenance.timestamps.messages import REPLY_TYPE, REQUEST_TYPE

Message = MutableMapping[str, Any]


class TimeStampApplication:
    """Answers POST at every path it is mounted on.

    A request that is no time-stamp request gets a rejection in the protocol's own terms; HTTP errors are for what does
    not even claim to be one: another method (405), type (415) or size (413).

    Args:
        authority: issues the tokens.
    """

    def __init__(self, authority: TimeStampAuthority) -> None:
        self._authority = authority

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this application speaks HTTP, not {scope['type']}")
        status, body = await self._answer(scope, receive)
        kind = REPLY_TYPE if status == 200 else "text/plain; charset=utf-8"
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Message]]
    ) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            return 405, b"send time-stamp requests with POST\n"
        kind = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != REQUEST_TYPE.encode():
            return 415, f"send {REQUEST_TYPE}\n".encode()
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            # Also False when the client has gone.
            more = message.get("more_body", False)
            if len(body) > MAX_REQUEST_BYTES:
                return 413, f"a request has at most {MAX_REQUEST_BYTES} bytes\n".encode()
        return 200, self._authority.answer(body)
