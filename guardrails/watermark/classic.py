"""Marks of the invisible-watermark package, as other products write them: for reading old files and for comparison.

They have no key, no error correction and no synchronisation, and their decoded bits on unmarked pictures are not fair
coins, so no p-value is offered: `read` always returns bits, marked or not. Importing the package loads torch, so it
happens on first use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError, UnavailableError, WatermarkError
from guardrails.imaging import Pixels

METHODS = ("dwtDct", "dwtDctSvd", "rivaGan")
RIVAGAN_BITS = 32
# The package refuses smaller areas.
MINIMUM_PIXELS = 256 * 256

Bits = NDArray[np.uint8]


class ClassicMark:
    """One method of invisible-watermark.

    Args:
        method: "dwtDct", "dwtDctSvd" or "rivaGan".
        length: number of bits; rivaGan has 32 and no other.

    Raises:
        OptionError: an unknown method, or a length that the method does not have.
        UnavailableError: the package, or for rivaGan onnxruntime, is not installed.
    """

    def __init__(self, method: str, length: int) -> None:
        if method not in METHODS:
            raise OptionError(f"unknown watermark method {method!r}", hint=f"use one of {', '.join(METHODS)}")
        if method == "rivaGan" and length != RIVAGAN_BITS:
            raise OptionError(f"rivaGan carries {RIVAGAN_BITS} bits, not {length}", hint="use dwtDctSvd")
        self.name = method
        self.length = length
        self._package = _load(method)

    def embed(self, pixels: Pixels, bits: Bits) -> Pixels:
        """Write `bits` (uint8 0/1 of shape (length,)) into RGB uint8 pixels.

        Raises:
            WatermarkError: fewer than 256 * 256 pixels, or another number of bits.
        """
        self._require_area(pixels)
        if bits.shape != (self.length,):
            raise WatermarkError(f"{self.name} was set up for {self.length} bits, not {bits.shape}", hint="cut or pad")
        encoder = self._package.WatermarkEncoder()
        encoder.set_watermark("bits", bits.tolist())
        marked = np.asarray(encoder.encode(_swapped(pixels), self.name), np.uint8)
        return _swapped(marked)

    def read(self, pixels: Pixels) -> Bits:
        """The bits that the method sees in RGB uint8 pixels, uint8 0/1 of shape (length,); says nothing about presence.

        Raises:
            WatermarkError: fewer than 256 * 256 pixels.
        """
        self._require_area(pixels)
        decoder = self._package.WatermarkDecoder("bits", self.length)
        return np.asarray(decoder.decode(_swapped(pixels), self.name)).astype(np.uint8)

    def _require_area(self, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        if height * width < MINIMUM_PIXELS:
            raise WatermarkError(
                f"{self.name} needs at least 256 x 256 pixels, not {width} x {height}",
                hint="use the product's own mark",
            )


def _swapped(pixels: Pixels) -> Pixels:
    """RGB to BGR, which the package works in, and back."""
    return np.ascontiguousarray(pixels[..., ::-1])


def _load(method: str) -> Any:
    try:
        import imwatermark

        if method == "rivaGan":
            imwatermark.WatermarkEncoder.loadModel()
    except ImportError as error:
        raise UnavailableError(
            f"{method} needs the package invisible-watermark: {error}",
            hint="pip install 'latent-guardrails[generate]'",
        ) from error
    return imwatermark
