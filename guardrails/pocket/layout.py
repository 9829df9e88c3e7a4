"""First lesson of the text encoder: the hidden states behind a caption foretell the picture, patch by patch.

Learnt from noise alone, the way from words to shapes is the slowest part of training a small denoiser: at the noisiest
steps its error says little about any one picture. So the text encoder is first taught by plain regression. Each of the
last `LAYOUT_TOKENS` positions of a prompt (padding, unless the prompt is very long) stands for one patch of the latent,
and a linear head, thrown away afterwards, reads the patch from its hidden state. The denoiser then finds in its
cross-attention what is where, and learns what is left: detail, and everything that noise hides.

The idea is that of training against a locked representation (Zhai et al., "LiT", 2022), with the latent as the target.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guardrails.pocket.autoencoder import LATENT_CHANNELS
from guardrails.pocket.latents import LatentPool
from guardrails.pocket.text import LAYOUT_TOKENS, WIDTH, new_text_encoder, open_tokenizer, tokenize
from guardrails.pocket.training import MovingAverage, Report, cosine, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    import torch

BATCH = 64
LEARNING_RATE = 1e-3
CHECKPOINT_EVERY = 100
PATCHES = 4  # along each side of the latent; PATCHES ** 2 == LAYOUT_TOKENS


def train_layout(work: Path, *, steps: int, report: Report) -> None:
    """Train the text encoder, resuming from `work/layout.pt`."""
    import torch

    pool = LatentPool.open(work)
    tokenizer = open_tokenizer(work / "tokenizer")
    tokens = tokenize(tokenizer, pool.captions)
    torch.manual_seed(0)
    text = new_text_encoder(tokenizer)
    head = torch.nn.Linear(WIDTH, patch_size(pool.latents))
    parameters = [*text.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=1e-2, fused=True)
    average = MovingAverage(text, decay=0.998)
    start = 0
    state = load_checkpoint(work / "layout.pt")
    if state is not None:
        text.load_state_dict(state["text"])
        head.load_state_dict(state["head"])
        optimiser.load_state_dict(state["optimiser"])
        average.shadow = [state["average"]]
        start = int(state["step"])
    rng = np.random.default_rng(start)
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * cosine(step, steps, 100)
        rows = rng.integers(0, len(pool.captions), BATCH)
        target = torch.from_numpy(to_patches(pool.latents[rows].astype(np.float32) * np.float32(pool.scale)))
        loss = layout_loss(text, head, tokens[torch.from_numpy(rows)], target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update(step)
        report(step + 1, steps, loss.item())
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(
                work / "layout.pt",
                {
                    "text": text.state_dict(),
                    "head": head.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "average": average.shadow[0],
                    "step": step + 1,
                },
            )


def layout_loss(text: Any, head: Any, ids: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the patches that the last hidden states foretell."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        foretold = head(text(ids).last_hidden_state[:, -LAYOUT_TOKENS:])
    return torch.nn.functional.mse_loss(foretold.float(), target)


def patch_size(latents: NDArray[np.float16]) -> int:
    """Numbers in one patch of latents of shape (n, channels, side, side)."""
    return LATENT_CHANNELS * (int(latents.shape[-1]) // PATCHES) ** 2


def to_patches(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, channels, side, side) to (n, PATCHES ** 2, patch size), row by row."""
    count, channels, side, _ = latents.shape
    part = side // PATCHES
    split = latents.reshape(count, channels, PATCHES, part, PATCHES, part)
    return np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3, 5).reshape(count, PATCHES**2, channels * part * part))
