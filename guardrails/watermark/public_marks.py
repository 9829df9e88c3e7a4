"""The marks that other products write into every picture: the same for all, without a key.

They are the `dwtDct` method of invisible-watermark 0.2.0 with a constant message. Anyone can write them and read them,
so they say which program a picture may come from and prove nothing. This reader is that method's decoder in numpy, bit
for bit, so that it needs neither the package nor torch, which the package loads.

Messages: `scripts/txt2img.py` of CompVis/stable-diffusion (Stable Diffusion 1) and Stability-AI/stablediffusion
(Stable Diffusion 2); `pipelines/stable_diffusion_xl/watermark.py` of huggingface/diffusers (SDXL, 48 bits);
`src/flux/util.py` of black-forest-labs/flux (FLUX, 46 bits: `bin` drops the two leading zeros of a 48-bit constant).

The decoded bits of an unmarked picture are no fair coins: each block votes by how the picture's own values fall, so
bits are biased and neighbours alike. What is judged is therefore the correlation of the votes with the message, which
no common bias can raise, and the threshold is checked on unmarked pictures, see `docs/public-marks.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels

SCALE = 36
BLOCK = 4
# The package marks nothing smaller.
MINIMUM_PIXELS = 256 * 256
# Fewer blocks to a bit are too few votes.
LEAST_VOTES = 6
# Blocks come row by row, so the upper part of a large picture says it all; 1 megapixel.
MOST_VOTES = 16_384
# Standard score of the correlation under random messages of the same weight.
THRESHOLD = 5.0
# Texts have bits in common: every letter begins with 01. Two different ones correlate by up to about a half.
LEAST_CORRELATION = 0.7

_HAAR = 0.7071067811865476
Bits = NDArray[np.uint8]


def _of_text(text: str) -> Bits:
    return np.unpackbits(np.frombuffer(text.encode("ascii"), np.uint8))


def _of_number(number: int) -> Bits:
    return np.array([int(digit) for digit in f"{number:b}"], np.uint8)


MESSAGES: dict[str, Bits] = {
    "Stable Diffusion 1": _of_text("StableDiffusionV1"),
    "Stable Diffusion 1 inpainting": _of_text("StableDiffusionV1-Inpainting"),
    "Stable Diffusion 2": _of_text("SDV2"),
    "Stable Diffusion XL": _of_number(0b101100111110110010010000011110111011000110011110),
    "FLUX": _of_number(0b001010101111111010000111100111001111010100101110),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicMark:
    """A public mark that was recognised: a hint at the program, never a proof.

    Attributes:
        program: whose mark it is.
        correlation: of the votes with the message, -1..1.
        agreeing: bits whose majority agrees, of `bits`.
    """

    program: str
    correlation: float
    agreeing: int
    bits: int

    @property
    def score(self) -> float:
        """Standard score of the correlation: mean 0, variance 1 over random messages of this weight."""
        return self.correlation * math.sqrt(self.bits - 1)


def find_public_mark(pixels: Pixels) -> PublicMark | None:
    """The public mark in RGB uint8 pixels that were neither resized nor cropped; None where none is recognised.

    Versions of the writers differ in whether they hand the package RGB or BGR, so both are read.
    """
    if pixels.shape[0] * pixels.shape[1] < MINIMUM_PIXELS:
        return None
    found = [
        mark
        for ordered in (pixels[..., ::-1], pixels)
        for mark in _scores(votes(np.ascontiguousarray(ordered)))
        if mark.score >= THRESHOLD and mark.correlation >= LEAST_CORRELATION
    ]
    # One message may begin with another, so the best correlation, whatever its length, is the one that was written.
    return max(found, key=lambda mark: mark.correlation, default=None)


def votes(bgr: Pixels) -> Bits:
    """What each 4 x 4 block of the low band says, uint8 0/1, in the order of the package; `bgr` as it is called."""
    height, width = (side // 4 * 4 for side in bgr.shape[:2])
    height = min(height, max(1, MOST_VOTES // max(1, width // (2 * BLOCK))) * 2 * BLOCK)
    if height * width == 0:
        return np.empty(0, np.uint8)
    # Channel U of OpenCV's YUV; the package marks no other.
    plane = cv2.cvtColor(bgr[:height], cv2.COLOR_BGR2YUV)[:, :width, 1].astype(np.float64)
    # Low band of one Haar level, rows first, in the order of operations of PyWavelets: ties depend on the rounding.
    low = _HAAR * plane[1::2] + _HAAR * plane[0::2]
    low = _HAAR * low[:, 1::2] + _HAAR * low[:, 0::2]
    rows, columns = low.shape[0] // BLOCK, low.shape[1] // BLOCK
    blocks = low[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
    magnitudes = np.abs(blocks.reshape(rows * columns, BLOCK * BLOCK))[:, 1:]
    said: Bits = (magnitudes.max(axis=1) % SCALE > SCALE / 2).astype(np.uint8)
    return said


def share_of_ones(said: Bits, length: int) -> NDArray[np.float64]:
    """Share of the votes for 1 of each bit of a message, shape (length,)."""
    place = np.arange(len(said)) % length
    shares: NDArray[np.float64] = np.bincount(place, said, length) / np.bincount(place, minlength=length)
    return shares


def correlation(shares: NDArray[np.float64], message: Bits) -> float:
    """Pearson's, of votes and message; 0 where all votes are alike."""
    deviations = shares - shares.mean()
    signs = message - message.mean()
    energy = float((deviations**2).sum() * (signs**2).sum())
    return float(deviations @ signs) / math.sqrt(energy) if energy > 0 else 0.0


def _scores(said: Bits) -> Iterator[PublicMark]:
    for program, message in MESSAGES.items():
        if len(said) < LEAST_VOTES * len(message):
            continue
        shares = share_of_ones(said, len(message))
        yield PublicMark(
            program=program,
            correlation=round(correlation(shares, message), 3),
            # The package's own rule for a bit.
            agreeing=int(((shares * 255 > 127) == message).sum()),
            bits=len(message),
        )
