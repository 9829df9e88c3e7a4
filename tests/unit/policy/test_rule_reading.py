"""Contexts, patterns, messages, dates and registries of a rule, and what is refused about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.errors import PolicyError
from guardrails.policy import Policy, parse_policy
from guardrails.policy.model import Mode, Period
from guardrails.policy.registries import COLUMNS


def load(text: str, folder: Path | None = None) -> Policy:
    return parse_policy(text.encode(), source="p.yaml", folder=folder)


def with_rule(pack: str, more: str, top: str = "") -> str:
    return pack.replace("screen_rules:", f"    {more}\n{top}screen_rules:", 1)


def test_a_context_stands_for_its_words(pack: str) -> None:
    text = with_rule(pack, "requires: [$photo, [oil, $photo]]", "contexts: {photo: [photo, 're:\\b\\d+ ?mm\\b']}\n")
    assert load(text).prompt_rules[0].requires == (
        ("photo", r"re:\b\d+ ?mm\b"),
        ("oil", "photo", r"re:\b\d+ ?mm\b"),
    )


def test_messages_in_several_languages(pack: str) -> None:
    text = pack.replace('message: "Found: {words}"', "message: {en: 'Found: {words}', fr: 'Trouvé : {words}'}")
    rule = load(text).prompt_rules[0]
    assert (rule.message, rule.messages) == ("Found: {words}", {"fr": "Trouvé : {words}"})


def test_a_pack_says_something_about_all_of_its_rules(pack: str) -> None:
    text = pack + "mode: shadow\njurisdictions: [DE, FR]\neffective: {from: 2026-01-01, until: 2026-12-31}\n"
    rule = load(text).prompt_rules[0]
    assert (rule.mode, rule.jurisdictions) == (Mode.SHADOW, ("DE", "FR"))
    assert rule.effective == Period(start="2026-01-01", end="2026-12-31")
    own = load(text.replace("screen_rules:", "    mode: off\n    jurisdictions: [IT]\nscreen_rules:", 1)).prompt_rules[
        0
    ]
    assert (own.mode, own.jurisdictions) == (Mode.OFF, ("IT",))


@pytest.mark.parametrize(
    ("more", "top", "says", "hint"),
    [
        ("requires: [$photo]", "contexts: {foto: [a]}\n", "no context `photo`", "$foto"),
        ("requires: [$a]", "contexts: {a: [$b], b: [c]}\n", "cannot hold another", "both"),
        ("unless: ['re:(a+)+(?=b)']", "", "cannot be used", "RE2"),
        ("unless: ['re:(x)\\1']", "", "cannot be used", "RE2"),
        ("unless: ['re:a*']", "", "matches nothing at all", "RE2"),
        ("unless: ['re:((((a{1,100}){1,100}){1,100}))']", "", "cannot be used", "RE2"),
        (f"unless: ['re:{'a' * 600}']", "", "600 characters", "500"),
        ("unless: ['a*b']", "", "has a * inside", "end"),
        ("window: election", "", "`election` is not known", "write one of"),
        ("effective: {from: 2026-13-01}", "", "is not a date", "2026-12-31"),
        ("effective: {from: 2026-02-01, until: 2026-01-01}", "", "ends before it begins", "exchange"),
        ("mode: on", "", "`on` is not known", "enforce"),
        ("names_from: {registries: [people]}", "", "`people` is not known", "write one of"),
    ],
)
def test_mistakes_are_located_and_explained(pack: str, more: str, top: str, says: str, hint: str) -> None:
    with pytest.raises(PolicyError, match=r"^p\.yaml:\d+:\d+: ") as caught:
        load(with_rule(pack, more, top))
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_names_come_from_a_registry_whose_digest_counts(pack: str, tmp_path: Path) -> None:
    registry = tmp_path / "people.csv"
    header = ",".join(COLUMNS) + "\n"
    registry.write_text(header + "ada example,Q1,Ada Example,actor,,yes,2026,plain,,test,CC0-1.0\n")
    text = with_rule(pack, "names_from: {registries: [people], roles: [actor]}", "registries: {people: people.csv}\n")
    policy = load(text, tmp_path)
    (ref,) = policy.registries
    assert (ref.name, ref.rows, ref.path) == ("people", 1, str(registry.resolve()))
    registry.write_text(registry.read_text() + "bo example,Q2,Bo Example,actor,,yes,2026,plain,,test,CC0-1.0\n")
    assert load(text, tmp_path).digest != policy.digest


@pytest.mark.parametrize(
    ("content", "says"), [("a,b\n1,2\n", "the columns are not"), (",".join(COLUMNS) + "\nno comma\n", "not a row")]
)
def test_a_registry_of_another_shape_is_refused(pack: str, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "people.csv").write_text(content)
    text = with_rule(pack, "names_from: {registries: [people]}", "registries: {people: people.csv}\n")
    with pytest.raises(PolicyError, match=says):
        load(text, tmp_path)


def test_a_registry_outside_of_the_folder_is_refused(pack: str, tmp_path: Path) -> None:
    text = with_rule(pack, "names_from: {registries: [people]}", "registries: {people: /etc/hostname}\n")
    with pytest.raises(PolicyError, match="outside the policies folder"):
        load(text, tmp_path)
