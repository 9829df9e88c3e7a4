"""What reviewers can allow, and ids that a caller chooses first."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrails import home as homes
from guardrails.domain.findings import Action, Component, Finding
from guardrails.domain.identity import ImageId
from guardrails.domain.images import Match, MatchState
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.domain.rights import Rights
from guardrails.errors import OptionError
from guardrails.generation.protocol import Drawn
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Approval, Guard, Original, Sealed, Step
from guardrails.pipeline.approval import approved
from guardrails.policy import default_policy
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, draw_shapes
from guardrails.watermark.keys import Keyring
from guardrails.watermark.protocol import Embedded
from guardrails.watermark.scheme import PixelMark

HELD = "n4k3d woman"
BLOCKED = "guardrails test minor guardrails test explicit"


def finding(rule: str, action: Action) -> Finding:
    return Finding(rule=rule, category="x", action=action, message="", detector=Component(name="d", version="1"))


def test_an_approval_lifts_what_waits_and_never_what_is_blocked() -> None:
    findings = [finding("A", Action.REVIEW), finding("B", Action.REVIEW), finding("A", Action.BLOCK)]
    lifted = approved(findings, Approval(review="r1", rules=frozenset({"A"})))
    assert [one.action for one in lifted] == [Action.FLAG, Action.REVIEW, Action.BLOCK]
    assert lifted[0].evidence == {"review": "r1"}
    assert approved(findings, None) == tuple(findings)


def test_a_held_prompt_is_drawn_once_it_is_approved(guard: Guard) -> None:
    request = PromptRequest(prompt=HELD, seed=1)
    (held,) = guard.generate_all(request)
    assert isinstance(held, Refusal)
    rules = frozenset(one.rule for one in held.findings)
    (released,) = guard.generate_all(request, approval=Approval(review=held.id, rules=rules))
    assert isinstance(released, Sealed)
    logged = guard.ledger.find_by_id(str(released.id))
    assert logged is not None
    assert logged.record.facts["approval"] == {"review": held.id, "rules": sorted(rules)}
    assert logged.record.facts["action"] == "flag"


def test_another_picture_than_the_one_that_was_seen_is_not_released(guard: Guard) -> None:
    request = PromptRequest(prompt="a red apple")
    pixels = draw_shapes(5)
    seen = hashlib.sha256(pixels.tobytes()).hexdigest()
    for seed, kind in ((5, Sealed), (6, Refusal)):
        approval = Approval(review="r", rules=frozenset(), seed=seed, pictures=frozenset({seen}))
        (outcome,) = guard.generate_all(request, approval=approval)
        assert isinstance(outcome, kind)


def test_an_approval_of_other_rules_changes_nothing(guard: Guard) -> None:
    for prompt in (HELD, BLOCKED):
        approval = Approval(review="r", rules=frozenset({"MINOR-00", "OTHER-01"}))
        (outcome,) = guard.generate_all(PromptRequest(prompt=prompt), approval=approval)
        assert isinstance(outcome, Refusal)


def test_chosen_ids_are_used_in_order_and_never_twice(guard: Guard, tmp_path: Path) -> None:
    ids = [ImageId.new(), ImageId.new()]
    request = PromptRequest(prompt="a red apple", seed=1, count=2)
    assert [outcome.id for outcome in guard.generate_all(request, ids=ids, out=tmp_path)] == ids
    with pytest.raises(OptionError, match="recorded already"):
        guard.generate_all(request, ids=ids)
    with pytest.raises(OptionError, match="1 ids for 2"):
        guard.generate_all(request, ids=[ImageId.new()])


def test_an_id_whose_first_run_died_before_its_record_can_be_used_again(guard: Guard) -> None:
    image_id = ImageId.new()

    def die(step: Step, _: str) -> None:
        if step is Step.SIGNED:
            raise KeyboardInterrupt

    request = PromptRequest(prompt="a red apple", seed=1)
    with pytest.raises(KeyboardInterrupt):
        guard.generate_all(request, ids=[image_id], watch=die)
    (outcome,) = guard.generate_all(request, ids=[image_id])
    assert isinstance(outcome, Sealed)


def test_every_step_is_told_in_order(guard: Guard, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    request = PromptRequest(prompt="a red apple", seed=1, count=2)
    outcomes = guard.generate_all(request, out=tmp_path, watch=lambda step, id: told.append((step.value, id)))
    each = ["screened", "marked", "signed", "recorded"]
    expected = [("cleared", ""), ("drawn", "")]
    expected += [(step, str(outcome.id)) for outcome in outcomes for step in each]
    assert told == expected


def test_a_picture_that_waits_for_a_review_is_kept_for_the_reviewers(
    home: Path, guard_in: Callable[..., Guard]
) -> None:
    (held,) = reviewing(home, guard_in).generate_all(PromptRequest(prompt="a red apple", seed=1))
    assert isinstance(held, Refusal)
    assert held.stage is Stage.SCREENING
    path = Path(held.evidence_file)
    assert path.is_relative_to(homes.evidence_folder(home))
    assert path.stat().st_mode & 0o077 == 0


def reviewing(home: Path, guard_in: Callable[..., Guard], **parts: Any) -> Guard:
    """A guard whose screens hold every picture for a review."""
    policy = default_policy()
    rules = tuple(
        dataclasses.replace(rule, action=Action.REVIEW, threshold=0.005) if rule.concept == "weapon" else rule
        for rule in policy.screen_rules
    )
    return guard_in(home, policy=dataclasses.replace(policy, screen_rules=rules), **parts)


def after(held: Refusal, earlier: Approval | None = None) -> Approval:
    """The approval of reviewers who release what this refusal showed them."""
    before = Approval(review="", rules=frozenset()) if earlier is None else earlier
    return Approval(
        review=held.id,
        rules=before.rules | {finding.rule for finding in held.findings},
        pictures=before.pictures | {held.picture_sha256},
    )


def test_only_the_picture_that_reviewers_saw_is_lifted(home: Path, guard_in: Callable[..., Guard]) -> None:
    """They saw the original of an edit: what is drawn from it waits for them in its turn."""
    guard, request = reviewing(home, guard_in), PromptRequest(prompt="a red apple", seed=1)
    original = Original.read(encode(draw_shapes(7), ImageFormat.PNG), strength=1.0)
    (first,) = guard.generate_all(request, original=original)
    assert isinstance(first, Refusal)
    assert np.array_equal(decode(Path(first.evidence_file).read_bytes()).pixels, draw_shapes(7))
    (second,) = guard.generate_all(request, original=original, approval=after(first))
    assert isinstance(second, Refusal)
    assert np.array_equal(decode(Path(second.evidence_file).read_bytes()).pixels, draw_shapes(1))
    (released,) = guard.generate_all(request, original=original, approval=after(second, after(first)))
    assert isinstance(released, Sealed)


def test_a_picture_held_for_its_likeness_is_lifted_by_those_who_saw_it_alone(
    home: Path, guard_in: Callable[..., Guard]
) -> None:
    rights = Rights(licence="Custom", licence_url="", creator="N. N.", source="museum")
    match = Match(entry="w1", title="Blue boats", rights=rights, state=MatchState.CONFIRMED, distances={}, sha256="12")
    guard = guard_in(home, index=FixedIndex(matches=(match,)))
    (held,) = guard.generate_all(PromptRequest(prompt="a red apple", seed=1))
    assert isinstance(held, Refusal)
    assert held.stage is Stage.SIMILARITY
    (other,) = guard.generate_all(PromptRequest(prompt="a red apple", seed=2), approval=after(held))
    assert isinstance(other, Refusal)
    (released,) = guard.generate_all(PromptRequest(prompt="a red apple", seed=1), approval=after(held))
    assert isinstance(released, Sealed)


class Weak(PixelMark):
    """A mark that always says that it will not last."""

    def embed(self, pixels: Pixels, mark_id: str, *, flags: int = 1) -> Embedded:
        embedded = super().embed(pixels, mark_id, flags=flags)
        return dataclasses.replace(embedded, embedding=dataclasses.replace(embedded.embedding, robust=False))


def test_a_picture_held_for_its_weak_mark_is_seen_and_can_be_released(
    home: Path, guard_in: Callable[..., Guard]
) -> None:
    policy = default_policy()
    rule = dataclasses.replace(policy.watermark_rule, not_robust=Action.REVIEW)
    mark = Weak(Keyring.load_or_create(homes.keys_folder(home)))
    guard = guard_in(home, policy=dataclasses.replace(policy, watermark_rule=rule), mark=mark)
    request = PromptRequest(prompt="a red apple", seed=1)
    (held,) = guard.generate_all(request)
    assert isinstance(held, Refusal)
    assert held.stage is Stage.WATERMARK
    assert np.array_equal(decode(Path(held.evidence_file).read_bytes()).pixels, draw_shapes(1))
    (released,) = guard.generate_all(request, approval=after(held))
    assert isinstance(released, Sealed)


class Counting(ShapeGenerator):
    """Remembers how many pictures each call draws."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def draw(self, request: PromptRequest, prompt: str, *, progress: Any = None) -> list[Drawn]:
        self.counts.append(request.count)
        return super().draw(request, prompt, progress=progress)


def test_a_held_picture_of_several_is_drawn_by_itself(home: Path, guard_in: Callable[..., Guard]) -> None:
    """As its release draws it: models round differently in a batch."""
    generator = Counting()
    request = PromptRequest(prompt="a red apple", seed=1, count=2)
    reviewing(home, guard_in, generator=generator).generate_all(request, ids=[ImageId.new(), ImageId.new()])
    assert generator.counts == [2, 1, 1]
