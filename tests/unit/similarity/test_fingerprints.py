"""Our own PDQ and its symmetric sibling, peeled boxes, and the same hash for the same picture in any container."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from guardrails.imaging import iscc
from guardrails.imaging.decoding import decode
from guardrails.similarity.borders import content_box
from guardrails.similarity.fingerprints import Fingerprinter, Region, invert
from guardrails.similarity.hashes import (
    DHASH64,
    ORIENTATIONS,
    PDQ256,
    PHASH64,
    SYM256,
    ImageHash,
    code_distances,
    crop_resistant,
    dhash64,
    oriented,
    pdq256,
    phash64,
)


def photo(seed: int, height: int = 300, width: int = 400) -> np.ndarray:
    """Smooth colours and edges over the whole frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    fine = rng.normal(0, 12, (height // 4, width // 4, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    picture += cv2.resize(fine, (width, height))
    return np.clip(picture, 0, 255).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(code_distances(np.atleast_2d(one), np.atleast_2d(other))[0, 0])


def test_hash_constants_are_frozen(work_on):
    frozen = {
        PDQ256: "21f11c99e73c344ed98cb2e648e34bc6b4b36c38569eb4316d2987c397a1796c",
        SYM256: "61f11c99c73c365e498cb3e6686349c6b0f36c395a9eb6392d2c83c393b1792c",
    }
    for algorithm, text in frozen.items():
        hashes = Fingerprinter(algorithm).hashes(work_on(1))
        assert hashes.codes[0].tobytes().hex() == text
        assert hashes.quality == 100


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (256, 256), (512, 512), (333, 217), (64, 300), (97, 640)])
def test_pdq_is_the_reference_library_s(size):
    hasher = Fingerprinter(PDQ256)
    for seed in range(6):
        picture = photo(seed, *size)
        ours, reference = hasher.hashes(picture), pdq256(picture)
        # Rounding may turn a bit at the median where the filter has odd windows.
        assert max(distance(ours.codes[k], reference.codes[k]) for k in range(ORIENTATIONS)) <= 2
        assert abs(ours.quality - reference.quality) <= 1


def test_the_symmetric_hash_turns_with_the_picture(work_on):
    hasher = Fingerprinter(SYM256)
    symmetric = work_on(3).copy()
    symmetric[:, 128:] = symmetric[:, 127::-1]
    for picture in (work_on(3), symmetric, photo(4)):
        codes = hasher.hashes(picture).codes
        for orientation in range(ORIENTATIONS):
            turned = hasher.hashes(oriented(picture, orientation)).codes[0]
            assert distance(codes[orientation], turned) <= 2


def test_inverted_colours_have_the_complement():
    hasher = Fingerprinter(SYM256)
    fingerprint = hasher.fingerprint(photo(5))
    inverted = hasher.hashes(255 - photo(5)).codes[0]
    assert code_distances(fingerprint.queries(), inverted[None]).min() <= 2
    assert code_distances(fingerprint.queries(inverted=False), inverted[None]).min() > 60
    code = ImageHash(SYM256, fingerprint.rows[0][1])
    assert invert(code) - code == 256
    assert invert(invert(code)) == code


@pytest.mark.parametrize("algorithm", [SYM256, PDQ256, PHASH64, DHASH64])
def test_flat_pictures_have_no_code_at_all(algorithm):
    flat = np.full((200, 200, 3), 240, np.uint8)
    gradient = np.broadcast_to(np.linspace(90, 110, 200).astype(np.uint8)[:, None, None], (200, 200, 3))
    for picture in (flat, np.ascontiguousarray(gradient)):
        fingerprint = Fingerprinter(algorithm).fingerprint(picture)
        assert not fingerprint.hashable
        assert fingerprint.rows == []
        assert len(fingerprint.queries()) == 0


def test_an_algorithm_that_cannot_be_computed_is_refused():
    with pytest.raises(ValueError, match="no hash that is computed"):
        Fingerprinter("md5")


def test_image_codes_are_those_of_the_standard_in_every_orientation(work_on):
    picture = work_on(3)
    hashes = Fingerprinter("iscc-image64").hashes(picture)
    assert iscc.written(hashes.codes[0].tobytes()) == iscc.image_code(picture)
    for orientation in range(8):
        turned = iscc.code_bits(iscc.image_code(oriented(picture, orientation)))
        assert ImageHash("iscc-image64", hashes.codes[orientation].tobytes()) - ImageHash("iscc-image64", turned) <= 2


def test_imagehash_s_hashes_are_imagehash_s(work_on):
    import imagehash

    picture = work_on(2)
    image = Image.fromarray(picture)
    assert str(dhash64(picture)) == str(imagehash.dhash(image))
    assert Fingerprinter(PHASH64).hashes(picture).codes[0].tobytes() == phash64(picture).bits
    segments = crop_resistant(photo(6, 200, 200))
    expected = imagehash.crop_resistant_hash(Image.fromarray(photo(6, 200, 200)))
    assert [str(one) for one in segments] == [str(one) for one in expected.segment_hashes]


@pytest.mark.parametrize("border", [(0, 0, 60, 60), (60, 60, 0, 0), (40, 40, 40, 40), (7, 90, 33, 2)])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (30, 90, 160)])
def test_borders_are_peeled_to_the_pixel(border, colour):
    picture = photo(7)
    padded = cv2.copyMakeBorder(picture, *border, cv2.BORDER_CONSTANT, value=colour)
    box = content_box(padded)
    assert (box.top, box.left) == (border[0], border[2])
    assert np.array_equal(box.cut(padded), picture)
    assert content_box(picture).is_whole(picture)


def test_a_frame_around_bars_is_peeled_as_well():
    picture = photo(8)
    barred = cv2.copyMakeBorder(picture, 50, 50, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    framed = cv2.copyMakeBorder(barred, 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    assert np.array_equal(content_box(framed).cut(framed), picture)


def test_a_picture_of_nothing_but_border_stays_whole():
    blank = np.full((100, 300, 3), 9, np.uint8)
    assert content_box(blank).is_whole(blank)
    speck = blank.copy()
    speck[50:60, 100:110] = 200
    assert content_box(speck).is_whole(speck)


def test_a_padded_copy_s_box_is_the_original_s_frame():
    hasher = Fingerprinter(SYM256)
    reference = np.frombuffer(hasher.fingerprint(photo(9)).rows[0][1], np.uint8)
    padded = cv2.copyMakeBorder(photo(9), 80, 80, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    fingerprint = hasher.fingerprint(padded)
    assert set(fingerprint.regions) == {Region.FULL, Region.BOX}
    assert distance(fingerprint.regions[Region.BOX].codes[0], reference) == 0
    assert distance(fingerprint.regions[Region.FULL].codes[0], reference) > 60


def test_a_transparent_picture_is_hashed_on_white_and_on_black(work_on):
    alpha = np.where((work_on(4) == 255).all(axis=2), 0, 255).astype(np.uint8)
    hasher = Fingerprinter(SYM256)
    fingerprint = hasher.fingerprint(work_on(4), alpha)
    on_black = np.where(alpha[..., None] > 0, work_on(4), 0).astype(np.uint8)
    assert distance(fingerprint.regions[Region.ON_BLACK].codes[0], hasher.hashes(on_black).codes[0]) == 0
    assert Region.ON_BLACK not in hasher.fingerprint(work_on(4), np.full_like(alpha, 255)).regions


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def swapped_profile() -> bytes:
    """sRGB with the colorants of red and blue exchanged: ICC.1:2010, section 7.3, the tag table."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    tags = {bytes(data[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def rgba(image: Image.Image, hidden: tuple[int, int, int]) -> Image.Image:
    """White made transparent, with another colour hidden beneath."""
    pixels = np.asarray(image)
    white = (pixels == 255).all(axis=2)
    colours = np.where(white[..., None], np.array(hidden, np.uint8), pixels)
    return Image.fromarray(np.dstack([colours, np.where(white, 0, 255).astype(np.uint8)]))


def turned_with_exif(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=98, subsampling="4:4:4", exif=exif)


def palette_with_transparency(image: Image.Image) -> bytes:
    indexed = image.quantize(255, dither=Image.Dither.NONE)
    pixels = np.array(indexed)
    pixels[(np.asarray(image) == 255).all(axis=2)] = 255
    out = Image.fromarray(pixels, "P")
    palette = (indexed.getpalette() or [])[: 255 * 3]
    # The transparent colour comes last and is dark.
    out.putpalette([*palette, *[0] * (255 * 3 - len(palette)), 0, 40, 0])
    return saved(out, "PNG", transparency=255)


CONTAINERS = {
    "PNG": lambda image: saved(image, "PNG"),
    "transparent PNG": lambda image: saved(rgba(image, (0, 0, 0)), "PNG"),
    "transparent WebP": lambda image: saved(rgba(image, (90, 0, 200)), "WEBP", lossless=True, exact=True),
    "JPEG turned by EXIF": turned_with_exif,
    "CMYK TIFF": lambda image: saved(image.convert("CMYK"), "TIFF"),
    "CMYK JPEG, inverted as Adobe does": lambda image: saved(image.convert("CMYK"), "JPEG", quality=95),
    "palette PNG": lambda image: saved(image.quantize(256, dither=Image.Dither.NONE), "PNG"),
    "palette PNG with transparency": palette_with_transparency,
    "palette GIF": lambda image: saved(image.quantize(256, dither=Image.Dither.NONE), "GIF"),
    "other primaries in an ICC profile": lambda image: saved(
        Image.merge("RGB", image.split()[::-1]), "PNG", icc_profile=swapped_profile()
    ),
    "JPEG 98": lambda image: saved(image, "JPEG", quality=98, subsampling="4:4:4"),
}
GREY_CONTAINERS = {
    "grey PNG": lambda image: saved(image, "PNG"),
    "grey PNG with alpha": lambda image: saved(image.convert("LA"), "PNG"),
    "grey PNG of 16 bits": lambda image: saved(Image.fromarray(np.asarray(image).astype(np.uint16) * 257), "PNG"),
    "grey TIFF of 16 bits": lambda image: saved(Image.fromarray(np.asarray(image).astype(np.uint16) * 257), "TIFF"),
}


@pytest.mark.parametrize("algorithm", [SYM256, PDQ256])
@pytest.mark.parametrize("container", [*CONTAINERS, *GREY_CONTAINERS])
def test_a_picture_hashes_alike_in_every_container(work_on, container, algorithm):
    hasher = Fingerprinter(algorithm)
    for seed in (1, 2, 10):
        image = Image.fromarray(work_on(seed))
        if container in GREY_CONTAINERS:
            image = image.convert("L")
        expected = hasher.hashes(np.asarray(image.convert("RGB"))).codes[0]
        data = (CONTAINERS | GREY_CONTAINERS)[container](image)
        tolerance = 4 if "JPEG" in container else 2
        assert distance(hasher.hashes(decode(data).pixels).codes[0], expected) <= tolerance
