"""Train the learned front end: from a picture's luma, guess the pattern that a mark may have added.

The network corrects the whitening filter. It is taught with marks of keys that are drawn at random and thrown away, so
it knows what marks look like and nothing about any key: a detector behind it keeps its null distribution.

Run: python -m guardrails.watermark.front_training PICTURES --output datasets/watermark/front.onnx

PICTURES is a folder of pictures; a share of the hosts is drawn. The state is kept beside the output (suffix .pt): a run
that was stopped goes on where it was, with new examples.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.watermark.carrier import HIGHEST_RADIUS, LOWEST_RADIUS, TILE
from guardrails.watermark.embedding import TILT, TILT_RADIUS
from guardrails.watermark.front_examples import PATCH, view, windows
from guardrails.watermark.front_features import BLOCK, CHANNELS, OUTPUTS, features, gather

WIDTH = 32
DILATIONS = (1, 2, 4, 2, 1)
BATCH, FRESH, KEPT = 16, 2, 768
RATE, WEIGHT_DECAY, WARM_UP, LAST_RATE, LARGEST_GRADIENT = 2e-3, 1e-4, 100, 0.01, 1.0
SAVE_EVERY = 100
LEAST_INFORMATION, LEAST_RMS = 20.0, 0.02


def network() -> Any:
    """Plain convolutions on half-resolution blocks: 12 channels in, 4 out, at first a correction of nothing."""
    from torch import nn

    last = nn.Conv2d(WIDTH, OUTPUTS, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    layers: list[Any] = [nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.ReLU()]
    for dilation in DILATIONS:
        layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, last)


def information(output: Any, target: Any) -> Any:
    """How much of the pattern the output tells, as a detector would use it: shape (n,).

    The square of their correlation over the carrier's band, with its sign, times the number of its coefficients. The
    target is levelled: there every radius has the same power, so the output's power at a radius becomes the weight that
    this radius deserves.

    Args:
        output, target: shape (n, 4, PATCH / 2, PATCH / 2).
    """
    import torch
    from torch.nn.functional import pixel_shuffle

    radius = np.hypot(np.fft.fftfreq(PATCH)[:, None], np.fft.rfftfreq(PATCH)[None]) * TILE
    inside = (radius > LOWEST_RADIUS - 1) & (radius < HIGHEST_RADIUS + 3)
    level = torch.from_numpy(np.where(inside, np.maximum(radius, TILT_RADIUS) ** TILT, 0).astype(np.float32))
    first, second = (torch.fft.rfft2(pixel_shuffle(blocks, BLOCK)[:, 0]) for blocks in (output, target))
    first, second = first * (level > 0), second * level
    agreement = (first * second.conj()).real.sum((1, 2))
    # An output of almost nothing counts as nothing: its gradient would drown all others.
    least = inside.sum() * (PATCH * LEAST_RMS) ** 2
    power = (_power(first) + least) * _power(second)
    return int(inside.sum()) * agreement * agreement.abs() / power


def _power(spectrum: Any) -> Any:
    return (spectrum.real**2 + spectrum.imag**2).sum((1, 2))


def train(pictures: list[Pixels], state: Path, *, steps: int, pool: int, seed: int) -> Any:
    """Train for `steps` batches, each from the last KEPT attacked windows, FRESH of which are new.

    Args:
        state: kept here, and taken up from here.
        pool: marked hosts that windows are taken from.
    """
    import torch

    torch.manual_seed(seed)
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    first = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
    rng = np.random.default_rng((seed, first))
    source = windows(pictures, rng, pool=pool)
    kept = list(islice(source, BATCH))
    started, mean = time.monotonic(), 0.0
    for step in range(first, steps):
        for window in islice(source, FRESH):
            if len(kept) < KEPT:
                kept.append(window)
            else:
                kept[int(rng.integers(KEPT))] = window
        for group in optimiser.param_groups:
            decay = LAST_RATE + (1 - LAST_RATE) * (1 - step / steps)
            group["lr"] = RATE * min(1.0, (step - first + 1) / WARM_UP) * decay
        gain = _step(model, optimiser, [view(kept[int(i)], rng) for i in rng.integers(len(kept), size=BATCH)])
        mean += (gain - mean) / min(200, step - first + 1)
        if (step + 1) % SAVE_EVERY == 0:
            kept_state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save(kept_state, state.with_suffix(".part"))
            os.replace(state.with_suffix(".part"), state)
            told = f"information x {math.exp(mean):.4f} against whitening"
            print(f"step {step + 1} of {steps}: {told}, {time.monotonic() - started:.0f} s", flush=True)
    return model


def _step(model: Any, optimiser: Any, batch: list[tuple[Any, Any]]) -> float:
    """One step on patches of frames and patterns; the mean gain over the whitening filter, as a logarithm.

    The loss behaves as a logarithm, too: a picture in which little is left counts as much as one in which all is.
    """
    import torch

    seen = torch.from_numpy(np.concatenate([features(frame) for frame, _ in batch]))
    wanted = torch.from_numpy(np.concatenate([gather(pattern[None]) for _, pattern in batch]))
    with torch.autocast("cpu", torch.bfloat16):
        correction = model(seen)
    whitened = seen[:, :OUTPUTS]
    told = torch.asinh(information(whitened + correction.float(), wanted) / LEAST_INFORMATION)
    optimiser.zero_grad()
    (-told.mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    optimiser.step()
    before = torch.asinh(information(whitened, wanted) / LEAST_INFORMATION)
    return float((told.detach() - before).mean())


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
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--pool", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.pictures.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))
    pictures = [decode(read_image_bytes(path)).pixels for path in files]
    cv2.setNumThreads(1)
    state = arguments.output.with_suffix(".pt")
    model = train(pictures, state, steps=arguments.steps, pool=arguments.pool, seed=arguments.seed)
    export(model, arguments.output)
    print(f"{arguments.output}: {os.path.getsize(arguments.output)} bytes, from {len(pictures)} pictures")


if __name__ == "__main__":
    main()
