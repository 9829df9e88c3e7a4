"""Pixels to file bytes: PNG (lossless), JPEG and WebP, with the XMP packet inside."""

from __future__ import annotations

import enum
import io
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from guardrails.errors import ImageError, OptionError
from guardrails.imaging import Pixels

DEFAULT_QUALITY = 95

# PNG specification third edition, section 11.3.3.1: the keyword under which readers look for XMP.
_PNG_XMP_KEYWORD = "XML:com.adobe.xmp"


class ImageFormat(enum.StrEnum):
    """A file format by the name Pillow gives it; only the `writable` ones can be made."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    AVIF = "AVIF"
    TIFF = "TIFF"
    GIF = "GIF"
    BMP = "BMP"

    @classmethod
    def parse(cls, text: str | PurePath) -> ImageFormat:
        """The format that a name ("png"), a suffix (".jpg"), a file name ("a/b.webp") or a media type stands for.

        Raises:
            OptionError: none of the known formats.
        """
        name = str(text).lower().removeprefix("image/")
        name = name.rpartition(".")[2]
        try:
            return cls({"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff"}.get(name, name).upper())
        except ValueError:
            raise OptionError(
                f"{str(text)!r} names no image format",
                hint=f"use one of {', '.join(f.suffix for f in cls if f.writable)}",
            ) from None

    @property
    def mime(self) -> str:
        """The media type, for example "image/png"."""
        return f"image/{self.value.lower()}"

    @property
    def suffix(self) -> str:
        """The usual file name suffix with its dot."""
        return {"JPEG": ".jpg", "TIFF": ".tif"}.get(self.value, f".{self.value.lower()}")

    @property
    def writable(self) -> bool:
        """True for the formats that `encode` makes."""
        return self in (ImageFormat.PNG, ImageFormat.JPEG, ImageFormat.WEBP)


def encode(
    pixels: Pixels,
    format: ImageFormat,
    *,
    quality: int = DEFAULT_QUALITY,
    xmp: bytes | None = None,
    alpha: NDArray[np.uint8] | None = None,
) -> bytes:
    """File bytes of a picture; the same input gives the same bytes.

    Args:
        pixels: RGB, uint8, height x width x 3.
        format: PNG, JPEG or WEBP.
        quality: 1..100, for JPEG and WebP; PNG is lossless and ignores it.
        xmp: a packet to carry, see `metadata.ai_generated_xmp`.
        alpha: uint8, height x width, 255 = opaque; `pixels` are then the colours themselves, composed on nothing.

    Raises:
        OptionError: a format that can only be read or has no transparency, or a quality outside 1..100.
        ImageError: the format cannot hold a picture of this size.
        ValueError: the array breaks the pixel contract.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"expected uint8 pixels of shape (height, width, 3), got {pixels.dtype} {pixels.shape}")
    if not 1 <= quality <= 100:
        raise OptionError(f"quality {quality} is outside 1..100", hint=f"leave it out for {DEFAULT_QUALITY}")
    if alpha is not None and format is ImageFormat.JPEG:
        raise OptionError("JPEG has no transparency", hint="write png or webp")
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels if alpha is None else np.dstack([pixels, alpha])))
    try:
        image.save(buffer, format=format.value, **_save_options(format, quality, xmp))
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise ImageError(
            f"cannot write {width}x{height} pixels as {format.value}: {error}", hint="write a PNG instead"
        ) from error
    return buffer.getvalue()


def _save_options(format: ImageFormat, quality: int, xmp: bytes | None) -> dict[str, Any]:
    packet: dict[str, Any] = {} if xmp is None else {"xmp": xmp}
    match format:
        case ImageFormat.PNG:
            chunks = PngInfo()
            if xmp is not None:
                chunks.add_itxt(_PNG_XMP_KEYWORD, xmp)
            # zlib level 4 gives smaller files than Pillow's default 6 on photographs and gradients, three times faster.
            return {"pnginfo": chunks, "compress_level": 4}
        case ImageFormat.JPEG:
            # Halved colour planes would eat the part of the watermark that lives in chroma, hence 4:4:4.
            return {"quality": quality, "subsampling": "4:4:4", **packet}
        case ImageFormat.WEBP:
            # `exact` keeps the colours of transparent pixels.
            return {"quality": quality, "exact": True, **packet}
    raise OptionError(f"{format.value} can be read but not written", hint="write png, jpg or webp")
