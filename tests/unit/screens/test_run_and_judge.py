"""What is not known never counts as a pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.domain.findings import Action, Check, CheckStatus, Component, strongest
from guardrails.errors import EmbeddingError, GuardrailsError, ScreenUnavailable
from guardrails.policy.model import ScreenRule
from guardrails.screens import judge, run_screens
from guardrails.screens.protocol import Reading

PIXELS = np.zeros((8, 8, 3), dtype=np.uint8)


class ScriptedScreen:
    """Answers what it was told, or raises it."""

    def __init__(self, answer: Mapping[str, float] | Exception, name: str = "scripted") -> None:
        self.component = Component(name=name, version="1", digest="ab")
        self._answer = answer

    def score(self, pixels: np.ndarray) -> Reading:
        if isinstance(self._answer, Exception):
            raise self._answer
        return Reading(scores=self._answer)


def rule(concept: str = "nsfw", threshold: float = 0.5, *, screen: str = "scripted") -> ScreenRule:
    return ScreenRule(
        id="RULE-01",
        category="sexual",
        action=Action.BLOCK,
        message="The picture is explicit.",
        screen=screen,
        concept=concept,
        threshold=threshold,
        error_rate="5 of 300",
        when_unavailable=Action.REVIEW,
    )


def check(status: CheckStatus, **scores: float) -> Check:
    return Check(component=Component(name="scripted", version="1"), status=status, scores=scores, reason="why")


def test_every_screen_is_run_and_recorded_whatever_the_others_do() -> None:
    checks = run_screens(
        [
            ScriptedScreen(ScreenUnavailable("no weights", hint="install them"), "a"),
            ScriptedScreen(GuardrailsError("it broke"), "b"),
            ScriptedScreen({"nsfw": 0.25}, "c"),
        ],
        PIXELS,
    )
    assert [(c.component.name, c.status, c.reason) for c in checks] == [
        ("a", CheckStatus.UNAVAILABLE, "no weights; install them"),
        ("b", CheckStatus.FAILED, "it broke"),
        ("c", CheckStatus.RAN, ""),
    ]
    assert checks[2].scores == {"nsfw": 0.25}
    assert all(c.milliseconds >= 0 for c in checks)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.01, 1.01])
def test_scores_outside_the_scale_fail_the_check_and_are_not_recorded(score: float) -> None:
    (found,) = run_screens([ScriptedScreen({"fine": 0.1, "nsfw": score})], PIXELS)
    assert found.status is CheckStatus.FAILED
    assert found.scores == {}
    assert "outside 0..1" in found.reason


def test_bugs_pass_through_to_the_pipeline() -> None:
    with pytest.raises(ZeroDivisionError):
        run_screens([ScriptedScreen(ZeroDivisionError())], PIXELS)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_rule_speaks_exactly_at_or_above_its_threshold(score: float, threshold: float) -> None:
    findings = judge([check(CheckStatus.RAN, nsfw=score)], [rule(threshold=threshold)])
    assert strongest(findings) is (Action.BLOCK if score >= threshold else Action.ALLOW)
    for finding in findings:
        assert (finding.score, finding.threshold, finding.error_rate) == (score, threshold, "5 of 300")


@pytest.mark.parametrize(
    "checks",
    [
        [],
        [check(CheckStatus.UNAVAILABLE)],
        [check(CheckStatus.FAILED)],
        [check(CheckStatus.RAN, other=0.0)],
        [check(CheckStatus.RAN)],
        [check(CheckStatus.UNAVAILABLE, nsfw=0.0)],
        [check(CheckStatus.RAN, nsfw=0.0), check(CheckStatus.FAILED)],
    ],
    ids=["none", "unavailable", "failed", "other-concept", "no-scores", "stale-score", "one-of-two-failed"],
)
def test_a_score_that_is_not_known_takes_the_policys_action(checks: list[Check]) -> None:
    (finding,) = judge(checks, [rule()])
    assert finding.action is Action.REVIEW
    assert finding.score is None
    assert finding.evidence["status"] == "unavailable"
    assert finding.evidence["reason"]


def test_a_rule_for_another_screen_is_not_answered_by_this_one() -> None:
    (finding,) = judge([check(CheckStatus.RAN, nsfw=0.0)], [rule(screen="elsewhere")])
    assert finding.detector.name == "elsewhere"
    assert finding.action is Action.REVIEW


def test_an_embedding_without_direction_is_a_failed_check_under_the_policy() -> None:
    checks = run_screens([ScriptedScreen(EmbeddingError("not finite"))], PIXELS)
    assert checks[0].status is CheckStatus.FAILED
    assert strongest(judge(checks, [rule()])) is Action.REVIEW


def test_an_abstention_takes_the_policys_action_and_says_why() -> None:
    abstaining = Check(
        component=Component(name="scripted", version="1"),
        status=CheckStatus.RAN,
        abstained={"nsfw": "too small"},
        evidence={"nsfw": {"box": [1, 2, 3, 4]}},
    )
    (finding,) = judge([abstaining], [rule()])
    assert finding.action is Action.REVIEW
    assert "abstained: too small" in str(finding.evidence["reason"])
    assert finding.evidence["box"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("ceiling", "action"), [(0.949, Action.REVIEW), (0.95, Action.ALLOW), (1.0, Action.ALLOW)])
def test_a_threshold_that_no_picture_can_reach_is_not_known_instead_of_silent(ceiling: float, action: Action) -> None:
    capped = Check(
        component=Component(name="scripted", version="1"),
        status=CheckStatus.RAN,
        scores={"nsfw": 0.9},
        ceilings={"nsfw": ceiling},
    )
    findings = judge([capped], [rule(threshold=0.95)])
    assert strongest(findings) is action
    for finding in findings:
        assert finding.score is None
        assert "never reached" in str(finding.evidence["reason"])


def test_what_explains_a_score_reaches_the_finding() -> None:
    seen = Check(
        component=Component(name="scripted", version="1"),
        status=CheckStatus.RAN,
        scores={"nsfw": 0.9},
        evidence={"nsfw": {"box": [1, 2, 3, 4]}},
    )
    (finding,) = judge([seen], [rule()])
    assert finding.evidence["box"] == [1, 2, 3, 4]
