"""What the guard decides, and what it says about it."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.domain.canonical import canonical_json
from guardrails.domain.findings import Action, Span
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import PromptError
from guardrails.policy import default_policy
from guardrails.prompts import PromptGuard
from guardrails.resources import policies_path

GuardWith = Callable[..., PromptGuard]
Decide = Callable[[str], PromptDecision]


def ask(guard: PromptGuard, prompt: Any, negative: Any = "") -> PromptDecision:
    return guard.decide(PromptRequest(prompt=prompt, negative_prompt=negative))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("\u200b\u2060 \ufe0f", "empty"),
        (None, "NoneType, not text"),
        (b"a cat", "bytes, not text"),
        ("a cat\x00", "U+0000"),
        ("a \x1b[31mcat", "U+001B"),
        ("a \x85 cat", "U+0085"),
        ("a \ud83d cat", "surrogate"),
    ],
)
def test_what_is_not_a_prompt_is_refused(guard_with: GuardWith, prompt: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says.replace("+", r"\+")):
        ask(guard_with({"terms": ["foo"]}), prompt)


def test_the_limit_is_named_with_the_length(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["foo"]}, limit=10)
    assert ask(guard, "x" * 10).action is Action.ALLOW
    with pytest.raises(PromptError, match="has 11 characters; this policy allows 10"):
        ask(guard, "x" * 11)
    with pytest.raises(PromptError, match="the negative prompt has 11"):
        ask(guard, "x", "y" * 11)


def test_a_finding_explains_itself_in_the_original_text(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["foo bar"]})
    prompt = "Look: F\u200bOO b4r, and foo  bar"
    decision = ask(guard, prompt)
    (finding,) = decision.findings
    assert finding.rule == "R-1"
    assert finding.span == Span(start=6, end=14)
    assert prompt[6:14] == "F\u200bOO b4r"
    assert [span["start"] for span in finding.evidence["spans"]] == [6, 20]
    assert finding.message == 'found "F\u200bOO b4r", "foo bar"'
    assert finding.evidence["term"] == "foo bar"
    assert finding.detector.digest == decision.policy.digest
    canonical_json(finding)


def test_a_word_matches_on_its_boundaries_only(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["foo"]})
    assert ask(guard, "a food foolish kungfoo").action is Action.ALLOW
    assert ask(guard, "(foo)").action is Action.BLOCK


def test_a_sentence_end_separates_a_phrase(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["dead body"]})
    assert ask(guard, "the room was dead. Body lotion on a shelf").action is Action.ALLOW
    assert ask(guard, "a dead\nbody").action is Action.BLOCK


@pytest.mark.parametrize(("prompt", "speaks"), [
    ("the Jordan, Peele Street stop", False),
    ("the jordan,peele street stop", False),
    ("the Jordan (Peele Street)", True),
    ("jordan peele", True), ("Jordan-Peele", True), ("Jordan   PEELE", True), ("jordanpeele", True),
])  # fmt: skip
def test_punctuation_is_a_barrier_inside_names(guard_with: GuardWith, prompt: str, speaks: bool) -> None:
    guard = guard_with({"terms": ["jordan peele"], "names": True})
    assert bool(ask(guard, prompt).findings) is speaks


@pytest.mark.parametrize(("prompt", "speaks"), [
    ("J. J. Abrams", True), ("J.J. Abrams", True), ("jj abrams", True), ("J J Abrams", True),
    ("St. Vincent", True), ("st vincent", True), ("the first. Vincent", False), ("plan J; J. Abrams", False),
    ("J. J, Abrams", False), ("J. J! Abrams", False),
])  # fmt: skip
def test_the_full_stop_of_an_initial_or_a_title_is_none(guard_with: GuardWith, prompt: str, speaks: bool) -> None:
    guard = guard_with({"terms": ["j j abrams", "st vincent", "first vincent"], "names": True})
    assert bool(ask(guard, f"a photo of {prompt}").findings) is speaks


def test_names_with_full_stops_are_found_as_the_registry_writes_them(default_guard: PromptGuard) -> None:
    with policies_path("registries", "public-figures.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if "." in row["name"] and row["living"] != "no"]
    assert len(rows) > 1
    for row in rows:
        findings = ask(default_guard, f"photo of {row['name']}").findings
        found = {span.get("registry_id") for finding in findings for span in finding.evidence["spans"]}
        # "will.i.am" is also three words of which none is an initial.
        assert row["id"] in found or row["name"] == "will.i.am", row["name"]


def test_every_group_of_cues_must_be_heard(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["foo"], "requires": [["red", "blue"], ["photo"]]})
    assert ask(guard, "foo photo").action is Action.ALLOW
    assert ask(guard, "foo red").action is Action.ALLOW
    decision = ask(guard, "photo of a blue foo")
    assert decision.action is Action.BLOCK
    assert decision.findings[0].evidence["cues"] == ["blue", "photo"]


def test_benign_phrases_mask_and_do_not_delete(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["foo", "left right"], "benign_phrases": ["foo cake"]})
    assert ask(guard, "a foo cake").action is Action.ALLOW
    assert ask(guard, "a foo cake and a foo").action is Action.BLOCK
    # If the phrase were cut out, its neighbours would become a term.
    assert ask(guard, "left foo cake right").action is Action.ALLOW


def test_an_exception_silences_mild_rules_and_never_severe_ones(guard_with: GuardWith) -> None:
    mild = {"terms": ["foo"], "severity": 2, "action": "review", "unless": ["medical"]}
    severe = {"terms": ["foo film"], "severity": 3, "unless": ["medical"]}
    guard = guard_with(mild, severe)
    assert ask(guard, "a medical foo").action is Action.ALLOW
    decision = ask(guard, "a medical foo film")
    assert [finding.rule for finding in decision.findings] == ["R-2"]
    assert decision.action is Action.BLOCK


@given(
    severity=st.integers(1, 4), cap=st.integers(0, 4), exception=st.sampled_from(["medical", "m e d i c a l", "museum"])
)
@settings(max_examples=40, deadline=None)
def test_an_exception_reaches_exactly_to_its_severity(
    guard_with: GuardWith, severity: int, cap: int, exception: str
) -> None:
    rule = {"terms": ["foo"], "severity": severity, "unless": ["medical", "museum"], "unless_severity": cap}
    silent = not ask(guard_with(rule), f"foo in a {exception}").findings
    assert silent is (severity <= cap)


def test_the_order_of_rules_never_matters(guard_with: GuardWith) -> None:
    rules = [
        {"terms": ["foo"], "action": action, "id": action} for action in ("flag", "review", "block")
    ] + [{"terms": ["foo"], "action": "rewrite", "rewrite": "bar", "id": "rewrite"}]  # fmt: skip
    decisions = [ask(guard_with(*order), "a foo") for order in itertools.permutations(rules)]
    assert {decision.action for decision in decisions} == {Action.BLOCK}
    assert {frozenset(f.rule for f in d.findings) for d in decisions} == {frozenset(rule["id"] for rule in rules)}


def test_the_negative_prompt_is_read_only_by_rules_that_ask_for_it(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["foo"]}, {"terms": ["bar"], "negative_prompt": True})
    assert ask(guard, "a tree", "foo").action is Action.ALLOW
    decision = ask(guard, "a tree", "no bar")
    assert decision.findings[0].span == Span(start=3, end=6, field="negative_prompt")


def test_a_rewrite_replaces_the_longest_wording_and_shows_the_difference(guard_with: GuardWith) -> None:
    rule = {"action": "rewrite", "rewrite": "misty hills", "terms": ["greg", "by greg", "in the style of greg"]}
    decision = ask(guard_with(rule), "A dragon in the style of GREG, g\u200breg")
    assert decision.action is Action.REWRITE
    assert decision.rewritten
    assert decision.prompt == "A dragon misty hills, misty hills"
    assert decision.findings[0].evidence["rewrites"] == [
        {"from": "in the style of GREG", "to": "misty hills", "start": 9, "end": 29},
        {"from": "g\u200breg", "to": "misty hills", "start": 31, "end": 36},
    ]


def test_a_blocked_prompt_is_not_rewritten(guard_with: GuardWith) -> None:
    guard = guard_with({"action": "rewrite", "rewrite": "hills", "terms": ["greg"]}, {"terms": ["foo"]})
    decision = ask(guard, "foo by greg")
    assert (decision.action, decision.prompt, decision.rewritten) == (Action.BLOCK, "foo by greg", False)


def test_two_rewrites_of_overlapping_words_leave_neither_behind(guard_with: GuardWith) -> None:
    guard = guard_with(
        {"action": "rewrite", "rewrite": "one", "terms": ["aa bb"]},
        {"action": "rewrite", "rewrite": "two", "terms": ["bb cc"]},
    )
    assert ask(guard, "x aa bb cc y").prompt == "x one, two y"


def test_terms_in_scripts_without_blanks_are_found(guard_with: GuardWith) -> None:
    guard = guard_with({"terms": ["裸体", "порно"]})
    assert ask(guard, "一个裸体的人").action is Action.BLOCK
    assert ask(guard, "красивое порно фото").action is Action.BLOCK


def test_a_repeated_word_makes_a_short_finding(guard_with: GuardWith) -> None:
    (finding,) = ask(guard_with({"terms": ["foo", "bar"]}), "foo bar " * 240).findings
    assert finding.evidence["hits"] == 480
    assert len(finding.evidence["spans"]) <= 50
    assert finding.message == 'found "foo", "bar"'


def test_a_policy_without_prompt_terms_allows(guard_with: GuardWith) -> None:
    policy = dataclasses.replace(default_policy(), prompt_rules=())
    assert ask(PromptGuard(policy), "anything").action is Action.ALLOW


def test_the_same_request_gets_the_same_decision(default_guard: PromptGuard) -> None:
    def plain(decision: PromptDecision) -> bytes:
        return canonical_json([decision.action, decision.findings, decision.prompt, decision.policy])

    prompt = "nude statue by greg rutkowski, p.o.r.n, Joe Biden"
    assert plain(ask(default_guard, prompt)) == plain(ask(default_guard, prompt))


WORDS = st.sampled_from(
    [
        "a", "nude", "n4ked", "p.o.r.n", "porn", "gore", "greg", "rutkowski", "by", "donald", "trump", "arrested",
        "photo", "medical", "naked", "cake", "statue", ",", ".", "(", ")", ":1.2", "n\u200bude",
        "\uff50\uff4f\uff52\uff4e",
        "p\u043ern", "&#112;orn", "in", "the", "style", "of", "artgerm", "🔥", "\u00e9", "aaa", "(greg", "g r e g",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(WORDS, st.text(max_size=4)), min_size=1, max_size=25).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_spans_are_never_empty_and_always_inside_the_prompt(default_guard: PromptGuard, prompt: str) -> None:
    try:
        decision = ask(default_guard, prompt)
    except PromptError:
        return
    for finding in decision.findings:
        assert finding.span is not None
        assert prompt[finding.span.start : finding.span.end]
        for span in finding.evidence["spans"]:
            assert 0 <= span["start"] < span["end"] <= len(prompt)


@given(st.lists(WORDS, min_size=1, max_size=20).map(" ".join))
@settings(max_examples=150, deadline=None)
def test_what_was_rewritten_needs_no_second_rewrite(default_guard: PromptGuard, prompt: str) -> None:
    decision = ask(default_guard, prompt)
    if decision.rewritten:
        again = ask(default_guard, decision.prompt)
        assert not any(finding.action is Action.REWRITE for finding in again.findings)
        assert again.action <= decision.action
