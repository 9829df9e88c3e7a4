"""Modes, days, windows, jurisdictions and languages: when a rule counts."""

# ruff: noqa: RUF001

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from guardrails.domain.findings import Action
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import OptionError, PolicyError
from guardrails.prompts import PromptGuard

Build = Callable[..., PromptGuard]
DAY = datetime.date(2026, 6, 15)
WINDOWS = {
    "windows": {
        "election": [
            {"name": "one", "jurisdiction": "US", "from": "2026-06-01", "until": "2026-06-30"},
            {"name": "everywhere", "from": "2027-01-01", "until": "2027-01-01"},
        ]
    }
}
ALWAYS = {"terms": ["other"]}


def ask(guard: PromptGuard, prompt: str = "a foo", on: datetime.date = DAY, **request: str) -> PromptDecision:
    return guard.decide(PromptRequest(prompt=prompt, **request), on=on)


def test_a_rule_in_shadow_mode_is_recorded_and_changes_nothing(guard_with: Build) -> None:
    decision = ask(guard_with({"terms": ["foo"], "mode": "shadow"}, {"terms": ["a"], "action": "flag"}))
    assert decision.action is Action.FLAG
    assert [finding.rule for finding in decision.shadow] == ["R-1"]
    assert [finding.rule for finding in decision.findings] == ["R-2"]


def test_a_rewrite_in_shadow_mode_rewrites_nothing(guard_with: Build) -> None:
    rule = {"terms": ["foo"], "mode": "shadow", "action": "rewrite", "rewrite": "bar"}
    decision = ask(guard_with(rule))
    assert (decision.prompt, decision.rewritten) == ("a foo", False)
    assert decision.shadow[0].evidence["rewrites"] == [{"from": "foo", "to": "bar", "start": 2, "end": 5}]


def test_a_rule_that_is_off_is_not_run(guard_with: Build) -> None:
    decision = ask(guard_with({"terms": ["foo"], "mode": "off"}, ALWAYS))
    assert (decision.findings, decision.shadow, decision.near_misses) == ((), (), ())


@pytest.mark.parametrize(("on", "speaks"), [("2026-06-14", False), ("2026-06-15", True), ("2026-06-16", False)])
def test_effective_days_are_included(guard_with: Build, on: str, speaks: bool) -> None:
    rule = {"terms": ["foo"], "effective": {"from": "2026-06-15", "until": "2026-06-15"}}
    decision = ask(guard_with(rule, ALWAYS), on=datetime.date.fromisoformat(on))
    assert bool(decision.findings) is speaks


@pytest.mark.parametrize(
    ("on", "jurisdiction", "speaks"),
    [
        ("2026-06-01", "US", True), ("2026-06-30", "US", True), ("2026-07-01", "US", False),
        ("2026-06-15", "DE", False),
        # A place that is not known is every place.
        ("2026-06-15", "", True),
        ("2027-01-01", "DE", True), ("2027-01-02", "", False),
    ],
)  # fmt: skip
def test_windows(guard_with: Build, on: str, jurisdiction: str, speaks: bool) -> None:
    guard = guard_with({"terms": ["foo"], "window": "election"}, ALWAYS, **WINDOWS)
    decision = ask(guard, on=datetime.date.fromisoformat(on), jurisdiction=jurisdiction)
    assert bool(decision.findings) is speaks


@pytest.mark.parametrize(("jurisdiction", "speaks"), [("DE", True), ("FR", False), ("", True)])
def test_jurisdictions(guard_with: Build, jurisdiction: str, speaks: bool) -> None:
    decision = ask(guard_with({"terms": ["foo"], "jurisdictions": ["DE", "AT"]}, ALWAYS), jurisdiction=jurisdiction)
    assert bool(decision.findings) is speaks
    assert decision.jurisdiction == jurisdiction


@pytest.mark.parametrize(
    ("jurisdiction", "speaks"),
    [("US-CA", True), ("US", True), ("US-TX", False), ("DE", False), ("", True)],
)
def test_a_rule_for_a_part_of_a_country(guard_with: Build, jurisdiction: str, speaks: bool) -> None:
    """Who says only the country may be in that part of it."""
    decision = ask(guard_with({"terms": ["foo"], "jurisdictions": ["US-CA"]}, ALWAYS), jurisdiction=jurisdiction)
    assert bool(decision.findings) is speaks


@pytest.mark.parametrize("scope", [{"jurisdictions": ["US"]}, {"window": "election"}])
def test_a_part_of_a_country_is_held_against_the_rules_of_the_country(guard_with: Build, scope: Any) -> None:
    guard = guard_with({"terms": ["foo"], **scope}, ALWAYS, **WINDOWS)
    assert ask(guard, jurisdiction="US-CA").findings
    assert not ask(guard, jurisdiction="DE").findings


@pytest.mark.parametrize(
    ("rule", "jurisdiction", "speaks"),
    [
        ("EU", "DE", True), ("EU", "DE-BY", True), ("EU", "EU", True), ("EU", "CH", False), ("EU", "", True),
        ("DE", "EU", True), ("DE", "FR", False), ("US", "EU", False),
    ],
)  # fmt: skip
def test_a_member_is_held_against_the_rules_of_its_union(
    guard_with: Build, rule: str, jurisdiction: str, speaks: bool
) -> None:
    """As its labels are: the members stand in `policies/jurisdictions`."""
    decision = ask(guard_with({"terms": ["foo"], "jurisdictions": [rule]}, ALWAYS), jurisdiction=jurisdiction)
    assert bool(decision.findings) is speaks


@pytest.mark.parametrize("code", ["us", "USA", "California", "US-"])
def test_what_is_no_place_is_said_and_escapes_no_rule(guard_with: Build, code: str) -> None:
    with pytest.raises(OptionError, match="ISO 3166"):
        ask(guard_with({"terms": ["foo"], "jurisdictions": ["US"]}, ALWAYS), jurisdiction=code)


def test_a_policy_of_which_no_rule_is_in_effect_allows_nothing(guard_with: Build) -> None:
    guard = guard_with({"terms": ["foo"], "effective": {"from": "2026-07-01"}})
    with pytest.raises(PolicyError, match="no rule of t is in effect on 2026-06-15"):
        ask(guard, "a tree")


def test_the_message_is_in_the_language_of_the_request(guard_with: Build) -> None:
    guard = guard_with({"terms": ["foo"], "message": {"en": "found {words}", "de": "gefunden: {words}"}})
    messages = [ask(guard, language=language).findings[0].message for language in ("en", "de", "it")]
    assert messages == ['found "foo"', 'gefunden: "foo"', 'found "foo"']


POLISH = "obraz kota na dachu przy domu i pod drzewem, nie ma psa"
LANGUAGES = {
    "language_rule": {"id": "L-1", "action": "review", "supported": ["en", "ru"], "message": "no list for {language}"}
}


@pytest.mark.parametrize(
    ("prompt", "language"),
    [
        (POLISH, "pl"), ("עץ ירוק ליד הנהר", "he"), ("ต้นไม้สีเขียวริมแม่น้ำ", "th"),
        ("een kat op het dak van een huis", "nl"),
        ("một con mèo trên mái nhà của người", "vi"),
        ("a cat on the roof of a house", ""), ("кот на крыше дома", ""), ("portrait by jan van der beeck", ""),
        ("a van driving past tall buildings", ""), ("wooden bridge", ""), ("café de la paix, paris", ""),
    ],
)  # fmt: skip
def test_a_language_without_lists_is_held(guard_with: Build, prompt: str, language: str) -> None:
    decision = ask(guard_with(ALWAYS, **LANGUAGES), prompt)
    assert [finding.message for finding in decision.findings] == ([f"no list for {language}"] if language else [])
    assert decision.action is (Action.REVIEW if language else Action.ALLOW)


EXPLICIT = {
    "es": ["una mujer desnuda", "un hombre decapitado", "una escena de suicidio"],
    "fr": ["une femme nue", "un homme décapité", "une scène d'automutilation"],
    "de": ["eine nackte Frau", "ein enthaupteter Mann", "ein Selbstmord auf der Brücke"],
    "it": ["una donna nuda", "un uomo decapitato", "una scena di suicidio"],
    "pt": ["uma mulher nua", "um homem degolado", "uma cena de automutilação"],
    "ru": ["голая женщина", "обезглавленный мужчина", "сцена самоубийства"],
    "tr": ["çıplak bir kadın", "bıçaklanmış bir adam", "intihar sahnesi"],
    "ar": ["امرأة عارية", "رجل مقطوع الرأس", "مشهد انتحار"],
    "hi": ["नग्न महिला", "सिर कटा आदमी", "आत्महत्या का दृश्य"],
    "zh": ["一个裸体女人", "被斩首的男人", "自杀的场景"],
    "ja": ["裸の女性", "斬首された男", "自殺の場面"],
    "ko": ["나체의 여자", "참수된 남자", "자살 장면"],
}


@pytest.mark.parametrize("language", EXPLICIT)
def test_explicit_words_of_twelve_languages_are_held(decide: Callable[[str], PromptDecision], language: str) -> None:
    for prompt in EXPLICIT[language]:
        assert decide(prompt).action >= Action.REVIEW, prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "una casa roja junto al mar", "une maison rouge au bord de la mer", "ein rotes Haus am Meer", "una casa rossa",
        "uma casa vermelha", "красный дом у моря", "деревянная голова на столе", "deniz kenarında kırmızı ev",
        "بيت أحمر على البحر", "समुद्र के पास लाल घर", "海边的红房子", "裸足で歩く人", "바다 옆 빨간 집",
    ],
)  # fmt: skip
def test_harmless_words_of_these_languages_pass(decide: Callable[[str], PromptDecision], prompt: str) -> None:
    assert decide(prompt).findings == ()
