"""Several requests in one call of the model: each picture is the one that its seed gives alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError
from guardrails.generation.defaults import WithDefaults
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.protocol import Drawn, Part

# Another batch size may sum in another order, and round a value to its neighbour.
NEAREST = 1


def farthest(one: Drawn, other: Drawn) -> int:
    return int(np.abs(one.pixels.astype(int) - other.pixels).max())


def signs_of(generator: DiffusersGenerator, request: PromptRequest, number: int) -> Any:
    rng = np.random.default_rng(number)
    shape = generator.latent_shape(request)
    return [rng.choice([-1.0, 1.0], shape).astype(np.float32) for _ in range(request.count)]


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl", "sd3", "flux"])
@pytest.mark.parametrize("form", ["plain", "negative", "signed"])
def test_every_request_gets_the_pictures_it_gets_alone(
    kind: Any, form: str, ask: Callable[..., PromptRequest], shared_pipeline: Callable[..., Any]
) -> None:
    generator = DiffusersGenerator(shared_pipeline(kind), name="tiny", device="cpu", batch_size=8)
    parts = []
    for number, count in enumerate((1, 2, 1)):
        negative = f"ugly {number}" if form == "negative" else ""
        request = ask(seed=10 * number, count=count, negative_prompt=negative)
        signs = signs_of(generator, request, number) if form == "signed" else ()
        parts.append(Part(request=request, prompt=f"a fox {number}", signs=signs))
    calls = _counted(generator)
    together = generator.draw_together(parts)
    assert calls == [4]
    assert [len(drawn) for drawn in together] == [1, 2, 1]
    for part, drawn in zip(parts, together, strict=True):
        alone = generator.draw(part.request, part.prompt, signs=part.signs)
        for one, other in zip(drawn, alone, strict=True):
            assert one.facts == other.facts
            assert farthest(one, other) <= NEAREST


def test_prompts_stay_with_their_pictures(ask: Callable[..., PromptRequest], shared_pipeline: Any) -> None:
    """The same seed with two prompts: were the prompts lost or swapped, the pictures would be equal or swapped."""
    generator = DiffusersGenerator(shared_pipeline("sdxl"), name="tiny", device="cpu", batch_size=4)
    parts = [Part(request=ask(seed=1, count=1, steps=4), prompt=prompt) for prompt in ("a fox", "ships on a lake")]
    (fox,), (ships,) = generator.draw_together(parts)
    alone = generator.draw(parts[1].request, parts[1].prompt)[0]
    assert farthest(fox, ships) > NEAREST
    assert farthest(ships, alone) <= NEAREST


def test_no_call_draws_more_than_the_batch_size(ask: Callable[..., PromptRequest], shared_pipeline: Any) -> None:
    generator = DiffusersGenerator(shared_pipeline("sd2"), name="tiny", device="cpu", batch_size=3)
    calls = _counted(generator)
    told: list[tuple[int, int]] = []
    parts = [Part(request=ask(seed=number, count=2), prompt=f"{number}") for number in range(4)]
    together = generator.draw_together(parts, progress=lambda done, total: told.append((done, total)))
    assert calls == [3, 3, 2]
    assert [len(drawn) for drawn in together] == [2, 2, 2, 2]
    assert [drawn.facts.seed for made in together for drawn in made] == [0, 1, 1, 2, 2, 3, 3, 4]
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("change", [{"steps": 3}, {"width": 128}, {"guidance_scale": 2.0}, {"negative_prompt": "x"}])
def test_requests_of_different_form_are_not_drawn_together(
    change: dict[str, Any], ask: Callable[..., PromptRequest], shared_pipeline: Any
) -> None:
    generator = DiffusersGenerator(shared_pipeline("sd2"), name="tiny", device="cpu")
    parts = [Part(request=ask(), prompt="a"), Part(request=ask(**change), prompt="b")]
    assert parts[0].request.form != parts[1].request.form
    with pytest.raises(OptionError, match="different form"):
        generator.draw_together(parts)


def test_open_steps_and_guidance_are_filled_in(ask: Callable[..., PromptRequest], shared_pipeline: Any) -> None:
    inner = DiffusersGenerator(shared_pipeline("sd2"), name="tiny", device="cpu", batch_size=2)
    generator = WithDefaults(generator=inner, steps=3, guidance_scale=2.0)
    parts = [Part(request=ask(seed=number, count=1, steps=None), prompt="a") for number in range(2)]
    for (drawn,) in generator.draw_together(parts):
        assert (drawn.facts.steps, drawn.facts.guidance_scale) == (3, 2.0)


def _counted(generator: DiffusersGenerator) -> list[int]:
    """How many pictures each call of the model draws."""
    calls: list[int] = []
    draw = generator._draw_batch

    def counted(singles: Any, meter: Any) -> Any:
        calls.append(len(singles))
        return draw(singles, meter)

    generator._draw_batch = counted  # type: ignore[method-assign]
    return calls
