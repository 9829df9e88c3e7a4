"""What both trainings share: pictures at hand, a moving average of weights, checkpoints, a schedule."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.pocket.dataset import PICTURES, Picture, read_manifest

Report = Callable[[int, int, float], None]
"""Called as report(step, steps, loss)."""


@dataclass(frozen=True, slots=True)
class Library:
    """The pictures that a model may learn from. `rgba` is uint8 (n, 256, 256, 4), row i belongs to `pictures[i]`."""

    pictures: list[Picture]
    rgba: NDArray[np.uint8]

    @classmethod
    def open(cls, work: Path, manifest: Path) -> Library:
        """Map the rendered pictures and keep the rows marked as trained."""
        rows = read_manifest(manifest)
        kept = [number for number, row in enumerate(rows) if row.trained]
        store = np.load(work / PICTURES, mmap_mode="r")
        return cls([rows[number] for number in kept], store[kept])


class MovingAverage:
    """Exponential moving average of the weights of some modules; what is saved as the model.

    The decay follows the step count at first so that early noise is forgotten.
    """

    def __init__(self, *modules: Any, decay: float) -> None:
        self.modules = modules
        self.decay = decay
        self.shadow = [{k: v.detach().clone() for k, v in m.state_dict().items()} for m in modules]

    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for module, shadow in zip(self.modules, self.shadow, strict=True):
            for key, value in module.state_dict().items():
                if value.dtype.is_floating_point:
                    shadow[key].lerp_(value, 1 - decay)
                else:
                    shadow[key].copy_(value)


def cosine(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state so that a kill leaves the old one or the new one."""
    import torch

    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last training state, or None. Reads tensors and plain values only."""
    import torch

    return torch.load(path, weights_only=True) if path.exists() else None
