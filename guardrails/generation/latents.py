"""The initial latents of a pipeline: their shape, their layout, and whether a picture leads back to them.

A picture leads back to the noise it was drawn from where the sampler solves the model's ordinary differential equation
(Song et al. 2021, arXiv:2010.02502; Lipman et al. 2023, arXiv:2210.02747): then the noise is the only chance in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.requests import PromptRequest

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width of a latent."""

Signs: TypeAlias = NDArray[np.float32]
"""+-1, of the shape of a latent."""

# Samplers of diffusers that add no noise of their own. Some have options that do, see `_adds_noise`.
DETERMINISTIC = frozenset(
    {
        "DDIMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    }
)
# Fewer were not measured; few-step (Turbo, LCM, Lightning, schnell) models are drawn with 1 to 8.
MINIMUM_STEPS = 10
_MODE_ARGUMENTS = {"strength": "image-to-image", "mask_image": "inpainting", "control_image": "ControlNet"}


def why_not_invertible(pipeline: Any, steps: int) -> str:
    """Why a picture of this pipeline would not lead back to its initial latent; "" when it would.

    Args:
        steps: denoising steps of the request.
    """
    name = type(pipeline).__name__
    parameters = inspect.signature(pipeline.__call__).parameters
    for argument, mode in _MODE_ARGUMENTS.items():
        if argument in parameters:
            return f"{name} is {mode}: its pictures do not start from noise alone"
    if "latents" not in parameters:
        return f"{name} takes no initial latents"
    if kind_of(pipeline) is None:
        return f"{name} has a denoiser or an autoencoder of a kind that was not tried"
    scheduler = type(pipeline.scheduler).__name__
    if scheduler not in DETERMINISTIC:
        return f"{scheduler} adds fresh noise or was not tried, so it cannot be run backwards"
    noise = _adds_noise(pipeline.scheduler.config)
    if noise:
        return f"{scheduler} with {noise} adds fresh noise, so it cannot be run backwards"
    if getattr(getattr(pipeline, "unet", None), "config", {}).get("time_cond_proj_dim") is not None:
        return f"{name} is a consistency model (LCM), which cannot be run backwards"
    if steps < MINIMUM_STEPS:
        return (
            f"{steps} steps are too few to be run backwards (at least {MINIMUM_STEPS}; Turbo and LCM models use fewer)"
        )
    return ""


def _adds_noise(config: Any) -> str:
    algorithm = str(config.get("algorithm_type", ""))
    if algorithm.startswith("sde"):
        return f"algorithm {algorithm}"
    return "stochastic sampling" if config.get("stochastic_sampling") else ""


def kind_of(pipeline: Any) -> str | None:
    """ "sd", "sdxl", "sd3" or "flux" by the denoiser and its text conditioning; None for others."""
    if type(getattr(pipeline, "vae", None)).__name__ != "AutoencoderKL":
        return None
    denoiser: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    match type(denoiser).__name__:
        case "UNet2DConditionModel":
            return {None: "sd", "text_time": "sdxl"}.get(denoiser.config.addition_embed_type)
        case "SD3Transformer2DModel":
            return "sd3"
        case "FluxTransformer2DModel":
            return "flux"
    return None


def latent_shape(pipeline: Any, width: int, height: int) -> Shape:
    """The latent of a picture of `width` x `height` pixels."""
    channels, factor = int(pipeline.vae.config.latent_channels), int(pipeline.vae_scale_factor)
    return channels, height // factor, width // factor


def picture_size(pipeline: Any, request: PromptRequest) -> tuple[int, int]:
    """Width and height that a request comes out with: its own, or the pipeline's default."""
    if request.width is not None and request.height is not None:
        return request.width, request.height
    default = getattr(pipeline, "default_sample_size", None) or pipeline.unet.config.sample_size
    rows, columns = default if isinstance(default, list | tuple) else (default, default)
    factor = int(pipeline.vae_scale_factor)
    return int(columns) * factor, int(rows) * factor


def signed_noise(pipeline: Any, signs: Sequence[Signs], generators: Sequence[Any]) -> Any:
    """What a pipeline takes as `latents`: the noise of each seed, with the signs that are asked for.

    Args:
        signs: one a picture, +-1 float32, channels x height x width.
        generators: one a picture, torch generators on the CPU; the magnitudes are theirs.
    """
    import torch

    noise = torch.stack(
        [
            torch.randn(wanted.shape, generator=generator).abs() * torch.from_numpy(wanted)
            for wanted, generator in zip(signs, generators, strict=True)
        ]
    )
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    noise = noise.to(denoiser.dtype)
    return pack(noise) if kind_of(pipeline) == "flux" else noise


def pack(latents: Any) -> Any:
    """Flux's layout: (n, c, h, w) to (n, h/2 * w/2, 4 c), each token a patch of 2 x 2."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, height * width // 4, 4 * channels)


def unpack(tokens: Any, height: int, width: int) -> Any:
    """Undo `pack` for latents of `height` x `width`."""
    count, _, depth = tokens.shape
    patches = tokens.reshape(count, height // 2, width // 2, depth // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(count, depth // 4, height, width)
