"""Scenes encoded once, so that the diffusion model trains on latents alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.pocket.autoencoder import new_autoencoder, random_scene, to_tensor
from guardrails.pocket.training import Library, load_checkpoint

SHARD = 512


@dataclass(frozen=True, slots=True)
class LatentPool:
    """latents: float16 (n, channels, 16, 16), unscaled; captions: n strings; scale: 1 / standard deviation."""

    latents: NDArray[np.float16]
    captions: list[str]
    scale: float

    @classmethod
    def open(cls, work: Path) -> LatentPool:
        """Read every finished shard."""
        shards = sorted((work / "latents").glob("*.npy"))
        latents = np.concatenate([np.load(shard) for shard in shards])
        captions = [c for shard in shards for c in json.loads(shard.with_suffix(".json").read_text())]
        return cls(latents, captions, float(1 / latents.astype(np.float32).std()))


def trained_autoencoder(work: Path) -> Any:
    """The averaged weights of the last autoencoder checkpoint, ready for inference."""
    state = load_checkpoint(work / "autoencoder.pt")
    if state is None:
        raise FileNotFoundError(work / "autoencoder.pt")
    model = new_autoencoder()
    model.load_state_dict(state["average"])
    return model.eval()


def encode_scenes(library: Library, work: Path, numbers: range, report: Callable[[int], None]) -> None:
    """Write the shards `numbers` of the pool; a shard that exists is kept.

    Each shard has its own seed, so several processes may make disjoint ranges.
    """
    import torch

    folder = work / "latents"
    folder.mkdir(exist_ok=True)
    model = trained_autoencoder(work)
    for number in numbers:
        target = folder / f"{number:04d}.npy"
        if target.exists():
            continue
        rng = np.random.default_rng(number)
        parts, captions = [], []
        for start in range(0, SHARD, 8):
            scenes = [random_scene(library, rng) for _ in range(8)]
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                parts.append(model.encode(to_tensor([s.pixels for s in scenes])).latent_dist.mode().float().numpy())
            captions += [scene.caption for scene in scenes]
            report(number * SHARD + start + 8)
        target.with_suffix(".json").write_text(json.dumps(captions))
        partial = target.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts).astype(np.float16))
        partial.rename(target)
