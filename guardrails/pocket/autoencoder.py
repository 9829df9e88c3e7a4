"""The pocket autoencoder: 256 x 256 pixels <-> 16 x 16 latents of 12 channels (diffusers `AutoencoderKL`).

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022), section 3.1. Trained on crops:
the network is fully convolutional, so a 64-pixel crop teaches the same filters for a sixteenth of the cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guardrails.imaging import Pixels
from guardrails.pocket.scenes import UNNAMED_STYLE, Scene, compose
from guardrails.pocket.thumbnail_start import start_as_thumbnail
from guardrails.pocket.training import Library, MovingAverage, Report, cosine, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    import torch

LATENT_CHANNELS = 12
CROP = 64
BATCH = 16
LEARNING_RATE = 8e-4
CHECKPOINT_EVERY = 100
# Latents that come from a denoiser are not clean: the last lesson of the decoder is to see through this much noise, as
# a share of a latent's deviation (the idea of noise-augmented decoding: Zheng et al., "Diffusion Transformers with
# Representation Autoencoders", 2025).
LATENT_NOISE = 0.25
# Keeps latents near unit scale without costing sharpness.
KL_WEIGHT = 1e-6
EDGE_WEIGHT = 0.5
# How much of the training goes to the hand that prompts without a style get.
UNNAMED_SHARE = 0.55


def new_autoencoder() -> Any:
    """An untrained `AutoencoderKL` of the pocket size (3.8 M parameters)."""
    from diffusers import AutoencoderKL

    widths = (16, 32, 64, 128, 128)
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # One group: with few channels a group, normalisation would erase the colour of flat areas.
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=256,
    )
    start_as_thumbnail(model)
    return model


def train_autoencoder(library: Library, work: Path, *, steps: int, decoder_only: bool, report: Report) -> None:
    """Train, resuming from `work`; the result is the moving average in `autoencoder.pt`.

    Args:
        decoder_only: leave the encoder as it is, so that latents already made stay valid, and teach the decoder to see
            through noise.
    """
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng()
    model = new_autoencoder().to(memory_format=torch.channels_last)
    path = work / "autoencoder.pt"
    state = load_checkpoint(path)
    start = 0
    if state is not None:
        model.load_state_dict(state["model"])
        start = 0 if decoder_only and not state["decoder_only"] else int(state["step"])
    average = MovingAverage(model, decay=0.995)
    if state is not None:
        average.shadow = [state["average"]]
    if decoder_only:
        model.load_state_dict(average.shadow[0])
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], betas=(0.9, 0.95), weight_decay=1e-4
    )
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * cosine(step, steps, 50) * (0.5 if decoder_only else 1.0)
        batch = crops(library, rng, BATCH)
        loss = reconstruction_loss(model, batch, LATENT_NOISE if decoder_only else 0.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update(step)
        report(step + 1, steps, loss.item())
        if step + 1 == steps and not decoder_only:
            model.load_state_dict(average.shadow[0])
            balance_latents(model, channel_deviation(model, library, rng))
            average.shadow = [model.state_dict()]
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "average": average.shadow[0],
                    "step": step + 1,
                    "decoder_only": decoder_only,
                },
            )


def reconstruction_loss(model: Any, batch: torch.Tensor, noise: float) -> torch.Tensor:
    """L1 of pixels and of their finite differences at two scales, plus the KL term.

    Args:
        noise: up to this share of the latents' deviation is added as Gaussian noise, evenly drawn for each picture.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.encode(batch).latent_dist
        latents = posterior.sample()
        levels = noise * latents.detach().float().std() * torch.rand(len(latents), 1, 1, 1)
        output = model.decode(latents + levels * torch.randn_like(latents)).sample
    output = output.float()
    loss = (output - batch).abs().mean()
    for scale in (1, 2):
        difference = torch.nn.functional.avg_pool2d(output - batch, scale) if scale > 1 else output - batch
        loss = loss + EDGE_WEIGHT * 0.5 * (difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean())
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return loss + KL_WEIGHT * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def channel_deviation(model: Any, library: Library, rng: np.random.Generator) -> torch.Tensor:
    """Standard deviation of each latent channel over a few scenes, shape (channels,)."""
    import torch

    scenes = to_tensor([random_scene(library, rng).pixels for _ in range(24)])
    with torch.no_grad():
        deviation: torch.Tensor = model.encode(scenes).latent_dist.mode().std((0, 2, 3))
    return deviation


def balance_latents(model: Any, deviation: torch.Tensor) -> None:
    """Bring the latent channels closer to one scale, in place and without changing any picture.

    The factors go into the 1x1 convolutions on both sides of the latent. Half of the spread (in decibel) is taken
    away: details stay smaller than colours, as they are in pictures, but are not lost in the diffusion noise.

    Args:
        deviation: standard deviation of each latent channel, shape (channels,).
    """
    import torch

    factor = deviation.rsqrt()
    with torch.no_grad():
        rows = torch.cat([factor, torch.ones_like(factor)])
        model.quant_conv.weight *= rows[:, None, None, None]
        model.quant_conv.bias *= rows
        model.quant_conv.bias[len(factor) :] += 2 * factor.log()
        model.post_quant_conv.weight /= factor[None, :, None, None]


def crops(library: Library, rng: np.random.Generator, count: int) -> torch.Tensor:
    """Random crops of random scenes: float32 (count, 3, 64, 64) in -1..1."""
    scenes = [random_scene(library, rng).pixels for _ in range(count)]
    corners = rng.integers(0, scenes[0].shape[0] - CROP + 1, (count, 2))
    return to_tensor([s[y : y + CROP, x : x + CROP] for s, (y, x) in zip(scenes, corners, strict=True)])


def random_scene(
    library: Library, rng: np.random.Generator, *, pair_share: float = 0.05, plain_share: float = 0.1
) -> Scene:
    """Draw one scene: mostly one object, sometimes two by one hand, sometimes the catalogue picture."""
    kind = rng.random()
    hand = UNNAMED_STYLE if rng.random() < UNNAMED_SHARE else None
    rows = [i for i, picture in enumerate(library.pictures) if (picture.style == UNNAMED_STYLE) == (hand is not None)]
    chosen = rng.choice(rows, 2 if kind < pair_share else 1)
    return compose(
        [library.pictures[i] for i in chosen],
        [library.rgba[i] for i in chosen],
        rng,
        plain=pair_share <= kind < pair_share + plain_share,
    )


def to_tensor(images: list[Pixels]) -> torch.Tensor:
    """uint8 pictures to float32 (n, 3, h, w) in -1..1, channels last in memory."""
    import torch

    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.to(memory_format=torch.channels_last)


def to_pixels(batch: torch.Tensor) -> list[Pixels]:
    """The inverse of `to_tensor`, rounded and clipped."""
    array = ((batch.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [np.ascontiguousarray(picture) for picture in array]
