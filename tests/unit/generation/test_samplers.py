from __future__ import annotations

import pytest
import torch

from guardrails.errors import OptionError
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.samplers import SAMPLERS, use_sampler
from guardrails.testing.pipelines import tiny_pipeline


@pytest.fixture(scope="module")
def pipelines():
    return {kind: tiny_pipeline(kind) for kind in ("sd1", "sd2", "sdxl", "sd3", "flux")}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_perfect_model_leads_every_sampler_to_the_clean_latent(kind, name, pipelines):
    """A model that knows the answer must be led to it, whichever kind of prediction it makes."""
    use_sampler(pipelines[kind], name)
    scheduler = pipelines[kind].scheduler
    generator = torch.Generator().manual_seed(0)
    clean = 3.0 * torch.randn(1, 4, 8, 8, generator=generator)  # latents reach far beyond -1..1
    scheduler.set_timesteps(20)
    noise = torch.randn(clean.shape, generator=generator)
    sample = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(sample, timestep)
        kept = scheduler.alphas_cumprod[int(timestep)]
        epsilon = (seen - kept.sqrt() * clean) / (1 - kept).sqrt()
        velocity = kept.sqrt() * epsilon - (1 - kept).sqrt() * clean
        prediction = velocity if kind == "sd2" else epsilon
        sample = scheduler.step(prediction, timestep, sample).prev_sample
    assert torch.allclose(sample, clean, atol=0.15)
    assert torch.corrcoef(torch.stack([sample.flatten(), clean.flatten()]))[0, 1] > 0.999


def test_the_record_names_the_sampler_that_was_chosen(pipelines, ask):
    generator = DiffusersGenerator(pipelines["sdxl"], name="tiny")
    used = []
    for name in SAMPLERS:
        use_sampler(generator.pipeline, name)
        used.append(generator.draw(ask(count=1), "x")[0].facts.sampler)
    assert used == ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_flow_matching_models_are_refused_and_left_alone(kind, name, pipelines):
    before = pipelines[kind].scheduler
    with pytest.raises(OptionError, match="does not fit"):
        use_sampler(pipelines[kind], name)
    assert pipelines[kind].scheduler is before


def test_a_flow_model_on_a_multistep_solver_is_refused():
    import diffusers

    pipeline = tiny_pipeline("sd2")
    pipeline.scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(OptionError, match="does not fit"):
        use_sampler(pipeline, "ddim")


def test_an_unknown_name_is_refused_with_the_known_ones(pipelines):
    with pytest.raises(OptionError) as caught:
        use_sampler(pipelines["sd1"], "magic")
    assert all(name in caught.value.hint for name in SAMPLERS)
