"""What reviewers can allow, and ids that a caller chooses first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from guardrails import home as homes
from guardrails.domain.findings import Action, Component, Finding
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError
from guardrails.pipeline import Approval, Guard, Sealed, Step
from guardrails.pipeline.approval import approved
from guardrails.testing.doubles import draw_shapes

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
        approval = Approval(review="r", rules=frozenset(), seed=seed, pixels_sha256=seen)
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
    import dataclasses

    from guardrails.policy import default_policy

    policy = default_policy()
    rules = tuple(
        dataclasses.replace(rule, action=Action.REVIEW, threshold=0.005) if rule.concept == "weapon" else rule
        for rule in policy.screen_rules
    )
    guard = guard_in(home, policy=dataclasses.replace(policy, screen_rules=rules))
    (held,) = guard.generate_all(PromptRequest(prompt="a red apple", seed=1))
    assert isinstance(held, Refusal)
    assert held.stage is Stage.SCREENING
    path = Path(held.evidence_file)
    assert path.is_relative_to(homes.evidence_folder(home))
    assert path.stat().st_mode & 0o077 == 0
