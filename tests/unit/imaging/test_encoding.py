"""Encoding keeps the pixels as well as each format can, and carries the XMP packet in all of them."""

from __future__ import annotations

from pathlib import PurePath
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from guardrails.errors import ImageError, OptionError
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.imaging.metadata import TRAINED_ALGORITHMIC_MEDIA, ai_generated_xmp, read_xmp

WRITABLE = [format for format in ImageFormat if format.writable]
URN = "urn:c2pa:6f2a3c1e-1f0b-4c9e-8d11-0123456789ab"


def picture() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:40, 0:56]
    return np.stack([x * 4, y * 6, 255 - x - y], axis=2).astype(np.uint8)


@pytest.mark.parametrize("format", WRITABLE)
def test_what_is_encoded_decodes_to_the_same_picture_and_the_same_bytes_each_time(format: ImageFormat) -> None:
    data = encode(picture(), format)
    assert data == encode(picture(), format)
    decoded = decode(data)
    assert decoded.format is format
    error = np.abs(decoded.pixels.astype(int) - picture())
    if format in (ImageFormat.PNG, ImageFormat.TIFF):
        assert error.max() == 0
    else:
        # 256 colours of a palette are coarser than any lossy code.
        assert error.mean() < (6 if format is ImageFormat.GIF else 2)


def test_jpeg_keeps_full_colour_resolution() -> None:
    checks = np.zeros((32, 32, 3), np.uint8)
    checks[:, ::2] = (255, 0, 0)
    checks[:, 1::2] = (0, 0, 255)
    decoded = decode(encode(checks, ImageFormat.JPEG)).pixels
    assert np.abs(decoded.astype(int) - checks).max() < 40


def test_higher_quality_is_closer_and_larger() -> None:
    rough = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for format in (ImageFormat.JPEG, ImageFormat.WEBP):
        low, high = encode(rough, format, quality=30), encode(rough, format, quality=95)
        assert len(low) < len(high)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_break_the_pixel_contract_are_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected uint8 pixels"):
        encode(pixels, ImageFormat.PNG)


def test_formats_that_are_only_read_and_sizes_that_do_not_fit_are_clear_errors() -> None:
    with pytest.raises(OptionError, match="not written"):
        encode(picture(), ImageFormat.BMP)
    with pytest.raises(OptionError, match="quality 0"):
        encode(picture(), ImageFormat.JPEG, quality=0)
    with pytest.raises(ImageError, match="20000x1 pixels as WEBP"):
        encode(np.zeros((1, 20000, 3), np.uint8), ImageFormat.WEBP)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("png", ImageFormat.PNG),
        (".JPG", ImageFormat.JPEG),
        ("out/photo.v2.jpeg", ImageFormat.JPEG),
        (PurePath("a.webp"), ImageFormat.WEBP),
        ("image/tiff", ImageFormat.TIFF),
    ],
)
def test_format_is_parsed_from_names_suffixes_and_media_types(text: str, format: ImageFormat) -> None:
    assert ImageFormat.parse(text) is format


@pytest.mark.parametrize("text", ["", "picture", "a.svg", "png.txt"])
def test_unknown_format_names_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="names no image format"):
        ImageFormat.parse(text)


@pytest.mark.parametrize("format", list(ImageFormat))
def test_media_types_and_suffixes_agree_with_pillow(format: ImageFormat) -> None:
    Image.init()
    # Pillow has one name and one type for all HEIF files; ours are coded in HEVC, which is what HEIC means.
    assert Image.MIME[format.value] == ("image/heif" if format is ImageFormat.HEIC else format.mime)
    assert Image.registered_extensions()[format.suffix] == format.value
    assert ImageFormat.parse(format.suffix) is format
    assert ImageFormat.parse(format.mime) is format


@pytest.mark.parametrize("format", WRITABLE)
def test_the_xmp_packet_survives_in_every_format_and_leaves_the_pixels_alone(format: ImageFormat) -> None:
    packet = ai_generated_xmp(URN, "latent-guardrails", "tiny")
    data = encode(picture(), format, xmp=packet)
    # Pillow does not look for XMP in a GIF; other readers find the packet there.
    assert read_xmp(data) == packet if format is not ImageFormat.GIF else data.count(packet) == 1
    np.testing.assert_array_equal(decode(data).pixels, decode(encode(picture(), format)).pixels)
    assert read_xmp(encode(picture(), format)) is None


@given(generator=st.text(), model=st.text())
def test_any_name_makes_a_well_formed_packet_that_reads_back(generator: str, model: str) -> None:
    packet = ai_generated_xmp(URN, generator, model)
    tree = ElementTree.fromstring(packet)
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    assert tree.findtext(f".//{iptc}DigitalSourceType") == TRAINED_ALGORITHMIC_MEDIA
    assert tree.findtext(".//{http://purl.org/dc/elements/1.1/}identifier") == URN
    assert tree.findtext(".//{http://ns.adobe.com/xap/1.0/mm/}DocumentID") == URN
    if generator.isprintable():
        assert tree.findtext(".//{http://ns.adobe.com/xap/1.0/}CreatorTool", default="") == generator


def test_markup_in_a_model_name_stays_text() -> None:
    packet = ai_generated_xmp(URN, "g", "</rdf:RDF><evil a='1'/>&amp;")
    assert ElementTree.fromstring(packet).find(".//evil") is None
