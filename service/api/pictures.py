"""Pictures that come in: `data:` URLs and uploads. No address is ever fetched."""

from __future__ import annotations

import base64
import binascii
import re

from starlette.datastructures import UploadFile

from guardrails.errors import ImageError
from guardrails.imaging.decoding import Decoded, decode
from service.api.errors import NO_RETRY, ApiError

_DATA = re.compile(r"data:image/(?:png|jpeg|jpg|webp|gif);base64,", re.ASCII)


def from_data_url(url: str, param: str) -> bytes:
    """The bytes of a `data:` URL.

    Raises:
        ApiError: another kind of URL, or no base64.
    """
    match = _DATA.match(url[:64])
    if match is None:
        message = "only data: URLs with a picture (base64) are accepted; nothing is fetched"
        raise ApiError(400, "url_not_supported", message, param=param, headers=NO_RETRY)
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise unsupported("the data: URL holds no base64", param) from error


def decoded(data: bytes, param: str) -> Decoded:
    """The picture in some bytes.

    Raises:
        ApiError: there is none that can be read.
    """
    try:
        return decode(data)
    except ImageError as error:
        raise unreadable(error, param) from error


def unreadable(error: ImageError, param: str) -> ApiError:
    """The error of a file that is no picture, or too large a one."""
    status, code = (413, "file_too_large") if error.http_status == 413 else (400, "unsupported_image")
    return ApiError(status, code, error.message, param=param, headers=NO_RETRY)


def unsupported(message: str, param: str) -> ApiError:
    """The error of a picture that cannot be used."""
    return ApiError(400, "unsupported_image", message, param=param, headers=NO_RETRY)


async def read_upload(upload: UploadFile, limit: int, param: str) -> bytes:
    """The bytes of an uploaded file; its name is never used."""
    data = await upload.read(limit + 1)
    if len(data) > limit:
        raise ApiError(413, "file_too_large", f"a file has at most {limit} bytes", param=param, headers=NO_RETRY)
    return data
