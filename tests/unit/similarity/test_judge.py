from __future__ import annotations

import pytest

from guardrails.domain.canonical import canonical_json, to_plain
from guardrails.domain.findings import Action, Check, CheckStatus, Component, strongest
from guardrails.domain.images import Match, MatchState, Rights
from guardrails.policy.model import SimilarityRule
from guardrails.similarity.judge import judge

COMPONENT = Component(name="similarity", version="1", digest="ab")
RAN = Check(component=COMPONENT, status=CheckStatus.RAN)


def match(entry: str, state: MatchState, reservation: str = "", agreement: float | None = None) -> Match:
    rights = Rights(licence="MIT", licence_url="https://e.org", creator="B", source="p@1", reservation=reservation)
    return Match(
        entry=entry,
        title=entry,
        rights=rights,
        state=state,
        distances={"pdq256": 8, "phash64": 2},
        sha256="00",
        agreement=agreement,
    )


def rule(state: str, reservation: str, action: Action = Action.BLOCK, unavailable: Action = Action.REVIEW):
    return SimilarityRule(
        id=f"SIM-{state}-{reservation}",
        category="rights",
        action=action,
        message="This resembles a work.",
        state=state,
        reservation=reservation,
        when_unavailable=unavailable,
    )


@pytest.mark.parametrize(
    ("state", "reservation", "speaks_about"),
    [
        ("confirmed", "any", "sure"),
        ("confirmed", "opt-out", "sure-reserved"),
        ("candidate", "any", "maybe-reserved"),
        ("candidate", "opt-out", "maybe-reserved"),
    ],
)
def test_a_rule_speaks_about_the_first_match_it_concerns(state, reservation, speaks_about):
    matches = [
        match("maybe-reserved", MatchState.CANDIDATE, "opt-out"),
        match("sure", MatchState.CONFIRMED),
        match("sure-reserved", MatchState.CONFIRMED, "opt-out"),
    ]
    (finding,) = judge(RAN, matches, [rule(state, reservation)])
    assert finding.evidence["entry"] == speaks_about


def test_rules_about_reserved_works_leave_others_alone():
    assert judge(RAN, [match("a", MatchState.CONFIRMED)], [rule("confirmed", "opt-out")]) == ()
    assert judge(RAN, [match("a", MatchState.CANDIDATE, "opt-out")], [rule("confirmed", "opt-out")]) == ()


def test_the_evidence_carries_rights_and_distances_and_has_a_canonical_form():
    (finding,) = judge(RAN, [match("a", MatchState.CONFIRMED, "opt-out", 0.9)], [rule("confirmed", "any")])
    expected = {"creator": "B", "licence": "MIT", "reservation": "opt-out", "agreement": 0.9, "matching_works": 1}
    assert expected.items() <= finding.evidence.items()
    assert finding.evidence["distances"] == {"pdq256": 8, "phash64": 2}
    assert finding.detector == COMPONENT
    canonical_json(to_plain(finding))


def test_each_way_of_confirming_states_its_own_error_rate():
    states = [
        match("a", MatchState.CONFIRMED),
        match("a", MatchState.CONFIRMED, agreement=0.9),
        match("a", MatchState.CANDIDATE),
    ]
    rates = {judge(RAN, [one], [rule("candidate", "any")])[0].error_rate for one in states}
    assert len(rates) == 3
    assert "" not in rates


@pytest.mark.parametrize("status", [CheckStatus.UNAVAILABLE, CheckStatus.FAILED])
def test_what_was_not_checked_follows_the_rule_for_that_and_never_passes_by_itself(status):
    check = Check(component=COMPONENT, status=status, reason="unhashable: too little detail")
    findings = judge(check, [], [rule("confirmed", "any"), rule("candidate", "any", unavailable=Action.ALLOW)])
    assert strongest(findings) is Action.REVIEW
    assert len(findings) == 1
    assert findings[0].evidence["reason"] == check.reason
