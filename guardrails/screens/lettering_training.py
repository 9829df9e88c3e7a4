"""Train the network of `lettering`.

Run::

    python -m guardrails.screens.lettering_training train PHOTOGRAPHS.zip FONTS STATE.pt --minutes 4
    python -m guardrails.screens.lettering_training export STATE.pt datasets/screens/lettering.onnx

The archive holds JPEGs without lettering; FONTS has the folders `train` and `held`. Every tenth photograph by name and
the held fonts are kept aside: the state of the best measure on them is kept. A GPU is used where there is one; the
pieces are drawn by worker processes, as fast as the network learns from them.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import random
import threading
import time
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.screens.lettering_overlays import SIDE, Pair, pair

# Of twins: what a worker draws at once, and what the network sees in a step.
TASK, BATCH = 8, 64
# Tasks that may wait for the network.
AHEAD = 64
MISSES = (0.005, 0.01, 0.02, 0.05)

Batch = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]]


def build() -> Any:
    """The network: luma 0..1, (n, 1, height, width), to logits of "lettering here", (n, 1, height/16, width/16)."""
    from torch import nn

    def convolution(into: int, out: int, size: int, *, stride: int = 1, groups: int = 1) -> Any:
        plain = nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(plain, nn.BatchNorm2d(out), nn.ReLU())

    class Block(nn.Module):  # type: ignore[misc]
        """A depthwise 5 x 5 and a pointwise convolution, added to what came in."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.deep = convolution(width, width, 5, groups=width)
            self.wide = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
            self.end = nn.ReLU()

        def forward(self, seen: Any) -> Any:
            return self.end(seen + self.wide(self.deep(seen)))

    head = nn.Conv2d(160, 1, 1)
    nn.init.constant_(head.bias, -2.0)
    return nn.Sequential(
        convolution(1, 24, 3, stride=2),
        convolution(24, 48, 3, stride=2),
        convolution(48, 80, 3, stride=2),
        *(Block(80) for _ in range(3)),
        convolution(80, 80, 5, stride=2, groups=80),
        convolution(80, 160, 1),
        *(Block(160) for _ in range(4)),
        head,
    )


def surest() -> Any:
    """From the map to one logit a picture: the mean of its strongest two by two cells; one cell alone is no word."""
    from torch import nn

    return nn.Sequential(nn.AvgPool2d(2, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(0))


def loss_of(logits: Any, cells: Any, shows: Any) -> Any:
    """Cross-entropy of cells and of whole pictures. Cells beside ink are asked for nothing; faint ink weighs less.

    Args:
        logits: (2n, 1, rows, columns), lettered and plain in turn.
        cells: (n, rows, columns), where the lettered ones have ink.
        shows: (n), 0..1.
    """
    from torch.nn.functional import max_pool2d, softplus

    lettered, plain = logits[0::2], logits[1::2]
    inked = cells.unsqueeze(1).float()
    far = 1 - max_pool2d(inked, 3, 1, 1)
    weight = shows[:, None, None, None] * inked
    missed = (softplus(-lettered) * weight).sum() / (weight.sum() + 1)
    false = ((softplus(lettered) * far).sum() + softplus(plain).sum()) / (far.sum() + plain.numel())
    pool = surest()
    whole = (softplus(-pool(lettered)) * shows).sum() / (shows.sum() + 1) + softplus(pool(plain)).mean()
    return missed + 2 * false + 0.5 * whole


class _Material:
    """What one worker draws from: photographs, fonts and names, to learn from or held out."""

    held: bool
    photographs: dict[bool, list[bytes]]
    fonts: dict[bool, list[str]]
    names: list[str]


def _load(archive: Path, fonts: Path, names: list[str]) -> None:
    cv2.setNumThreads(1)
    with zipfile.ZipFile(archive) as file:
        entries = sorted(file.namelist())
        _Material.photographs = {
            held: [file.read(entry) for number, entry in enumerate(entries) if (number % 10 == 0) == held]
            for held in (False, True)
        }
    folders = {False: fonts / "train", True: fonts / "held"}
    _Material.fonts = {held: sorted(map(str, folder.iterdir())) for held, folder in folders.items()}
    _Material.names = names


def _drawn(chance: random.Random, *, held: bool, **options: Any) -> Pair:
    photograph = chance.choice(_Material.photographs[held])
    return pair(chance, photograph, _Material.fonts[held], _Material.names, **options)


def _task(seed: int) -> Batch:
    chance = random.Random(seed)  # noqa: S311 (no secret)
    drawn = [_drawn(chance, held=False) for _ in range(TASK)]
    return (
        np.stack([one for lettered, plain, _, _ in drawn for one in (lettered, plain)]),
        np.stack([cells for _, _, cells, _ in drawn]),
        np.array([shows for _, _, _, shows in drawn], np.float32),
    )


def _held_out(seed: int) -> NDArray[np.uint8]:
    """One whole photograph with lettering that shows, and without: (2, 640, 640)."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    while True:
        lettered, plain, _, shows = _drawn(chance, held=True, side=SIDE)
        if shows > 0.8:
            return np.stack([lettered, plain])


def _batches(pool: Any, seed: int) -> Generator[Batch]:
    slots, done, parts = threading.Semaphore(AHEAD), threading.Event(), []

    def seeds() -> Iterator[int]:
        number = seed * 1_000_000_000
        while slots.acquire() and not done.is_set():
            number += 1
            yield number

    try:
        for part in pool.imap_unordered(_task, seeds()):
            slots.release()
            parts.append(part)
            if len(parts) * TASK >= BATCH:
                luma, cells, shows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
                yield luma, cells, shows
                parts = []
    finally:
        # The pool's own thread waits for a slot, and the pool does not end before that thread does.
        done.set()
        slots.release()


def measure(network: Any, pictures: list[NDArray[np.uint8]], device: str) -> dict[str, float]:
    """The share of plain pictures that pass at thresholds which lose a stated share of the lettered ones."""
    import torch

    network.eval()
    scores, pool = [], surest()
    with torch.inference_mode():
        for start in range(0, len(pictures), 8):
            luma = torch.from_numpy(np.concatenate(pictures[start : start + 8])).to(device).unsqueeze(1)
            scores.append(pool(network(luma.float() / 255)).cpu().numpy())
    values = np.concatenate(scores)
    lettered, plain = np.sort(values[0::2]), values[1::2]
    thresholds = {miss: lettered[int(miss * len(lettered))] for miss in MISSES}
    return {
        "n": len(lettered),
        **{f"passed_at_miss_{miss}": float((plain >= threshold).mean()) for miss, threshold in thresholds.items()},
        **{f"logit_at_miss_{miss}": float(threshold) for miss, threshold in thresholds.items()},
    }


def train(options: argparse.Namespace) -> None:
    """Learn for `options.minutes` and keep the state that lets fewest of the held-out plain pictures pass."""
    import torch

    began, limit = time.monotonic(), 60 * options.minutes
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    names = options.names.read_text().splitlines() if options.names else []
    # The workers are forked before CUDA is touched.
    context = multiprocessing.get_context("fork")
    with (
        context.Pool(options.workers, _load, (options.photographs, options.fonts, names)) as pool,
        closing(_batches(pool, options.seed)) as batches,
    ):
        pictures = pool.map(_held_out, range(options.held), chunksize=1)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = build().to(device, memory_format=torch.channels_last)
        average = torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-3)
        best, log, last = math.inf, [], time.monotonic()
        for step, batch in enumerate(batches, 1):
            share = (time.monotonic() - began) / limit
            rate = options.rate * min(1, step / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1, share))) / 2)
            loss = _step(network, optimiser, batch, rate, device)
            average.update_parameters(network)
            if step % 50 == 0:
                print(f"{share * limit:6.1f} s  step {step}  loss {loss.item():.4f}", flush=True)
            if share < 1 and time.monotonic() - last < max(15, limit / 16):
                continue
            report = {"step": step, "seconds": round(share * limit), **measure(average.module, pictures, device)}
            print(json.dumps(report), flush=True)
            log.append(report)
            options.state.with_suffix(".json").write_text(json.dumps(log, indent=1))
            passed = sum(report[f"passed_at_miss_{miss}"] for miss in MISSES)
            torch.save(average.module.state_dict(), options.state.with_suffix(".last.pt"))
            if passed <= best:
                best = passed
                torch.save(average.module.state_dict(), options.state)
            if share >= 1:
                break
            last = time.monotonic()


def _step(network: Any, optimiser: Any, batch: Batch, rate: float, device: str) -> Any:
    import torch

    network.train()
    luma, cells, shows = (torch.from_numpy(array).to(device) for array in batch)
    pixels = (luma.unsqueeze(1).float() / 255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = network(pixels)
    loss = loss_of(logits.float(), cells, shows)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss.detach()


def export(options: argparse.Namespace) -> None:
    """Write an ONNX file that takes any height and width, its weights as float16."""
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper

    network = build()
    network.load_state_dict(torch.load(options.state, map_location="cpu", weights_only=True))
    buffer = io.BytesIO()
    torch.onnx.export(
        torch.nn.Sequential(network, surest(), torch.nn.Sigmoid()).eval(),
        (torch.zeros(1, 1, 64, 64),),
        buffer,
        input_names=["luma"],
        output_names=["lettering"],
        dynamic_axes={"luma": {2: "rows", 3: "columns"}},
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    graph, casts = model.graph, []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model)
    options.output.write_bytes(model.SerializeToString())


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description="Train the network that sees lettering.")
    verbs = parser.add_subparsers(required=True)
    learn = verbs.add_parser("train")
    learn.add_argument("photographs", type=Path, help="zip archive of JPEGs without lettering")
    learn.add_argument("fonts", type=Path, help="folder with the folders train and held")
    learn.add_argument("state", type=Path, help="file to keep the best state in")
    learn.add_argument("--names", type=Path, help="names to lay over besides random words, one a line")
    learn.add_argument("--minutes", type=float, default=4)
    learn.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    learn.add_argument("--rate", type=float, default=3e-3)
    learn.add_argument("--held", type=int, default=500)
    learn.add_argument("--seed", type=int, default=0)
    learn.set_defaults(run=train)
    write = verbs.add_parser("export")
    write.add_argument("state", type=Path)
    write.add_argument("output", type=Path)
    write.set_defaults(run=export)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
