"""Orders that share a call of the model and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrails.domain.findings import Action
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import GenerationError
from guardrails.generation.protocol import Drawn, Part, Progress
from guardrails.imaging.decoding import decode
from guardrails.pipeline import Approval, Guard, Order, Sealed, draw_together
from guardrails.pipeline.stages import Begun
from guardrails.policy import default_policy
from guardrails.testing.doubles import ShapeGenerator


class Shared(ShapeGenerator):
    """Notes its calls; what it draws together differs by one value from what it draws alone, as on some machines."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        self.calls.append([prompt])
        if "broken" in prompt:
            raise GenerationError("no memory", hint="buy some")
        return super().draw(request, prompt, progress=progress)

    def draw_together(self, parts: Sequence[Part], *, progress: Progress | None = None) -> list[list[Drawn]]:
        self.calls.append([part.prompt for part in parts])
        if progress is not None:
            progress(1, 2)
            progress(2, 2)
        if any("broken" in part.prompt for part in parts):
            raise GenerationError("no memory", hint="buy some")
        return [[_nudged(drawn) for drawn in ShapeGenerator().draw(part.request, part.prompt)] for part in parts]


def _nudged(drawn: Drawn) -> Drawn:
    pixels = drawn.pixels.copy()
    pixels[0, 0, 0] ^= 1
    return dataclasses.replace(drawn, pixels=pixels)


def begun(guard: Guard, prompt: str, **fields: Any) -> Begun:
    options = {name: fields.pop(name) for name in ("progress", "approval", "watch") if name in fields}
    started = guard.begin(Order(request=PromptRequest(prompt=prompt, **{"seed": 1, **fields}), **options))
    assert isinstance(started, Begun)
    return started


@pytest.fixture
def generator() -> Shared:
    return Shared()


@pytest.fixture
def guard(home: Path, guard_in: Callable[..., Guard], generator: Shared) -> Guard:
    return guard_in(home, generator)


def test_orders_of_one_form_are_drawn_in_one_call_and_sealed_by_themselves(guard: Guard, generator: Shared) -> None:
    orders = [begun(guard, "a red apple", seed=1), begun(guard, "a blue boat", seed=2, count=2)]
    orders.append(begun(guard, "a green tree", width=512, height=512))
    drawn = draw_together([(guard, order) for order in orders])
    assert generator.calls == [["a red apple", "a blue boat"]]
    assert drawn[2] is None
    outcomes = [guard.complete(order, pictures) for order, pictures in zip(orders, drawn, strict=True)]
    assert [len(sealed) for sealed in outcomes] == [1, 2, 1]
    assert all(isinstance(one, Sealed) for sealed in outcomes for one in sealed)
    assert [one.facts.seed for sealed in outcomes[:2] for one in sealed if isinstance(one, Sealed)] == [1, 2, 3]
    assert generator.calls[1:] == [["a green tree"]]


def test_guards_of_several_policies_share_a_call_of_one_model(
    home: Path, guard_in: Callable[..., Guard], generator: Shared
) -> None:
    strict = dataclasses.replace(default_policy(), id="strict")
    guards = [guard_in(home, generator), guard_in(home, generator, policy=strict)]
    orders = [(guard, begun(guard, f"an apple {number}")) for number, guard in enumerate(guards)]
    for (guard, order), pictures in zip(orders, draw_together(orders), strict=True):
        (sealed,) = guard.complete(order, pictures)
        assert isinstance(sealed, Sealed)
        logged = guard.ledger.find_by_id(str(sealed.id))
        assert logged is not None
        assert logged.record.policy == guard.policy.ref
    assert len(generator.calls) == 1


def test_a_call_that_fails_is_the_fault_of_one_order_alone(guard: Guard, generator: Shared) -> None:
    orders = [begun(guard, prompt) for prompt in ("a red apple", "a broken cup", "a blue boat")]
    drawn = draw_together([(guard, order) for order in orders])
    assert drawn == [None, None, None]
    outcomes = [guard.complete(order, pictures)[0] for order, pictures in zip(orders, drawn, strict=True)]
    assert [type(outcome) for outcome in outcomes] == [Sealed, Refusal, Sealed]
    assert isinstance(outcomes[1], Refusal)
    assert (outcomes[1].stage, outcomes[1].fault.partition(":")[0]) == (Stage.GENERATION, "generation_failed")


def test_who_stops_listening_stops_nobody_else(guard: Guard, generator: Shared) -> None:
    told: list[str] = []

    def stop(done: int, total: int) -> None:
        told.append("stop")
        raise GenerationError("cancelled", hint="")

    orders = [
        begun(guard, "a red apple", progress=stop),
        begun(guard, "a blue boat", progress=lambda done, total: told.append(f"{done}/{total}")),
    ]
    drawn = draw_together([(guard, order) for order in orders])
    assert told == ["stop", "1/2", "2/2"]
    assert all(pictures is not None for pictures in drawn)


def test_a_reviewed_order_is_drawn_by_itself(guard: Guard, generator: Shared) -> None:
    approval = Approval(review="r", rules=frozenset(), seed=5)
    orders = [begun(guard, "a red apple", approval=approval), begun(guard, "a blue boat")]
    assert draw_together([(guard, order) for order in orders]) == [None, None]
    assert generator.calls == []


def test_a_held_picture_is_the_one_that_a_release_draws(
    home: Path, guard_in: Callable[..., Guard], generator: Shared
) -> None:
    """Reviewers see what is drawn alone: the picture of the shared call differs by one value."""
    policy = default_policy()
    rules = tuple(
        dataclasses.replace(rule, action=Action.REVIEW, threshold=0.005) if rule.concept == "weapon" else rule
        for rule in policy.screen_rules
    )
    guard = guard_in(home, generator, policy=dataclasses.replace(policy, screen_rules=rules))
    orders = [begun(guard, "a red apple", seed=None), begun(guard, "a blue boat")]
    drawn = draw_together([(guard, order) for order in orders])
    assert drawn[0] is not None
    (held,) = guard.complete(orders[0], drawn[0])
    assert isinstance(held, Refusal)
    seen = decode(Path(held.evidence_file).read_bytes()).pixels
    assert not np.array_equal(seen, drawn[0].drawn[0].pixels)
    logged = guard.ledger.find_by_id(held.id)
    assert logged is not None
    approval = Approval(
        review=held.id,
        rules=frozenset(finding.rule for finding in held.findings),
        seed=logged.record.facts["generation"]["seed"],  # type: ignore[call-overload,index]
        pictures=frozenset({hashlib.sha256(seen.tobytes()).hexdigest()}),
    )
    (released,) = guard.generate_all(orders[0].order.request, approval=approval)
    assert isinstance(released, Sealed)
