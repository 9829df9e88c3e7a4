"""The pocket denoiser: a small `UNet2DConditionModel` with cross-attention, trained jointly with its text encoder.

The text encoder comes from its first lesson (see `layout`) and goes on learning at a lower rate.

v-prediction (Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022) on a schedule
rescaled to zero terminal signal (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2023),
because plain backgrounds are decided at the noisiest step. Captions are dropped now and then for classifier-free
guidance (Ho and Salimans, 2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guardrails.pocket.autoencoder import LATENT_CHANNELS
from guardrails.pocket.latents import LatentPool
from guardrails.pocket.text import WIDTH, new_text_encoder, open_tokenizer, tokenize
from guardrails.pocket.training import MovingAverage, Report, cosine, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 6e-4
TEXT_LEARNING_RATE = 1e-4
BATCH = 32
CAPTION_DROPOUT = 0.1
CHECKPOINT_EVERY = 100


def new_unet() -> Any:
    """An untrained denoiser for 16 x 16 latents (11 M parameters)."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> Any:
    """DDIM as the model is trained for it; other samplers are made from its config."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )


def train_diffusion(work: Path, *, steps: int, rank: int, processes: int, report: Report) -> None:
    """Train denoiser and text encoder, resuming from `work/diffusion.pt` or starting from `work/layout.pt`.

    Args:
        rank, processes: with several processes, gradients are averaged over a gloo group that the caller set up.
    """
    import torch

    pool = LatentPool.open(work)
    tokenizer = open_tokenizer(work / "tokenizer")
    tokens = tokenize(tokenizer, [*pool.captions, ""])
    torch.manual_seed(0)
    unet = new_unet().to(memory_format=torch.channels_last)
    text = new_text_encoder(tokenizer)
    text.load_state_dict(foretelling(work))
    parameters = [*unet.parameters(), *text.parameters()]
    rates = {LEARNING_RATE: unet, TEXT_LEARNING_RATE: text}
    groups = [{"params": [*module.parameters()], "rate": rate} for rate, module in rates.items()]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=1e-2, fused=True)
    average = MovingAverage(unet, text, decay=0.999)
    # Compiled once, a step takes two thirds of the time; the module itself stays as it is.
    denoise = torch.compile(unet)
    start = 0
    state = load_checkpoint(work / "diffusion.pt")
    if state is not None:
        unet.load_state_dict(state["unet"])
        text.load_state_dict(state["text"])
        optimiser.load_state_dict(state["optimiser"])
        average.shadow = state["average"]
        start = int(state["step"])
    alphas = new_scheduler().alphas_cumprod
    rng = np.random.default_rng([start, rank])
    torch.manual_seed(start * processes + rank + 1)
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * cosine(step, steps, 100)
        latents, ids = draw_batch(pool, tokens, rng)
        loss = denoising_loss(denoise, text, latents, ids, alphas)
        loss.backward()
        if processes > 1:
            average_gradients(parameters, processes)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if rank == 0:
            average.update(step)
            report(step + 1, steps, loss.item())
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
                save_checkpoint(
                    work / "diffusion.pt",
                    {
                        "unet": unet.state_dict(),
                        "text": text.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "average": average.shadow,
                        "scale": pool.scale,
                        "step": step + 1,
                    },
                )


def foretelling(work: Path) -> dict[str, torch.Tensor]:
    """The weights of the text encoder after its first lesson."""
    state = load_checkpoint(work / "layout.pt")
    if state is None:
        raise FileNotFoundError(work / "layout.pt")
    weights: dict[str, torch.Tensor] = state["average"]
    return weights


def draw_batch(pool: LatentPool, tokens: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents (batch, channels, 16, 16) and token ids (batch, tokens), some of them of the empty caption."""
    import torch

    rows = rng.integers(0, len(pool.captions), BATCH)
    latents = pool.latents[rows].astype(np.float32)
    wanted = torch.from_numpy(np.where(rng.random(BATCH) < CAPTION_DROPOUT, len(pool.captions), rows))
    batch = torch.from_numpy(latents * np.float32(pool.scale)).to(memory_format=torch.channels_last)
    return batch, tokens[wanted]


def denoising_loss(
    unet: Any, text: Any, latents: torch.Tensor, ids: torch.Tensor, alphas: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of the predicted velocity v = sqrt(a) noise - sqrt(1 - a) x."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # What a thing looks like is decided where noise is strong, so those steps are drawn more often.
    times = (torch.rand(len(latents)).sqrt() * len(alphas)).long()
    signal = alphas[times].sqrt()[:, None, None, None]
    noise_level = (1 - alphas[times]).sqrt()[:, None, None, None]
    noise = torch.randn_like(latents)
    noisy = signal * latents + noise_level * noise
    # The fused attention of the CPU is slow backwards on sequences this short.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        states = text(ids).last_hidden_state
        velocity = unet(noisy, times, states).sample
    return torch.nn.functional.mse_loss(velocity.float(), signal * noise - noise_level * latents)


def average_gradients(parameters: list[Any], processes: int) -> None:
    """Sum gradients over the group in one message and divide."""
    import torch

    held = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.reshape(-1) for p in held])
    torch.distributed.all_reduce(flat)
    flat /= processes
    for parameter, part in zip(held, flat.split([p.numel() for p in held]), strict=True):
        parameter.grad.copy_(part.view_as(parameter))
