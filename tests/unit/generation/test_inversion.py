"""Reversing the sampler. Random autoencoders do not invert, so what is reversed here are final latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.inversion import Inverter
from guardrails.generation.latents import latent_shape, pack, signed_noise, unpack, why_not_invertible
from guardrails.generation.samplers import use_sampler
from guardrails.testing.pipelines import Kind, tiny_pipeline

SIDE = 192


def signs_of(pipeline: Any) -> np.ndarray:
    return np.random.default_rng(0).choice([-1.0, 1.0], latent_shape(pipeline, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [
        *(("sd1", "ddim"), ("sd1", "dpm++ 2m"), ("sd1", "euler"), ("sd2", None)),
        *(("sdxl", None), ("sd3", None), ("flux", None)),
    ],
)
def test_the_noise_of_an_unknown_prompt_comes_back(kind: Kind, sampler: str | None) -> None:
    pipeline = tiny_pipeline(kind)
    if sampler is not None:
        use_sampler(pipeline, sampler)
    signs = signs_of(pipeline)
    final = pipeline(
        "a cat",
        latents=signed_noise(pipeline, [signs], [torch.Generator().manual_seed(1)]),
        num_inference_steps=20,
        guidance_scale=1.0,
        width=SIDE,
        height=SIDE,
        output_type="latent",
    ).images
    if kind == "flux":
        final = unpack(final, *signs.shape[1:])
    noise = Inverter(pipeline).reverse(final[0].numpy())
    assert noise.shape == signs.shape
    # Half would agree by chance; 2,304 signs have a deviation of .01.
    assert np.mean((noise > 0) == (signs > 0)) > 0.6


def test_packing_is_that_of_flux() -> None:
    latents = torch.randn(2, 4, 6, 8)
    pipeline = diffusers.FluxPipeline
    assert torch.equal(pack(latents), pipeline._pack_latents(latents, 2, 4, 6, 8))
    assert torch.equal(unpack(pack(latents), 6, 8), latents)


def test_signed_pictures_are_drawn_in_batches_as_one_by_one(ask: Callable[..., PromptRequest]) -> None:
    pipeline = tiny_pipeline("sd2")
    request = ask(steps=3)
    signs = [signs_of(pipeline)[:, :8, :8], -signs_of(pipeline)[:, :8, :8]]
    single = DiffusersGenerator(pipeline, name="tiny").draw(request, "a", signs=signs)
    both = DiffusersGenerator(pipeline, name="tiny", batch_size=2).draw(request, "a", signs=signs)
    unsigned = DiffusersGenerator(pipeline, name="tiny").draw(request, "a")
    for one, other, plain in zip(single, both, unsigned, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1
        assert not np.array_equal(one.pixels, plain.pixels)


def with_scheduler(name: str, **options: Any) -> Any:
    pipeline = tiny_pipeline("sd1")
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **options)
    return pipeline


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("EulerAncestralDiscreteScheduler", {}),
        ("LCMScheduler", {}),
        ("DDPMScheduler", {}),
        ("KDPM2AncestralDiscreteScheduler", {}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ],
)
def test_samplers_that_add_noise_are_refused_by_name(name: str, options: dict[str, Any]) -> None:
    reason = why_not_invertible(with_scheduler(name, **options), 25)
    assert name in reason
    assert "noise" in reason


def test_modes_and_models_that_cannot_be_run_backwards_are_refused() -> None:
    pipeline = tiny_pipeline("sd2")
    assert why_not_invertible(pipeline, 25) == ""
    assert "too few" in why_not_invertible(pipeline, 4)
    parts = {**pipeline.components, "requires_safety_checker": False}
    assert "image-to-image" in why_not_invertible(diffusers.StableDiffusionImg2ImgPipeline(**parts), 25)
    assert "image-to-image" in why_not_invertible(diffusers.StableDiffusionInpaintPipeline(**parts), 25)
    flow = tiny_pipeline("sd3")
    flow.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    assert "stochastic" in why_not_invertible(flow, 25)
    with pytest.raises(OptionError, match="cannot be inverted"):
        Inverter(object())


def test_sizes_that_the_autoencoder_cannot_halve_are_refused() -> None:
    with pytest.raises(OptionError, match="96 x 100 pixels") as caught:
        Inverter(tiny_pipeline("sd2")).latent(np.zeros((100, 96, 3), np.uint8))
    assert "multiples of 16" in caught.value.hint
