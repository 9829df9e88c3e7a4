"""Synthetic pictures: flat drawings, textures, and the key that all tests share."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from guardrails.imaging import Pixels
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

MARK_ID = "0123456789abcdef"


def drawing(seed: int, size: int = 256) -> Pixels:
    """Plain coloured shapes on a plain coloured ground, the hardest host at this size."""
    rng = np.random.default_rng(seed)
    picture = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(6):
        centre = tuple(int(v) for v in rng.integers(size // 4, 3 * size // 4, 2))
        axes = tuple(int(v) for v in rng.integers(size // 16, size // 4, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def scene(seed: int, height: int = 384, width: int = 512) -> Pixels:
    """A picture with a photograph's spectrum: amplitudes fall with the frequency, some grain, some objects."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    fall = 1 / np.maximum(radius, 1 / width) ** 1.2
    planes = [np.fft.irfft2(fall * np.fft.rfft2(rng.normal(size=(height, width))), (height, width)) for _ in range(3)]
    picture = np.stack([p / p.std() for p in planes], axis=-1) * 30 + 120 + rng.normal(0, 2, (height, width, 3))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def keyring() -> Keyring:
    return Keyring(bytes(range(32)))


@pytest.fixture(scope="session")
def mark(keyring: Keyring) -> PixelMark:
    return PixelMark(keyring)


@pytest.fixture(scope="session")
def pictures() -> list[Pixels]:
    """Unmarked hosts of both kinds."""
    return [drawing(1), drawing(2), drawing(3, 320), scene(1), scene(2, 300, 256)]


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Pixels]:
    return scene


@pytest.fixture(scope="session", params=["drawing", "scene"])
def marked(request: pytest.FixtureRequest, mark: PixelMark) -> Pixels:
    """A marked drawing of 256 x 256 and a marked scene of 512 x 384."""
    host = drawing(4) if request.param == "drawing" else scene(4)
    return mark.embed(host, MARK_ID).pixels
