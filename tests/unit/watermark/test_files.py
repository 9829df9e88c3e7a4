"""Every kind of file that a generator or a user may hand in."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.images import MarkVerdict
from guardrails.errors import ImageError, OptionError, WatermarkError
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat
from guardrails.watermark.files import embed_file, read_file
from guardrails.watermark.hosts import scene
from guardrails.watermark.scheme import PixelMark

MARK_ID = "0123456789abcdef"
PICTURE = Image.fromarray(scene(3, 256))


def saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(PICTURE, "JPEG", quality=95, exif=exif)


def sixteen_bits() -> bytes:
    return saved(Image.fromarray(np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257))


def transparent() -> Image.Image:
    layer = PICTURE.copy()
    layer.putalpha(Image.linear_gradient("L"))
    return layer


@pytest.mark.parametrize(
    "data",
    [
        lambda: saved(PICTURE),
        lambda: saved(PICTURE.convert("L")),
        lambda: saved(PICTURE.quantize(64)),
        sixteen_bits,
        turned,
        lambda: saved(transparent()),
        lambda: saved(PICTURE, "GIF"),
        lambda: saved(PICTURE, "BMP"),
        lambda: saved(PICTURE.convert("CMYK"), "TIFF"),
    ],
    ids=["rgb", "grey", "palette", "16 bit", "exif", "alpha", "gif", "bmp", "cmyk"],
)
def test_a_file_of_any_kind_is_marked_and_read(mark: PixelMark, data: Callable[[], bytes]) -> None:
    source = data()
    marked = embed_file(source, mark, MARK_ID)
    assert marked.earlier_id == ""
    assert marked.format.writable
    reading = read_file(marked.data, mark, "fast")
    assert (reading.verdict, reading.mark_id) == (MarkVerdict.PRESENT, MARK_ID)
    assert decode(marked.data).pixels.shape == decode(source).pixels.shape


@pytest.mark.parametrize("format", [ImageFormat.PNG, ImageFormat.WEBP])
def test_transparency_is_kept_exactly(mark: PixelMark, format: ImageFormat) -> None:
    marked = embed_file(saved(transparent()), mark, MARK_ID, format=format)
    alpha = decode(marked.data).alpha
    assert alpha is not None
    assert np.array_equal(alpha, np.asarray(Image.linear_gradient("L")))


def test_jpeg_has_no_room_for_transparency(mark: PixelMark) -> None:
    with pytest.raises(OptionError):
        embed_file(saved(transparent()), mark, MARK_ID, format=ImageFormat.JPEG)


def test_an_animation_is_refused_by_name(mark: PixelMark) -> None:
    data = saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)])
    for attempt in (lambda: embed_file(data, mark, MARK_ID), lambda: read_file(data, mark, "fast")):
        with pytest.raises(ImageError, match="frames"):
            attempt()


def test_a_marked_picture_is_not_marked_again_unasked(mark: PixelMark) -> None:
    once = embed_file(saved(PICTURE), mark, MARK_ID).data
    with pytest.raises(WatermarkError, match=MARK_ID):
        embed_file(once, mark, "f" * 16)
    again = embed_file(once, mark, "f" * 16, again=True)
    assert again.earlier_id == MARK_ID
    assert read_file(again.data, mark, "fast").mark_id in (MARK_ID, "f" * 16)


@pytest.mark.slow
def test_the_largest_picture_is_marked_and_read(mark: PixelMark) -> None:
    rows = np.linspace(30, 220, 8192, dtype=np.float32)[:, None, None]
    pixels = np.repeat(np.broadcast_to(rows, (8192, 8192, 1)).astype(np.uint8), 3, axis=2)
    assert mark.detect(mark.embed(pixels, MARK_ID).pixels, "fast").mark_id == MARK_ID
