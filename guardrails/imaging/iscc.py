"""ISCC Image-Code (ISO 24138:2024, Content-Code of subtype image), the listed soft-binding algorithm `io.iscc.v0`.

Checked: all three image vectors of the conformance data that iscc-core 1.3 ships (black, white and a photograph, the
longer codes cut to their first 64 bits), and equality with its reference code on 400 random and flat pixel grids.
Not done, because the standard leaves it to the application: trimming of uniform borders before the picture is reduced.
"""

from __future__ import annotations

import base64
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.imaging import Pixels

ALGORITHM = "io.iscc.v0"

_SIDE = 32
_BLOCK = 8
# Four header nibbles: main type 2 (content), subtype 1 (image), version 0, length 1 (64 bits = (1 + 1) * 32).
_HEADER = b"\x21\x01"


def image_code(pixels: Pixels) -> str:
    """The 64-bit Image-Code of a picture, for example "ISCC:EEA4GQZQTY6J5DTH".

    The picture is reduced to 32 x 32 grey values (bicubic). Bit k is set when coefficient k of the upper left 8 x 8
    block of their discrete cosine transform is above the block's median.

    Args:
        pixels: RGB, uint8, height x width x 3, upright, transparency already on white.

    Returns:
        "ISCC:" and 16 base32 characters: 2 header bytes, then 8 bytes of code.
    """
    return written(grey_code(reduced(pixels)))


def reduced(pixels: Pixels) -> NDArray[np.uint8]:
    """The 32 x 32 grey values that the code is made of. Turning and mirroring can as well be done to them."""
    return np.asarray(Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def code_distance(one: str, other: str) -> int:
    """Number of differing bits, 0..64, of two Image-Codes as `image_code` writes them.

    Raises:
        ValueError: either is not such a code.
    """
    return (int.from_bytes(code_bits(one), "big") ^ int.from_bytes(code_bits(other), "big")).bit_count()


def code_bits(code: str) -> bytes:
    """The 8 bytes of an Image-Code as `image_code` writes it, without its header; also without "ISCC:" before it.

    Raises:
        ValueError: it is not such a code: another unit, version or length.
    """
    body = code.strip().removeprefix("ISCC:")
    try:
        data = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError as error:
        raise ValueError(f"{code!r} is not an ISCC: {error}") from error
    if len(data) != len(_HEADER) + _BLOCK or data[:2] != _HEADER:
        raise ValueError(f"{code!r} is not a 64-bit ISCC Image-Code")
    return data[len(_HEADER) :]


def written(bits: bytes) -> str:
    """The Image-Code of 8 bytes, as `code_bits` reads it."""
    return "ISCC:" + base64.b32encode(_HEADER + bits).decode("ascii")


def grey_code(grey: NDArray[np.uint8]) -> bytes:
    """The 8 bytes of code of 32 x 32 grey values, without the header."""
    rows = _dct(grey.astype(np.float64))
    block = _dct(rows.T).T[:_BLOCK, :_BLOCK]
    return np.packbits(block > np.median(block)).tobytes()


def _dct(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unscaled DCT-II along the last axis, by B. G. Lee's recursion (IEEE Trans. ASSP 32, 1984, pp. 1243-1245).

    The order of operations is part of the standard's result: a flat picture has coefficients of exactly zero this way,
    where a product with a cosine matrix leaves rounding noise that would decide the bits.
    """
    size = values.shape[-1]
    if size == 1:
        return values
    half = size // 2
    left, right = values[..., :half], values[..., : half - 1 : -1]
    cosines = np.array([2.0 * math.cos((index + 0.5) * math.pi / size) for index in range(half)])
    odd = _dct((left - right) / cosines)
    transformed = np.empty_like(values)
    transformed[..., 0::2] = _dct(left + right)
    transformed[..., 1:-1:2] = odd[..., :-1] + odd[..., 1:]
    transformed[..., -1] = odd[..., -1]
    return transformed
