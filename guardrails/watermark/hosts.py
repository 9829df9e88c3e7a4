"""Pictures to measure the mark on: a folder of the user's own, or drawn here by seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from guardrails.errors import OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff"})
# Longer pictures are cut in the middle, so that all hosts take about the same time.
_LONGEST_ASPECT = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An unmarked picture. `kind` is "file", "drawing" or "scene"."""

    name: str
    kind: str
    pixels: Pixels


def load_hosts(folder: Path | None, *, size: int, limit: int) -> list[Host]:
    """At most `limit` pictures, evenly spread over the sorted names; short side `size`. None draws them.

    Raises:
        OptionError: there is no picture in the folder.
    """
    if folder is None:
        return list(drawn_hosts(size=size, count=limit))
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise OptionError(f"there is no picture in {folder}", hint="name a folder of PNG, JPEG, WebP, AVIF or TIFF")
    chosen = files[:: -(-len(files) // limit)]
    return [
        Host(name=path.name, kind="file", pixels=fitted(decode(read_image_bytes(path)).pixels, size)) for path in chosen
    ]


def drawn_hosts(*, size: int, count: int) -> Iterator[Host]:
    """Drawings and scenes in turn; equal numbers give equal pictures."""
    for number in range(count):
        kind, draw = ("drawing", drawing) if number % 2 == 0 else ("scene", scene)
        yield Host(name=f"{kind} {number // 2 + 1}", kind=kind, pixels=draw(number // 2 + 1, size))


def fitted(pixels: Pixels, size: int) -> Pixels:
    """Bring the short side to `size` and cut the long side to at most 3:2."""
    height, width = pixels.shape[:2]
    rows, columns = (min(side, round(_LONGEST_ASPECT * min(height, width))) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    part, scale = pixels[top : top + rows, left : left + columns], size / min(rows, columns)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(part, (round(columns * scale), round(rows * scale)), interpolation=method)  # type: ignore[return-value]


def drawing(seed: int, size: int) -> Pixels:
    """Plain coloured shapes on a plain coloured ground."""
    rng = np.random.default_rng(seed)
    picture = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(6):
        centre = tuple(int(v) for v in rng.integers(size // 4, 3 * size // 4, 2))
        axes = tuple(int(v) for v in rng.integers(size // 16, size // 4, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def scene(seed: int, size: int) -> Pixels:
    """A picture with a photograph's spectrum: amplitudes fall with the frequency, and some grain."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    fall = 1 / np.maximum(radius, 1 / size) ** 1.2
    planes = [np.fft.irfft2(fall * np.fft.rfft2(rng.normal(size=(size, size))), (size, size)) for _ in range(3)]
    picture = np.stack([p / p.std() for p in planes], axis=-1) * 30 + 120 + rng.normal(0, 2, (size, size, 3))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
