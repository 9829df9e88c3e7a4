"""When the noise of a picture carries its id, and what the record says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from guardrails.audit.auditor import Auditor
from guardrails.domain.images import MarkVerdict
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Guard, Sealed
from guardrails.policy import default_policy
from guardrails.testing.pipelines import tiny_pipeline
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import SCHEME, LatentMark


def policy_with(latent: str) -> Any:
    policy = default_policy()
    return dataclasses.replace(policy, watermark_rule=dataclasses.replace(policy.watermark_rule, latent=latent))


def quiet_pipeline() -> Any:
    """Random weights draw noise from black to white, which leaves no room for a pixel mark; a fifth of it does."""
    pipeline = tiny_pipeline("sd2")
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight *= 0.2
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return quiet_pipeline()


class Recorded:
    """A generator that keeps the signs it was given."""

    def __init__(self, pipeline: Any) -> None:
        self._generator = DiffusersGenerator(pipeline, name="tiny")
        self.signs: list[np.ndarray] = []
        self.refuses_signs = self._generator.refuses_signs
        self.latent_shape = self._generator.latent_shape

    def draw(self, *arguments: Any, signs: Any = (), **options: Any) -> Any:
        self.signs = list(signs)
        return self._generator.draw(*arguments, signs=signs, **options)


def drawn(guard: Guard, **options: Any) -> Sealed:
    sealed = guard.generate("a red apple", **{"steps": 10, "width": 192, "height": 192, **options})
    assert isinstance(sealed, Sealed), sealed.fault
    return sealed


def test_the_noise_carries_the_very_id_and_the_record_says_so(
    pipeline: Any, home: Path, guard_in: Callable[..., Guard], facts: Callable[[], Any]
) -> None:
    generator = Recorded(pipeline)
    sealed = drawn(guard_in(home, generator))
    assert sealed.latent.scheme == SCHEME
    assert facts()["latent"] == {"scheme": SCHEME, "epoch": 0, "reason": ""}
    mark = LatentMark(Keyring.load_or_create(home / "keys"))
    assert np.array_equal(generator.signs[0], mark.signs(sealed.id.mark_id, generator.signs[0].shape))
    assert mark.detect(generator.signs[0]).verdict in (MarkVerdict.SUSPECTED, MarkVerdict.PRESENT)


@pytest.mark.parametrize(
    ("latent", "options", "reason"),
    [
        ("unseeded", {"seed": 3}, "names the seed"),
        ("never", {}, "policy"),
        ("always", {"steps": 4}, "too few"),
        ("always", {"width": 128, "height": 128}, "too small"),
    ],
)
def test_where_it_does_not_the_record_says_why(
    latent: str,
    options: dict[str, Any],
    reason: str,
    pipeline: Any,
    home: Path,
    guard_in: Callable[..., Guard],
    facts: Callable[[], Any],
) -> None:
    sealed = drawn(guard_in(home, pipeline, policy=policy_with(latent)), **options)
    assert sealed.latent.scheme == ""
    assert reason in facts()["latent"]["reason"]


def test_a_policy_can_ask_for_it_with_a_seed_too(pipeline: Any, home: Path, guard_in: Callable[..., Guard]) -> None:
    assert drawn(guard_in(home, pipeline, policy=policy_with("always")), seed=3).latent.scheme == SCHEME


def test_samplers_and_generators_that_cannot_are_named(home: Path, guard_in: Callable[..., Guard]) -> None:
    ancestral = quiet_pipeline()
    ancestral.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(ancestral.scheduler.config)
    assert "EulerAncestralDiscreteScheduler" in drawn(guard_in(home, ancestral)).latent.reason
    assert "ShapeGenerator" in drawn(guard_in(home)).latent.reason


@pytest.mark.slow
def test_the_embedded_model_leads_back_to_its_noise(tmp_path: Path, guard_in: Callable[..., Guard]) -> None:
    """End to end: drawn, sealed, saved as JPEG 60, read. Of a snowman more noise is left than of plainer things."""
    from guardrails.pipeline.embedded import default_generator

    sealed = guard_in(tmp_path, default_generator()).generate("a snowman on a light blue background")
    assert isinstance(sealed, Sealed)
    assert sealed.latent.scheme == SCHEME
    data = encode(sealed.pixels, ImageFormat.JPEG, quality=60)
    report = Auditor.open(tmp_path, latent_model="pocket").verify(data)
    assert report.latent is not None
    assert report.latent.verdict is MarkVerdict.PRESENT
    assert report.latent.mark_id == sealed.id.mark_id
