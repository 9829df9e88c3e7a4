"""Prompt and face are joined: a person who was asked for by name is not the same case as one who was not."""

from __future__ import annotations

from dataclasses import replace

from guardrails.domain.findings import Action, Check, CheckStatus, Component, Finding
from guardrails.domain.requests import PromptRequest
from guardrails.policy import default_policy
from guardrails.prompts import PromptGuard
from guardrails.screens.persons import NAMED, UNNAMED, join_persons

FACES = Component(name="faces", version="1")


def seen(*people: tuple[str, float]) -> Check:
    persons = [{"person": name, "distance": distance} for name, distance in people]
    score = max((1 - distance for _, distance in people), default=0.1)
    return Check(
        component=FACES,
        status=CheckStatus.RAN,
        scores={"enrolled": score},
        evidence={"enrolled": {"persons": persons}} if people else {},
    )


def named(*people: str) -> list[Finding]:
    spans = [{"field": "prompt", "registry_id": person} for person in people]
    return [
        Finding(
            rule="PERSON-01",
            category="public_figures",
            action=Action.FLAG,
            message="",
            detector=Component(name="prompts", version="1"),
            evidence={"spans": spans},
        )
    ]


def joined(check: Check, findings: list[Finding]) -> Check:
    (found,) = join_persons([check], findings)
    return found


def test_a_named_person_and_an_unnamed_one_get_their_own_scores() -> None:
    check = joined(seen(("enwiki:A", 0.3), ("enwiki:B", 0.5)), named("enwiki:A"))
    assert check.scores == {"enrolled": 0.7, NAMED: 0.7, UNNAMED: 0.5}
    assert [person["person"] for person in check.evidence[NAMED]["persons"]] == ["enwiki:A"]
    assert [person["person"] for person in check.evidence[UNNAMED]["persons"]] == ["enwiki:B"]


def test_who_stands_in_the_negative_prompt_was_not_asked_for() -> None:
    request = PromptRequest(prompt="a man on a stage", negative_prompt="Joe Biden")
    findings = PromptGuard(default_policy()).decide(request).findings
    assert "Joe Biden" in repr(findings)
    assert joined(seen(("enwiki:Joe_Biden", 0.3)), list(findings)).scores[UNNAMED] == 0.7


def test_a_face_without_a_name_in_the_prompt_is_the_deepfake_case() -> None:
    assert joined(seen(("enwiki:A", 0.3)), []).scores == {"enrolled": 0.7, NAMED: 0.0, UNNAMED: 0.7}


def test_nobody_seen_is_known_to_be_nobody() -> None:
    assert joined(seen(), named("enwiki:A")).scores == {"enrolled": 0.1, NAMED: 0.0, UNNAMED: 0.0}


def test_what_is_not_known_stays_not_known() -> None:
    failed = Check(component=FACES, status=CheckStatus.FAILED, reason="x")
    assert joined(failed, []) == failed
    silent = Check(component=FACES, status=CheckStatus.RAN, abstained={"enrolled": "too small"})
    assert joined(silent, []).abstained == {"enrolled": "too small", NAMED: "too small", UNNAMED: "too small"}
    assert joined(silent, []).scores == {}
    pointed = replace(silent, evidence={"enrolled": {"prior": [{"person": "enwiki:A"}]}})
    assert joined(pointed, []).evidence[UNNAMED] == {"prior": [{"person": "enwiki:A"}]}


def test_other_screens_are_left_alone() -> None:
    other = Check(component=Component(name="open-nsfw", version="1"), status=CheckStatus.RAN, scores={"nsfw": 0.1})
    assert joined(other, named("enwiki:A")) == other
