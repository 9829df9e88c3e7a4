"""The C2PA Soft Binding Resolution API (OpenAPI version 1.1.0 of the C2PA Soft Binding API 2.2) over the repository.

Left out is the optional `/matches/byReference`: no address is fetched because a request named it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from guardrails.audit.matching import Match, Matcher
from guardrails.errors import GuardrailsError, OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import DEFAULT_LIMITS, decode
from guardrails.imaging.iscc import ALGORITHM as ISCC
from guardrails.provenance.manifest import WATERMARK

MANIFEST_TYPE = "application/c2pa"
MAX_RESULTS = 100
# Longer values than any algorithm here has; more does not fit an address everywhere.
MAX_QUERY_VALUE = 1024
MAX_BODY_VALUE = 64 * 1024

_MANIFEST_ID = re.compile(r"[\w:.-]{1,256}")
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]

MaxResults = Annotated[int, Query(alias="maxResults", ge=1, description="At most so many; 100 are never exceeded.")]


class SoftBindingQuery(BaseModel):
    """A soft binding to look for."""

    alg: str = Field(max_length=256, description="Name in the list of soft binding algorithms.")
    value: str = Field(max_length=MAX_BODY_VALUE, description="Base64.")


class FoundManifest(BaseModel):
    """One manifest, to be had at /manifests/{manifestId} of this service."""

    manifestId: str
    similarityScore: int = Field(ge=0, le=100, description="100 for a watermark; else by equal fingerprint bits.")


class SoftBindingQueryResult(BaseModel):
    """What was found, the best first."""

    matches: list[FoundManifest]


class Algorithm(BaseModel):
    """A soft binding algorithm by its name."""

    alg: str


class SoftBindingAlgorithms(BaseModel):
    """What can be looked for."""

    watermarks: list[Algorithm]
    fingerprints: list[Algorithm]


def router(matcher: Matcher, *, dependencies: Sequence[Depends] = ()) -> APIRouter:
    """The routes, to be included under a prefix such as "/v1".

    Args:
        matcher: looks manifests up.
        dependencies: run before every query, to check the scope `fetch:manifests`; without them anyone may ask.
    """
    routes = APIRouter(tags=["soft binding resolution"], route_class=_Route)
    guarded: dict[str, Any] = {"dependencies": list(dependencies)}

    @routes.get("/matches/byBinding", **guarded)
    def query_by_binding(alg: str, value: str, max_results: MaxResults = 10) -> SoftBindingQueryResult:
        """Manifests that a soft binding names."""
        if len(value) > MAX_QUERY_VALUE:
            raise HTTPException(414, "the value is too long for an address, send it with POST")
        return _result(matcher.by_binding(alg, _decoded(value), limit=min(max_results, MAX_RESULTS)))

    @routes.post("/matches/byBinding", **guarded)
    def query_by_large_binding(query: SoftBindingQuery, max_results: MaxResults = 10) -> SoftBindingQueryResult:
        """The same for values that are too long for an address."""
        return _result(matcher.by_binding(query.alg, _decoded(query.value), limit=min(max_results, MAX_RESULTS)))

    @routes.post("/matches/byContent", openapi_extra=_PICTURE_BODY, **guarded)
    async def query_by_content(
        request: Request,
        alg: str = "",
        max_results: MaxResults = 10,
        hint_alg: Annotated[str, Query(alias="hintAlg")] = "",
        hint_value: Annotated[str, Query(alias="hintValue", max_length=MAX_QUERY_VALUE)] = "",
    ) -> SoftBindingQueryResult:
        """Manifests that the watermark of a picture names, and those of pictures that look like it."""
        if not request.headers.get("content-type", "").lower().startswith("image/"):
            raise HTTPException(415, "only images can be looked up here")
        if bool(hint_alg) != bool(hint_value):
            raise OptionError("hintAlg and hintValue belong together", hint="give both or neither")
        data = await _body(request, DEFAULT_LIMITS.max_bytes)
        hint = (hint_alg, _decoded(hint_value)) if hint_alg else None

        def look_up() -> list[Match]:
            pixels: Pixels = decode(data).pixels
            return matcher.by_content(pixels, limit=min(max_results, MAX_RESULTS), algorithm=alg, hint=hint)

        return _result(await run_in_threadpool(look_up))

    @routes.get("/manifests/{manifest_id}", responses={200: {"content": {MANIFEST_TYPE: {}}}}, **guarded)
    def get_manifest_by_id(
        manifest_id: str, active_alone: Annotated[bool, Query(alias="returnActiveManifest")] = False
    ) -> Response:
        """A kept manifest store, or its active manifest alone."""
        if not _MANIFEST_ID.fullmatch(manifest_id):
            raise HTTPException(400, "this is no manifest identifier")
        entry = matcher.repository.by_manifest(manifest_id)
        if entry is None:
            raise HTTPException(404, "no manifest of this name is kept here")
        return Response(entry.active_store if active_alone else entry.store, media_type=MANIFEST_TYPE)

    @routes.get("/services/supportedAlgorithms")
    def get_supported_bindings() -> SoftBindingAlgorithms:
        """The soft bindings that can be looked for."""
        return SoftBindingAlgorithms(watermarks=[Algorithm(alg=WATERMARK)], fingerprints=[Algorithm(alg=ISCC)])

    return routes


_PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class _Route(APIRoute):
    """Says "400" where FastAPI says "422", as the specification wants, and answers our own errors."""

    def get_route_handler(self) -> _Handler:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                return JSONResponse({"detail": f"{where}: {first['msg']}"}, 400)
            except GuardrailsError as error:
                return JSONResponse({"detail": error.message, **error.to_json()}, error.http_status)

        return answer


def _result(matches: Sequence[Match]) -> SoftBindingQueryResult:
    return SoftBindingQueryResult(
        matches=[FoundManifest(manifestId=match.manifest_id, similarityScore=match.score) for match in matches]
    )


def _decoded(value: str) -> bytes:
    """Base64, also with the alphabet for addresses, without padding, or with the blanks that "+" became there."""
    text = value.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise OptionError(f"the value is not base64: {error}", hint="encode the binding's value") from error


async def _body(request: Request, limit: int) -> bytes:
    """The body, never more than the limit in memory."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise HTTPException(413, f"a picture has at most {limit} bytes")
    return bytes(body)
