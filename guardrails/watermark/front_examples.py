"""What the learned front end is taught with: pieces of marked, attacked pictures, and the pattern that is in them.

Every mark has a key that was drawn at random and is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.watermark import attacks
from guardrails.watermark.coding import encode
from guardrails.watermark.embedding import embed, tiles_of
from guardrails.watermark.frame import SHORT_SIDE, Plane, canonical, luma, resize
from guardrails.watermark.keys import Keyring
from guardrails.watermark.payload import Payload

PATCH, WINDOW = 128, 320
HOST = 512
KEYRINGS = 16
DRAWN_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Example:
    """A host, the same picture marked, and the pattern that was added (unit variance, no mask): all HOST pixels."""

    host: Pixels
    marked: Pixels
    pattern: Plane


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of an attacked picture's luma, and of the pattern in it: uint8 and float16, WINDOW pixels."""

    frame: NDArray[np.uint8]
    pattern: NDArray[np.float16]


def windows(pictures: list[Pixels], rng: np.random.Generator, *, pool: int) -> Iterator[Window]:
    """Attacked windows without end, from a pool of marked hosts, one of which is renewed at every fourth window."""
    examples = make_examples(pictures, pool, rng)
    while True:
        for _ in range(4):
            yield attacked_window(examples[int(rng.integers(pool))], rng)
        examples[int(rng.integers(pool))] = make_examples(pictures, 1, rng)[0]


def drawn(rng: np.random.Generator) -> Pixels:
    """A host of this file's own: falling leaves of random colours, some with grain, over a cloudy or smooth ground."""
    radius = np.hypot(np.fft.fftfreq(HOST)[:, None], np.fft.rfftfreq(HOST)[None])
    fall = 1 / np.maximum(radius, 1 / HOST) ** rng.uniform(0.9, 3.0)
    clouds = np.fft.irfft2(fall * np.fft.rfft2(rng.normal(size=(HOST, HOST))), (HOST, HOST))
    ground = rng.uniform(30, 225, 3) + (clouds / clouds.std())[..., None] * rng.uniform(0, 40, 3)
    picture = np.clip(ground, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 60))):
        centre, axes = rng.integers(0, HOST, 2), (4 + 120 * rng.random(2) ** 3).astype(int)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(picture, tuple(map(int, centre)), tuple(map(int, axes)), turn, 0, 360, colour, -1, cv2.LINE_AA)
    grain = rng.normal(0, rng.choice([0.0, 0.0, 2.0, 6.0]), picture.shape)
    grained: Pixels = np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)
    return grained


def photographed(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A random square of a picture, at a random scale, as a host of HOST pixels."""
    short = min(picture.shape[:2])
    side = int(short * rng.uniform(min(1.0, max(0.35, HOST / short)), 1.0))
    top, left = (int(rng.integers(0, whole - side + 1)) for whole in picture.shape[:2])
    square = picture[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > HOST else cv2.INTER_CUBIC
    return cv2.resize(square, (HOST, HOST), interpolation=method)  # type: ignore[return-value]


def make_examples(pictures: list[Pixels], count: int, rng: np.random.Generator) -> list[Example]:
    """Mark hosts with keys that nobody keeps."""
    keyrings = [Keyring(rng.bytes(32)) for _ in range(min(count, KEYRINGS))]
    examples = []
    for _ in range(count):
        drawing = not pictures or rng.random() < DRAWN_SHARE
        host = drawn(rng) if drawing else photographed(pictures[int(rng.integers(len(pictures)))], rng)
        keys = keyrings[int(rng.integers(len(keyrings)))].keys(0)
        payload = Payload(mark_id=rng.bytes(8).hex(), epoch=0)
        coded = encode(payload.to_bits(keys.check_key))
        tiles = tiles_of(canonical(luma(host)), keys.carrier_of(payload.mark_id), coded)
        examples.append(Example(host, embed(host, payload, keys).pixels, resize(tiles, HOST, HOST)))
    return examples


def attacked(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """What happens to a picture, with strengths over wide ranges; no strength of the shipped suite is singled out."""
    draws: list[tuple[float, Callable[[], attacks.Transform]]] = [
        (0.06, lambda: attacks.unchanged),
        (0.18, lambda: attacks.jpeg(int(rng.integers(20, 95)))),
        (0.20, lambda: attacks.webp(int(rng.integers(28, 85)))),
        (0.06, lambda: attacks.avif(int(rng.integers(35, 75)))),
        (0.06, lambda: attacks.blurred(rng.uniform(0.5, 2.2))),
        (0.08, lambda: attacks.noisy(rng.uniform(2, 13))),
        (0.02, lambda: attacks.median(3)),
        (0.03, lambda: attacks.bilateral(7, rng.uniform(15, 40), 5)),
        (0.16, lambda: attacks.denoised(rng.uniform(3, 9))),
        (0.15, lambda: _regenerated(rng)),
    ]
    shares = np.array([share for share, _ in draws])
    first, second = (draws[int(rng.choice(len(draws), p=shares / shares.sum()))][1]() for _ in range(2))
    return first(pixels, rng) if rng.random() < 0.8 else attacks.chain(first, second)(pixels, rng)


def _regenerated(rng: np.random.Generator) -> attacks.Transform:
    """Noise, non-local means and a smaller size, each of its own strength."""
    return attacks.chain(
        attacks.noisy(rng.uniform(4, 15)),
        attacks.denoised(rng.uniform(4, 11)),
        attacks.there_and_back(rng.uniform(0.4, 1.0)),
    )


def attacked_window(example: Example, rng: np.random.Generator) -> Window:
    """A window of an example, at a random strength of the mark, after an attack."""
    top, left = (8 * int(v) for v in rng.integers(0, (HOST - WINDOW) // 8 + 1, 2))
    window = np.s_[top : top + WINDOW, left : left + WINDOW]
    share = np.float32(rng.uniform(0.8, 1.1))
    blend = example.host[window] + share * (example.marked[window].astype(np.float32) - example.host[window])
    frame = luma(attacked(np.clip(np.rint(blend), 0, 255).astype(np.uint8), rng))
    return Window(np.rint(frame).astype(np.uint8), example.pattern[window].astype(np.float16))


def view(window: Window, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """A scaled, turned and mirrored piece of frame and pattern, each float32 (PATCH, PATCH)."""
    zoom = HOST / SHORT_SIDE / (1.0 if rng.random() < 0.6 else rng.uniform(0.9, 1.45))
    angle = rng.uniform(-12, 12) if rng.random() < 0.25 else 0.0
    cosine, sine = zoom * math.cos(math.radians(angle)), zoom * math.sin(math.radians(angle))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = WINDOW / 2 - linear @ np.array([PATCH / 2, PATCH / 2]) + rng.uniform(-32, 32, 2)
    matrix = np.hstack([linear, middle[:, None]])
    pair = np.stack([_sampled(plane.astype(np.float32), matrix, zoom) for plane in (window.frame, window.pattern)])
    for axis in (1, 2):
        if rng.random() < 0.5:
            pair = np.flip(pair, axis)
    if rng.random() < 0.5:
        pair = pair.swapaxes(1, 2)
    return np.ascontiguousarray(pair[0]), np.ascontiguousarray(pair[1])


def _sampled(plane: Plane, matrix: NDArray[np.float64], zoom: float) -> Plane:
    """A patch of a plane, blurred as much as shrinking by `zoom` needs."""
    sampled: Plane = cv2.warpAffine(  # type: ignore[assignment]
        cv2.GaussianBlur(plane, (0, 0), 0.3 * zoom),
        matrix,
        (PATCH, PATCH),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return sampled
