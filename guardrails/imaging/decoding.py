"""The guarded door: untrusted bytes to RGB pixels, or one clear error.

Every byte from outside passes here and nowhere else. The canonical decode, in this order:

1. The byte limit, then the format by its magic bytes; only the formats of `ImageFormat` are tried.
2. Width, height and frame count from the header, checked before any pixel is decompressed.
3. Pixels are decompressed; a file that ends early is refused.
4. EXIF orientation is applied.
5. 16-bit grey becomes 8-bit: v / 257, rounded.
6. An embedded ICC profile converts the colours to sRGB; CMYK without one is converted by the plain formula.
7. Palettes and transparency are resolved: composed on white, with the alpha plane kept beside the pixels.

`CANONICAL_DECODE` names this procedure; whatever stores values computed from pixels stores the name with them.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, MpoImagePlugin, UnidentifiedImageError

from guardrails.errors import ImageError, ImageTooLarge
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat
from guardrails.imaging.heif import enable_heif, looks_like_heif

CANONICAL_DECODE = "canonical-decode/1"

# What Pillow's parsers raise on damaged files, besides its own OSError; found by mutating files of every format.
_DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    RuntimeError,
    MemoryError,
)

_GREY16_MODES = ("I;16", "I;16L", "I;16B", "I;16N")

# TIFF 6.0, tag 274: what undoes each orientation. `ImageOps.exif_transpose` also rewrites the EXIF block,
# which fails on odd tags of healthy photographs.
_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_warning_filters = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused before pixels are touched.

    Attributes:
        max_bytes: of the file.
        max_pixels: width x height.
        min_side: of the shorter side, in pixels.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 64_000_000
    min_side: int = 1


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One still picture.

    Attributes:
        pixels: RGB, uint8, height x width x 3, C-contiguous; transparent parts are composed on white.
        format: by magic bytes, never by file name.
        alpha: uint8, height x width, 255 = opaque; None when the file has no transparency.
        beneath: the colours without regard to `alpha`, as software sees them that drops it: a picture can be hidden
            there. None when the file has no transparency.
        frames: 1, or the number of pictures in a camera's multi-picture JPEG, of which the first one is read.
        mode: Pillow's name of the stored samples, for example "P" or "CMYK".
    """

    pixels: Pixels
    format: ImageFormat
    alpha: NDArray[np.uint8] | None
    beneath: Pixels | None
    frames: int
    mode: str


def read_image_bytes(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of an image file, never more than the limit.

    Raises:
        ImageError: missing, a folder, not a regular file, or not readable.
        ImageTooLarge: over `limits.max_bytes`.
    """
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise ImageError(f"{path} is a folder", hint="name one image file, or use the batch command for folders")
        if not stat.S_ISREG(kind):
            raise ImageError(f"{path} is not a regular file", hint="name an image file")
        with open(path, "rb") as file:
            data = file.read(limits.max_bytes + 1)
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist", hint="check the file name") from None
    except OSError as error:
        raise ImageError(
            f"cannot read {path}: {error.strerror or error}", hint="check the file's permissions"
        ) from error
    _check_byte_count(len(data), limits)
    return data


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """Decode one still picture into the pixel contract.

    Raises:
        ImageError: no known image format, damaged, cut short, animated, or with samples that have no defined look.
        ImageTooLarge: over the byte or pixel limit.
    """
    image = open_guarded(data, limits)
    with image, _faults_as_image_errors("damaged or incomplete"):
        mode, file_format = image.mode, _format_of(image)
        frames = _refuse_animation(image)
        image.load()
        upright = _upright(image)
        rgb, alpha = _to_rgb_and_alpha(upright)
    pixels = rgb if alpha is None else _on_white(rgb, alpha)
    return Decoded(
        pixels=np.ascontiguousarray(pixels, dtype=np.uint8),
        format=file_format,
        alpha=None if alpha is None else np.ascontiguousarray(alpha, dtype=np.uint8),
        beneath=None if alpha is None else np.ascontiguousarray(rgb, dtype=np.uint8),
        frames=frames,
        mode=mode,
    )


def open_guarded(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Parse the header only: format allow-list and size limits, no pixels (steps 1 and 2 above).

    Raises:
        ImageError: empty, no known image format, or a damaged header.
        ImageTooLarge: over the byte or pixel limit.
    """
    _check_byte_count(len(data), limits)
    if not data:
        raise ImageError("the image is empty (0 bytes)", hint="check that the upload or download was complete")
    try:
        with _faults_as_image_errors("a damaged header"), _without_warnings():
            image = Image.open(io.BytesIO(data), formats=_formats_to_try(data))
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("far too many", limits) from error
    width, height = image.size
    if width * height > limits.max_pixels:
        image.close()
        raise _too_many_pixels(f"{width}x{height}", limits)
    if min(width, height) < limits.min_side:
        image.close()
        raise ImageError(
            f"the image has {width}x{height} pixels, too small to be judged",
            hint=f"both sides need at least {limits.min_side} pixels",
        )
    return image


def _formats_to_try(data: bytes) -> list[str]:
    """Names for Pillow. HEIC is loaded only for files that look like it, because it costs 0.1 s."""
    with_heif = looks_like_heif(data) and enable_heif()
    return [format.value for format in ImageFormat if format is not ImageFormat.HEIC or with_heif]


def _check_byte_count(count: int, limits: Limits) -> None:
    if count > limits.max_bytes:
        raise ImageTooLarge(
            f"the image file is over the limit of {limits.max_bytes:,} bytes",
            hint="send a smaller file or raise the limit",
        )


def _too_many_pixels(what: str, limits: Limits) -> ImageTooLarge:
    return ImageTooLarge(
        f"the image has {what} pixels, over the limit of {limits.max_pixels:,}", hint="scale it down or raise the limit"
    )


@contextlib.contextmanager
def _faults_as_image_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            "not an image in a known format", hint=f"known are {', '.join(format.name for format in ImageFormat)}"
        ) from error
    except _DECODER_FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the image file is {what}: {reason}", hint="export or download the file again") from error


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns about large headers and odd tags; here the limits and errors speak.

    Warning filters belong to the whole process, hence the lock; only header parsing runs under it.
    """
    with _warning_filters, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _format_of(image: Image.Image) -> ImageFormat:
    # A multi-picture file of a camera or telephone is a JPEG with more JPEGs (previews, gain maps) behind it.
    return ImageFormat.JPEG if isinstance(image, MpoImagePlugin.MpoImageFile) else ImageFormat(str(image.format))


def _refuse_animation(image: Image.Image) -> int:
    """The number of frames, when the file is one still picture."""
    if isinstance(image, MpoImagePlugin.MpoImageFile):
        return int(image.n_frames)
    if getattr(image, "is_animated", False):
        # Only some headers state a count; walking the frames of a hostile GIF or TIFF would take minutes.
        stated = image.format in (ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.AVIF)
        # Judging the first frame alone would let the others pass unseen.
        raise ImageError(
            f"the image has {getattr(image, 'n_frames', 2) if stated else 'several'} frames",
            hint="give one still picture, for example a PNG of one frame",
        )
    return 1


def _upright(image: Image.Image) -> Image.Image:
    with _without_warnings():
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    undo = _UNDO_ORIENTATION.get(orientation)
    return image if undo is None else image.transpose(undo)


def _to_rgb_and_alpha(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Colours in sRGB (height x width x 3) and alpha (height x width), both uint8."""
    profile = image.info.get("icc_profile")
    if image.mode in _GREY16_MODES:
        grey, alpha = _from_grey16(image)
        return _colours(Image.fromarray(grey), profile), alpha
    if image.mode in ("I", "F"):
        raise ImageError(
            f"samples of mode {image.mode!r} (32 bits) have no defined brightness", hint="export as 8-bit or 16-bit"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return _colours(rgba.convert("RGB"), profile), np.asarray(rgba.getchannel("A"))
    if image.mode in ("P", "1"):
        image = image.convert("RGB")
    return _colours(image, profile), None


def _from_grey16(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    samples = np.asarray(image).astype(np.uint32)
    grey = ((samples + 128) // 257).astype(np.uint8)
    key = image.info.get("transparency")
    alpha = None if key is None else np.where(samples == key, 0, 255).astype(np.uint8)
    return grey, alpha


def _colours(image: Image.Image, profile: bytes | None) -> NDArray[np.uint8]:
    converted = None if profile is None else _through_profile(image, profile)
    return np.asarray(converted if converted is not None else image.convert("RGB"))


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB, or None when the profile is broken or for other samples: viewers ignore it then, too."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        expected = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}.get(source.profile.xcolor_space.strip())
        if expected == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if image.mode != expected:
            return None
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    layer = Image.fromarray(np.dstack([rgb, alpha]))
    white = Image.new("RGBA", layer.size, "white")
    return np.asarray(Image.alpha_composite(white, layer).convert("RGB"))
