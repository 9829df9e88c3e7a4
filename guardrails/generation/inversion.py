"""From a picture back to the noise that it was drawn from, without its prompt.

1. Encode the picture; then correct the latent until its decoding encodes to the same (a fixed-point iteration): an
   encoder alone loses half of the evidence.
2. Run the sampler's equation backwards with the empty prompt and no guidance: DDIM inversion for diffusion models
   (Dhariwal and Nichol 2021, arXiv:2105.05233, appendix F), the reversed Euler steps for flow matching.

Costs `corrections` passes through the autoencoder and `steps` through the denoiser: a deep check, not a first one.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError
from guardrails.generation.latents import kind_of, pack, unpack
from guardrails.imaging import Pixels

# Measured on the embedded model: 5 to 15 steps and more corrections change the evidence by less than a twentieth.
STEPS = 7
CORRECTIONS = 2
_CORRECTION_RATE = 0.7
_TRAINED_TIMES = 1000


class Inverter:
    """Inverts pictures with one pipeline; the sampler it came with does not matter, its noise schedule does.

    A pipeline is not thread-safe; concurrent calls wait for each other.

    Args:
        pipeline: a diffusers pipeline with an `AutoencoderKL` and a U-Net (Stable Diffusion 1/2, SDXL) or a
            transformer (SD3, Flux); left as it is.

    Raises:
        OptionError: another kind of pipeline, or weights in float16, in which autoencoders overflow.
    """

    def __init__(self, pipeline: Any) -> None:
        kind = kind_of(pipeline)
        if kind is None:
            raise OptionError(
                f"{type(pipeline).__name__} cannot be inverted",
                hint="use a Stable Diffusion 1/2, SDXL, SD3 or Flux pipeline",
            )
        if "float16" in str(pipeline.vae.dtype) and "bfloat16" not in str(pipeline.vae.dtype):
            raise OptionError("inversion overflows in float16", hint="load the model in float32 or bfloat16")
        self._pipeline = pipeline
        self._kind = kind
        self._lock = threading.Lock()

    def latent(self, pixels: Pixels, *, steps: int = STEPS, corrections: int = CORRECTIONS) -> NDArray[np.float32]:
        """The latent that a picture most likely started from.

        Args:
            pixels: RGB uint8, upright and uncropped, of a size that the model draws (see `fit`).
            steps: of the reversed sampler.
            corrections: passes of step 1; 0 takes the encoder at its word.

        Returns:
            float32, channels x height x width; of smaller scale than the noise was.

        Raises:
            OptionError: sides that are not multiples of what the autoencoder needs.
        """
        import torch

        height, width, _ = pixels.shape
        multiple = 2 * int(self._pipeline.vae_scale_factor)
        if height % multiple or width % multiple:
            raise OptionError(
                f"{width} x {height} pixels cannot be inverted", hint=f"resize to multiples of {multiple}"
            )
        with self._lock, torch.no_grad():
            final = self._encode(_to_tensor(pixels, self._pipeline.vae), corrections)
            return _to_array(self._backwards(final, steps))

    def reverse(self, final: NDArray[np.float32], *, steps: int = STEPS) -> NDArray[np.float32]:
        """Step 2 alone: the initial latent of a final one.

        Args:
            final: float32, channels x height x width, as the autoencoder's scaled latent space has it.
        """
        import torch

        with self._lock, torch.no_grad():
            return _to_array(self._backwards(torch.from_numpy(final)[None].to(self._pipeline.device), steps))

    def _encode(self, picture: Any, corrections: int) -> Any:
        wanted = self._encode_once(picture)
        latent = wanted
        for _ in range(corrections):
            drawn = self._decode(latent).clamp(-1, 1)
            latent = latent + _CORRECTION_RATE * (wanted - self._encode_once(drawn))
        return latent

    def _encode_once(self, picture: Any) -> Any:
        vae = self._pipeline.vae
        return (vae.encode(picture).latent_dist.mode() - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def _decode(self, latent: Any) -> Any:
        vae = self._pipeline.vae
        return vae.decode(latent / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample

    def _backwards(self, latent: Any, steps: int) -> Any:
        if self._kind in ("sd", "sdxl"):
            return self._backwards_by_ddim(latent, steps)
        return self._backwards_along_flow(latent, steps)

    def _backwards_by_ddim(self, latent: Any, steps: int) -> Any:
        from diffusers import DDIMInverseScheduler

        known = inspect.signature(DDIMInverseScheduler.__init__).parameters
        config = {name: value for name, value in self._pipeline.scheduler.config.items() if name in known}
        # DDIM inversion knows two spacings. Latents are not confined to -1..1 as pixels are.
        spacing = "trailing" if config.get("timestep_spacing") == "trailing" else "leading"
        scheduler = DDIMInverseScheduler.from_config(config, clip_sample=False, timestep_spacing=spacing)
        scheduler.set_timesteps(steps, device=latent.device)
        condition = self._unet_condition(*latent.shape[2:])
        latent = latent.to(self._pipeline.unet.dtype)
        for time in scheduler.timesteps:
            predicted = self._pipeline.unet(latent, time, **condition).sample
            latent = scheduler.step(predicted, time, latent).prev_sample
        return latent

    def _unet_condition(self, rows: int, columns: int) -> dict[str, Any]:
        """The empty prompt for a U-Net."""
        pipeline = self._pipeline
        embeddings = pipeline.encode_prompt(
            "", device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if self._kind == "sd":
            return {"encoder_hidden_states": embeddings[0]}
        import torch

        height, width = (side * int(pipeline.vae_scale_factor) for side in (rows, columns))
        # Original size, crop corner and target size, as SDXL is conditioned on.
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=embeddings[0].dtype, device=pipeline.device)
        added = {"text_embeds": embeddings[2], "time_ids": sizes}
        return {"encoder_hidden_states": embeddings[0], "added_cond_kwargs": added}

    def _backwards_along_flow(self, latent: Any, steps: int) -> Any:
        """x += (s_next - s) v, from noise level 0 up to 1; v at the level stepped to, as in DDIM inversion."""
        rows, columns = latent.shape[2:]
        velocity = self._flow_velocity(rows, columns)
        latent = latent.to(self._pipeline.transformer.dtype)
        if self._kind == "flux":
            latent = pack(latent)
        levels = self._noise_levels(steps, rows * columns // 4)
        for low, high in zip(levels[1:][::-1], levels[:-1][::-1], strict=True):
            latent = latent + (high - low) * velocity(latent, high)
        return unpack(latent, rows, columns) if self._kind == "flux" else latent

    def _noise_levels(self, steps: int, tokens: int) -> list[float]:
        """From 1 down to 0, spaced as the model's own scheduler spaces them."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self._pipeline.scheduler.config)
        options = {}
        if scheduler.config.get("use_dynamic_shifting"):
            from diffusers.pipelines.flux.pipeline_flux import calculate_shift

            names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
            options["mu"] = calculate_shift(tokens, *(scheduler.config.get(name) for name in names))
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps).tolist(), **options)
        return [float(level) for level in scheduler.sigmas]

    def _flow_velocity(self, rows: int, columns: int) -> Callable[[Any, float], Any]:
        """The velocity that the transformer predicts for a latent at a noise level, for the empty prompt."""
        import torch

        pipeline = self._pipeline
        transformer = pipeline.transformer
        time = torch.ones(1, dtype=transformer.dtype, device=pipeline.device)
        if self._kind == "sd3":
            embeddings = pipeline.encode_prompt("", "", "", do_classifier_free_guidance=False)
            text = {"encoder_hidden_states": embeddings[0], "pooled_projections": embeddings[2]}
            return lambda latent, level: transformer(latent, timestep=time * level * _TRAINED_TIMES, **text).sample
        prompt, pooled, text_ids = pipeline.encode_prompt("", "")
        text = {"encoder_hidden_states": prompt, "pooled_projections": pooled, "txt_ids": text_ids}
        text["img_ids"] = pipeline._prepare_latent_image_ids(
            1, rows // 2, columns // 2, pipeline.device, transformer.dtype
        )
        # Distilled guidance of 1: none.
        text["guidance"] = time if transformer.config.guidance_embeds else None
        return lambda latent, level: transformer(latent, timestep=time * level, **text).sample


def _to_tensor(pixels: Pixels, vae: Any) -> Any:
    import torch

    picture = torch.from_numpy(np.array(pixels)).to(vae.device, torch.float32)
    return (picture.permute(2, 0, 1)[None] / 127.5 - 1).to(vae.dtype)


def _to_array(latent: Any) -> NDArray[np.float32]:
    return np.asarray(latent[0].float().cpu().numpy(), np.float32)
