"""Train the learned front end: from a picture's luma, guess the pattern that a mark may have added.

The network replaces the whitening filter. It is taught with marks of keys that are drawn at random and thrown away, so
it knows what marks look like and nothing about any key: a detector behind it keeps its null distribution.

Run: python -m guardrails.watermark.front_training PICTURES --output datasets/watermark/front.onnx

PICTURES is a folder of pictures; half of the hosts are drawn by this file.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.watermark import attacks
from guardrails.watermark.coding import encode
from guardrails.watermark.embedding import embed, tiles_of
from guardrails.watermark.frame import SHORT_SIDE, Plane, canonical, luma, resize
from guardrails.watermark.front_features import BLOCK, CHANNELS, features, gather
from guardrails.watermark.keys import Keyring
from guardrails.watermark.payload import Payload

WIDTH = 40
DILATIONS = (1, 2, 4, 2, 1)
PATCH, WINDOW = 128, 320
VIEWS, BATCH = 2, 16
RATE, WEIGHT_DECAY, WARM_UP, LAST_RATE = 2e-3, 1e-4, 40, 0.02
HOST = 512
KEYRINGS = 16


@dataclass(frozen=True, slots=True)
class Example:
    """A host, the same picture marked, and the pattern that was added (unit variance, no mask): all HOST pixels."""

    host: Pixels
    marked: Pixels
    pattern: Plane


def network() -> Any:
    """Plain convolutions on half-resolution blocks: 8 channels in, 4 out."""
    from torch import nn

    layers: list[Any] = [nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.ReLU()]
    for dilation in DILATIONS:
        layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, BLOCK * BLOCK, 3, padding=1))


def drawn(rng: np.random.Generator) -> Pixels:
    """A host of this file's own: falling leaves of random colours, some with grain, over a cloudy ground."""
    radius = np.hypot(np.fft.fftfreq(HOST)[:, None], np.fft.rfftfreq(HOST)[None])
    fall = 1 / np.maximum(radius, 1 / HOST) ** rng.uniform(0.9, 2.0)
    clouds = np.fft.irfft2(fall * np.fft.rfft2(rng.normal(size=(HOST, HOST))), (HOST, HOST))
    ground = rng.uniform(60, 190, 3) + (clouds / clouds.std())[..., None] * rng.uniform(0, 40, 3)
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
    keyrings = [Keyring(rng.bytes(32)) for _ in range(KEYRINGS)]
    examples = []
    for _ in range(count):
        drawing = not pictures or rng.random() < 0.3
        host = drawn(rng) if drawing else photographed(pictures[int(rng.integers(len(pictures)))], rng)
        keys = keyrings[int(rng.integers(KEYRINGS))].keys(0)
        payload = Payload(mark_id=rng.bytes(8).hex(), epoch=0)
        coded = encode(payload.to_bits(keys.check_key))
        tiles = tiles_of(canonical(luma(host)), keys.carrier_of(payload.mark_id), coded)
        examples.append(Example(host, embed(host, payload, keys).pixels, resize(tiles, HOST, HOST)))
    return examples


def attacked(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """What happens to a picture, with strengths over wide ranges; no strength of the shipped suite is singled out."""
    draws: list[tuple[float, Callable[[], attacks.Transform]]] = [
        (0.12, lambda: attacks.unchanged),
        (0.28, lambda: attacks.jpeg(int(rng.integers(20, 95)))),
        (0.10, lambda: attacks.webp(int(rng.integers(35, 90)))),
        (0.05, lambda: attacks.avif(int(rng.integers(40, 80)))),
        (0.08, lambda: attacks.blurred(rng.uniform(0.5, 2.2))),
        (0.10, lambda: attacks.noisy(rng.uniform(2, 13))),
        (0.03, lambda: attacks.median(3)),
        (0.04, lambda: attacks.bilateral(7, rng.uniform(15, 40), 5)),
        (0.08, lambda: attacks.denoised(rng.uniform(3, 8))),
        (0.07, lambda: attacks.regenerated(rng.uniform(8, 14), rng.uniform(6, 10))),
    ]
    shares = np.array([share for share, _ in draws])
    first, second = (draws[int(rng.choice(len(draws), p=shares / shares.sum()))][1]() for _ in range(2))
    return first(pixels, rng) if rng.random() < 0.7 else attacks.chain(first, second)(pixels, rng)


def views(example: Example, rng: np.random.Generator) -> list[tuple[Plane, Plane]]:
    """Patches of one attacked frame and of the pattern in it, each float32 (PATCH, PATCH)."""
    top, left = (8 * int(v) for v in rng.integers(0, (HOST - WINDOW) // 8 + 1, 2))
    window = np.s_[top : top + WINDOW, left : left + WINDOW]
    share = np.float32(rng.uniform(0.7, 1.1))
    blend = example.host[window] + share * (example.marked[window].astype(np.float32) - example.host[window])
    frame = luma(attacked(np.clip(np.rint(blend), 0, 255).astype(np.uint8), rng))
    return [_patch(frame, example.pattern[window], rng) for _ in range(VIEWS)]


def _patch(frame: Plane, pattern: Plane, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """The same scaled, turned and mirrored piece of both planes."""
    zoom = HOST / SHORT_SIDE / (1.0 if rng.random() < 0.5 else rng.uniform(0.9, 1.45))
    angle = rng.uniform(-12, 12) if rng.random() < 0.3 else 0.0
    cosine, sine = zoom * math.cos(math.radians(angle)), zoom * math.sin(math.radians(angle))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = WINDOW / 2 - linear @ np.array([PATCH / 2, PATCH / 2]) + rng.uniform(-32, 32, 2)
    matrix = np.hstack([linear, middle[:, None]])
    pair = np.stack([_sampled(plane, matrix, zoom) for plane in (frame, pattern)])
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


def correlation(output: Any, target: Any) -> Any:
    """Mean over the batch of the correlation of two tensors of shape (n, 4, rows, columns)."""
    first, second = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (output, target))
    return ((first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1) + 1e-6)).mean()


def train(pictures: list[Pixels], *, steps: int, examples: int, seed: int) -> Any:
    """Train for `steps` batches on `examples` marked hosts, a sixteenth of which is renewed at every 16 steps."""
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pool = make_examples(pictures, examples, rng)
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    started, mean = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            decay = LAST_RATE + (1 - LAST_RATE) * (1 - step / steps)
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * decay
        if step % 16 == 15:
            fresh = make_examples(pictures, max(1, examples // 32), rng)
            for example in fresh:
                pool[int(rng.integers(len(pool)))] = example
        batch = [pair for _ in range(BATCH // VIEWS) for pair in views(pool[int(rng.integers(len(pool)))], rng)]
        seen = torch.from_numpy(np.concatenate([features(frame) for frame, _ in batch]))
        wanted = torch.from_numpy(np.concatenate([gather(pattern[None]) for _, pattern in batch]))
        with torch.autocast("cpu", torch.bfloat16):
            output = model(seen)
        loss = -correlation(output.float(), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mean += 0.05 * (-loss.item() - mean)
        if step % 20 == 19:
            print(f"step {step + 1} of {steps}: correlation {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return model


def export(model: Any, path: Path) -> None:
    """Write an ONNX file that takes any height and width."""
    import torch

    buffer = io.BytesIO()
    example = torch.zeros(1, CHANNELS, 64, 64)
    dynamic = {"frame": {2: "rows", 3: "columns"}, "pattern": {2: "rows", 3: "columns"}}
    torch.onnx.export(
        model.eval(),
        (example,),
        buffer,
        input_names=["frame"],
        output_names=["pattern"],
        dynamic_axes=dynamic,
        dynamo=False,
    )
    path.write_bytes(buffer.getvalue())


def main() -> None:
    """Parse the command line, train, export."""
    parser = argparse.ArgumentParser(description="Train the watermark detector's learned front end.")
    parser.add_argument("pictures", type=Path, help="folder of pictures to mark, searched in depth")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.pictures.rglob("*") if path.suffix in (".jpg", ".png"))
    pictures = [decode(read_image_bytes(path)).pixels for path in files]
    cv2.setNumThreads(1)
    model = train(pictures, steps=arguments.steps, examples=arguments.examples, seed=arguments.seed)
    export(model, arguments.output)
    print(f"{arguments.output}: {os.path.getsize(arguments.output)} bytes, from {len(pictures)} pictures")


if __name__ == "__main__":
    main()
