"""The guard around real diffusers pipelines (random weights), by nothing but handing them over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails.audit import verify_bytes
from guardrails.audit.report import FileVerdict
from guardrails.errors import OptionError
from guardrails.pipeline import Guard, Sealed
from guardrails.testing.pipelines import Kind, tiny_pipeline

CLASSES: dict[Kind, str] = {
    "sd1": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}


# Random weights draw noise from black to white, which leaves no room for a mark; a fifth of that leaves enough.
CONTRAST = 0.2


def quiet_pipeline(kind: Kind) -> Any:
    import torch

    pipeline = tiny_pipeline(kind)
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight *= CONTRAST
    return pipeline


@pytest.mark.parametrize("kind", CLASSES)
def test_pictures_of_every_pipeline_class_leave_sealed_and_confirmed(
    home: Path, guard_in: Callable[..., Guard], kind: Kind
) -> None:
    guard = guard_in(home, quiet_pipeline(kind))
    sealed = guard.generate("a red apple", seed=3, steps=2, width=256, height=256)
    assert isinstance(sealed, Sealed), sealed
    assert (sealed.facts.pipeline, sealed.facts.model) == (CLASSES[kind], CLASSES[kind])
    assert (sealed.facts.seed, sealed.facts.steps, sealed.pixels.shape) == (3, 2, (256, 256, 3))
    assert verify_bytes(sealed.data, home=home).verdict is FileVerdict.CONFIRMED


def test_what_is_no_text_to_image_pipeline_is_told_at_once(home: Path, guard_in: Callable[..., Guard]) -> None:
    with pytest.raises(OptionError):
        guard_in(home, lambda image: image)
