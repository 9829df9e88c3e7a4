"""The guarded door: what is refused, and that every container of one picture decodes to the same pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from guardrails.errors import ImageError, ImageTooLarge
from guardrails.imaging.decoding import Limits, decode, read_image_bytes
from guardrails.imaging.encoding import ImageFormat


def picture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A smooth picture without symmetry, so that every turn and every colour swap shows."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / (width - 1), y * 255 / (height - 1), 127 + 90 * np.sin(x / 9 + y / 17)]
    return np.stack(channels, axis=2).astype(np.uint8)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost no data: the header is all that may be looked at."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


LOSSLESS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: saved(image, "PNG"),
    "png rgba opaque": lambda image: saved(image.convert("RGBA"), "PNG"),
    "webp lossless": lambda image: saved(image, "WEBP", lossless=True),
    "tiff": lambda image: saved(image, "TIFF"),
    "tiff lzw": lambda image: saved(image, "TIFF", compression="tiff_lzw"),
    "bmp": lambda image: saved(image, "BMP"),
}
LOSSY: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: saved(image, "JPEG", quality=97, subsampling=0),
    "webp": lambda image: saved(image, "WEBP", quality=97),
    "avif": lambda image: saved(image, "AVIF", quality=95),
}


@pytest.mark.parametrize("container", LOSSLESS)
def test_lossless_containers_decode_to_exactly_the_same_pixels(container: str) -> None:
    decoded = decode(LOSSLESS[container](Image.fromarray(picture())))
    np.testing.assert_array_equal(decoded.pixels, picture())
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous


@pytest.mark.parametrize("container", LOSSY)
def test_lossy_containers_decode_to_nearly_the_same_pixels(container: str) -> None:
    decoded = decode(LOSSY[container](Image.fromarray(picture())))
    error = np.abs(decoded.pixels.astype(int) - picture())
    assert error.mean() < 4, container
    assert decoded.frames == 1


@pytest.mark.parametrize("container", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette_pictures_decode_to_exactly_their_palette_colours(container: str) -> None:
    quantised = Image.fromarray(picture()).quantize(64)
    np.testing.assert_array_equal(decode(saved(quantised, container)).pixels, np.asarray(quantised.convert("RGB")))


def test_the_format_comes_from_the_bytes_and_the_stored_mode_is_kept() -> None:
    decoded = decode(saved(Image.fromarray(picture()).quantize(64), "PNG"))
    assert (decoded.format, decoded.mode, decoded.alpha) == (ImageFormat.PNG, "P", None)


@pytest.mark.parametrize("container", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, container: str) -> None:
    turn_away: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turn_away[orientation](picture())))
    np.testing.assert_array_equal(decode(saved(stored, container, exif=exif.tobytes())).pixels, picture())


def test_hidden_colours_under_full_transparency_never_reach_the_pixels() -> None:
    rgba = np.dstack([picture(), np.full((48, 64), 255, np.uint8)])
    rgba[:, :32, 3] = 0
    decoded = decode(saved(Image.fromarray(rgba), "PNG"))
    assert (decoded.pixels[:, :32] == 255).all()
    np.testing.assert_array_equal(decoded.pixels[:, 32:], picture()[:, 32:])
    assert decoded.alpha is not None
    np.testing.assert_array_equal(decoded.alpha, rgba[:, :, 3])


def test_half_transparency_is_composed_on_white() -> None:
    decoded = decode(saved(Image.new("RGBA", (4, 4), (0, 100, 200, 128)), "PNG"))
    assert decoded.pixels[0, 0].tolist() == [127, 177, 227]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_key_is_composed_on_white(mode: str) -> None:
    image = Image.new(mode, (4, 4), 0)
    if mode == "P":
        image.putpalette([10, 20, 30])
    decoded = decode(saved(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0))
    assert (decoded.pixels == 255).all()
    assert decoded.alpha is not None
    assert not decoded.alpha.any()


def test_grey_with_alpha_is_composed_on_white() -> None:
    decoded = decode(saved(Image.new("LA", (2, 2), (0, 51)), "PNG"))
    assert decoded.pixels[0, 0].tolist() == [204, 204, 204]


@pytest.mark.parametrize("container", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_rounded_not_clipped(container: str) -> None:
    samples = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    decoded = decode(saved(Image.fromarray(samples), container))
    assert decoded.pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]
    assert decoded.mode.startswith("I;16")


def test_thirty_two_bit_samples_are_refused_rather_than_clipped() -> None:
    with pytest.raises(ImageError, match="no defined brightness"):
        decode(saved(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_adobe_inverted_cmyk_jpeg_shows_the_right_colours() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode(saved(image, "JPEG", quality=95))
    assert decoded.mode == "CMYK"
    assert np.abs(decoded.pixels.astype(int) - (255, 0, 0)).max() <= 4


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    # Linear-light samples: half of the light is 188 in sRGB (IEC 61966-2-1).
    linear = ImageCms.ImageCmsProfile(io.BytesIO(_linear_rgb_profile()))
    decoded = decode(saved(Image.new("RGB", (4, 4), (128, 128, 128)), "PNG", icc_profile=linear.tobytes()))
    assert np.abs(decoded.pixels.astype(int) - 188).max() <= 2


def test_an_srgb_profile_changes_nothing_visible_and_a_broken_one_is_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_profile = decode(saved(Image.fromarray(picture()), "PNG", icc_profile=srgb)).pixels
    assert np.abs(with_profile.astype(int) - picture()).max() <= 1
    broken = decode(saved(Image.fromarray(picture()), "PNG", icc_profile=b"no profile at all")).pixels
    np.testing.assert_array_equal(broken, picture())


def _linear_rgb_profile() -> bytes:
    """The sRGB profile with its tone curves replaced by a straight line (ICC.1:2010, curveType with no entries)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for entry in range(count):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = b"curv" + bytes(8)
            struct.pack_into(">I", profile, 132 + 12 * entry + 8, 12)
    return bytes(profile)


@pytest.mark.parametrize(
    ("format", "count"), [("WEBP", "3"), ("PNG", "3"), ("AVIF", "3"), ("GIF", "several"), ("TIFF", "several")]
)
def test_animated_and_multi_page_files_are_refused(format: str, count: str) -> None:
    frames = [Image.new("RGB", (8, 8), (80 * i, 0, 0)) for i in range(3)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=f"has {count} frames") as caught:
        decode(data)
    assert "still picture" in caught.value.hint


def test_a_cameras_multi_picture_jpeg_gives_its_first_picture() -> None:
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    decoded = decode(saved(first, "MPO", save_all=True, append_images=[second]))
    assert (decoded.format, decoded.frames) == (ImageFormat.JPEG, 2)
    assert np.abs(decoded.pixels.astype(int) - (200, 0, 0)).max() <= 4


@pytest.mark.parametrize("container", [*LOSSLESS, *LOSSY])
def test_a_file_cut_short_is_refused(container: str) -> None:
    data = (LOSSLESS | LOSSY)[container](Image.fromarray(picture()))
    for kept in (len(data) // 3, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(ImageError):
            decode(data[:kept])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"a plain text file, not a picture", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "header|not an image"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line_with_a_next_step(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decode(data)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("side", [9000, 13000, 20000, 60000])
def test_decompression_bombs_are_refused_by_their_header_without_a_warning(
    side: int, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(ImageTooLarge, match="pixels, over the limit"):
        decode(png_of_size(side, side))
    assert not recwarn.list


def test_limits_are_inclusive() -> None:
    data = saved(Image.fromarray(picture()), "PNG")
    assert decode(data, Limits(max_bytes=len(data), max_pixels=48 * 64, min_side=48)).frames == 1
    with pytest.raises(ImageTooLarge, match="bytes"):
        decode(data, Limits(max_bytes=len(data) - 1))
    with pytest.raises(ImageTooLarge, match="64x48"):
        decode(data, Limits(max_pixels=48 * 64 - 1))
    with pytest.raises(ImageError, match="too small"):
        decode(data, Limits(min_side=49))


def test_reading_a_path_that_is_no_readable_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        read_image_bytes(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image_bytes(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image_bytes(tmp_path / "pipe")


def test_reading_stops_at_the_byte_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(1000))
    assert len(read_image_bytes(path, Limits(max_bytes=1000))) == 1000
    with pytest.raises(ImageTooLarge):
        read_image_bytes(path, Limits(max_bytes=999))


_EXIF = Image.Exif()
_EXIF[0x0112] = 6
_SEEDS = [make(Image.fromarray(picture(12, 16))) for make in (LOSSLESS | LOSSY).values()] + [
    saved(Image.fromarray(picture(12, 16)), "JPEG", exif=_EXIF.tobytes(), icc_profile=_linear_rgb_profile()),
    saved(Image.fromarray(np.full((8, 8), 4000, np.uint16)), "TIFF"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_decode_or_raise_an_image_error_and_nothing_else(data: st.DataObject) -> None:
    mutant = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(mutant), Limits(max_pixels=1_000_000))
    except ImageError:
        return
    assert decoded.pixels.ndim == 3
    assert decoded.pixels.shape[2] == 3
