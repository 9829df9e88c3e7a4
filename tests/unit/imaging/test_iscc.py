"""The Image-Code against values of the reference implementation."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from guardrails.imaging.iscc import grey_code, image_code


def _picture() -> np.ndarray:
    small = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((240, 200), Image.Resampling.BICUBIC))


def _distance(a: str, b: str) -> int:
    first, second = (int.from_bytes(base64.b32decode(code.removeprefix("ISCC:"))[2:], "big") for code in (a, b))
    return (first ^ second).bit_count()


@pytest.mark.parametrize(
    ("grey", "expected"),
    [
        (np.zeros((32, 32)), "0000000000000000"),
        (np.full((32, 32), 255), "8000000000000000"),
        # Computed with the reference implementation (iscc-core 1.3).
        (np.fromfunction(lambda y, x: (x * 7 + y * 13 + (x * y) // 5) % 256, (32, 32)), "859e811eb5a64b6e"),
    ],
    ids=["black", "white", "pattern"],
)
def test_code_equals_the_reference(grey: np.ndarray, expected: str) -> None:
    assert grey_code(grey.astype(np.uint8)).hex() == expected


def test_text_form_carries_the_header_of_a_64_bit_image_code() -> None:
    # The published white vector has 128 bits; at 64 bits only its length nibble differs.
    assert image_code(np.full((50, 70, 3), 255, np.uint8)) == "ISCC:EEAYAAAAAAAAAAAA"


def test_code_survives_recompression_and_tells_pictures_apart() -> None:
    pixels = _picture()
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((120, 100)).save(buffer, "JPEG", quality=50)
    assert _distance(image_code(pixels), image_code(np.asarray(Image.open(buffer)))) <= 2
    assert _distance(image_code(pixels), image_code(np.ascontiguousarray(pixels[::-1]))) >= 16


def test_code_distance_counts_differing_bits() -> None:
    from guardrails.imaging.iscc import code_distance

    picture = np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    one, turned = image_code(picture), image_code(np.ascontiguousarray(np.rot90(picture)))
    assert code_distance(one, one) == 0
    assert 0 < code_distance(one, turned) == code_distance(turned, one) <= 64
    with pytest.raises(ValueError, match="not a 64-bit ISCC"):
        code_distance(one, "ISCC:AAAAAAAAAAAAAAAA")
