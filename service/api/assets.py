"""`GET /v1/assets/{name}`: a released picture, for whoever holds a signed address that has not expired."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from guardrails.imaging.encoding import ImageFormat
from service.api.answers import read_asset
from service.api.context import Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented

router = APIRouter(prefix="/v1", tags=["images"])


@router.get(
    "/assets/{name}",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, **documented(404, 410)},
)
def get_asset(
    name: Annotated[str, Path(pattern=r"^[0-9a-f-]{36}\.(png|jpg|webp)$")],
    expires: Annotated[str, Query(pattern=r"^[0-9]{1,12}$")] = "0",
    signature: Annotated[str, Query(max_length=64)] = "",
    context: Context = Depends(context_of),
) -> Response:
    """Fetch a picture by the address that a response named."""
    if not context.secrets.fits(signature, "asset", name, expires):
        raise ApiError(403, "signature_invalid", "the address is not signed by this service", headers=NO_RETRY)
    if int(expires) < time.time():
        raise ApiError(410, "expired", "the address has expired", headers=NO_RETRY)
    media = ImageFormat.parse(name).mime
    headers = {"cache-control": "private, max-age=300", "content-disposition": f'inline; filename="{name}"'}
    return Response(read_asset(context, name), media_type=media, headers=headers)
