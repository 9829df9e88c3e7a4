"""Pixels to file bytes in every format that can carry a manifest, with the XMP packet inside."""

from __future__ import annotations

import enum
import io
import zlib
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from guardrails.errors import ImageError, OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.heif import enable_heif

DEFAULT_QUALITY = 95

# PNG specification third edition, section 11.3.3.1: the keyword under which readers look for XMP.
_PNG_XMP_KEYWORD = "XML:com.adobe.xmp"
# XMP specification part 3, section 1.1.4: the TIFF tag that holds the packet.
_TIFF_XMP_TAG = 700
# The same, section 1.1.2: an application extension; its last 257 bytes lead any reader of sub-blocks to the end.
_GIF_XMP_HEADER = b"\x21\xff\x0bXMP DataXMP"
_GIF_XMP_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


class ImageFormat(enum.StrEnum):
    """A file format by the name Pillow gives it; only the `writable` ones can be made."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    AVIF = "AVIF"
    HEIC = "HEIF"
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
            return cls({"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff", "heic": "heif"}.get(name, name).upper())
        except ValueError:
            raise OptionError(
                f"{str(text)!r} names no image format",
                hint=f"use one of {', '.join(f.suffix for f in cls if f.writable)}",
            ) from None

    @property
    def mime(self) -> str:
        """The media type, for example "image/png"."""
        return f"image/{self.name.lower()}"

    @property
    def suffix(self) -> str:
        """The usual file name suffix with its dot."""
        return {"JPEG": ".jpg", "TIFF": ".tif"}.get(self.name, f".{self.name.lower()}")

    @property
    def writable(self) -> bool:
        """True for the formats that `encode` makes; HEIC needs the extra `heic`."""
        return self is not ImageFormat.BMP and (self is not ImageFormat.HEIC or enable_heif())


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
        format: a `writable` one. PNG and TIFF are lossless; GIF keeps 256 colours.
        quality: 1..100, for JPEG, WebP, AVIF and HEIC; the others ignore it.
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
    return _gif89(buffer.getvalue(), xmp) if format is ImageFormat.GIF else buffer.getvalue()


def _gif89(data: bytes, xmp: bytes | None) -> bytes:
    """A GIF of version 89a, the first with extensions (a manifest is one); Pillow writes 87a and no XMP."""
    palette_bytes = 3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0
    screen = data[6 : 13 + palette_bytes]
    extension = b"" if xmp is None else _GIF_XMP_HEADER + xmp + _GIF_XMP_TRAILER
    return b"GIF89a" + screen + extension + data[6 + len(screen) :]


def _save_options(format: ImageFormat, quality: int, xmp: bytes | None) -> dict[str, Any]:
    packet: dict[str, Any] = {} if xmp is None else {"xmp": xmp}
    match format:
        case ImageFormat.PNG:
            chunks = PngInfo()
            if xmp is not None:
                chunks.add_itxt(_PNG_XMP_KEYWORD, xmp)
            # Of photographs, which zlib's search for longer repeats makes no smaller: half the time of level 4, a third
            # of Pillow's default, for files 4 % larger.
            return {"pnginfo": chunks, "compress_type": zlib.Z_RLE}
        case ImageFormat.JPEG:
            # Halved colour planes would eat the part of the watermark that lives in chroma, hence 4:4:4.
            return {"quality": quality, "subsampling": "4:4:4", **packet}
        case ImageFormat.WEBP:
            # `exact` keeps the colours of transparent pixels.
            return {"quality": quality, "exact": True, **packet}
        case ImageFormat.AVIF:
            return {"quality": quality, "subsampling": "4:4:4", **packet}
        case ImageFormat.HEIC if enable_heif():
            return {"quality": quality, "chroma": 444, **packet}
        case ImageFormat.TIFF:
            tags: dict[int, bytes] = {} if xmp is None else {_TIFF_XMP_TAG: xmp}
            return {"compression": "tiff_adobe_deflate", "tiffinfo": tags}
        case ImageFormat.GIF:
            return {}
    raise OptionError(
        f"{format.name} can be read but not written",
        hint=f"write one of {', '.join(f.suffix for f in ImageFormat if f.writable)}",
    )
