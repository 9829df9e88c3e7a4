from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from guardrails.domain.images import MarkReading
from guardrails.imaging import Pixels
from guardrails.testing.scheme_contract import scheme_violations
from guardrails.watermark.keys import Keyring
from guardrails.watermark.protocol import Embedded
from guardrails.watermark.scheme import PixelMark


class Broken(PixelMark):
    """The product's mark with one lie at a time."""

    def __init__(self, lie: str) -> None:
        super().__init__(Keyring(bytes(range(32))))
        self.lie = lie
        self.calls = 0

    def embed(self, pixels: Pixels, mark_id: str, **settings: int) -> Embedded:
        self.calls += 1
        if self.lie == "input":
            pixels[0, 0] += 1
        done = super().embed(pixels, mark_id, **settings)
        if self.lie == "psnr":
            return replace(done, embedding=replace(done.embedding, psnr=50.0))
        if self.lie == "unmarked":
            return replace(done, pixels=pixels.copy())
        if self.lie == "random":
            return replace(done, pixels=done.pixels ^ np.uint8(self.calls & 1))
        return done

    def detect(self, pixels: Pixels, mode: str = "standard") -> MarkReading:
        if self.lie == "crash" and pixels.ndim == 2:
            raise IndexError("tuple index out of range")
        reading = super().detect(pixels, mode)
        return replace(reading, p_value=1e-3) if self.lie == "p" else reading


def test_the_products_own_mark_keeps_the_contract() -> None:
    assert scheme_violations(PixelMark(Keyring(bytes(range(32))))) == []


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ("input", "changed its input"),
        ("psnr", "reports 50.0 dB"),
        ("unmarked", "was written"),
        ("random", "differently"),
        ("crash", "IndexError"),
        ("p", "says present at p"),
    ],
)
def test_each_lie_is_found_out(lie: str, complaint: str) -> None:
    assert any(complaint in sentence for sentence in scheme_violations(Broken(lie)))
