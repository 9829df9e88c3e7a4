"""Packs become typed policies, or say at which line, column and key they do not."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from guardrails.domain.canonical import digest
from guardrails.domain.findings import Action
from guardrails.errors import PolicyError
from guardrails.policy import Policy, default_policy, load_policy, parse_policy


def load(text: str, folder: Path | None = None) -> Policy:
    return parse_policy(text.encode(), source="p.yaml", folder=folder)


def test_a_pack_becomes_typed_rules(pack: str) -> None:
    policy = load(pack)
    rule = policy.prompt_rules[0]
    assert (rule.id, rule.action, rule.severity) == ("R-1", Action.BLOCK, 3)
    assert rule.terms == ("gore", "blood bath")
    assert policy.screen_rules[0].threshold == 0.5
    assert policy.watermark_rule.not_robust is Action.FLAG
    assert policy.tests[0].expect is Action.ALLOW


@pytest.mark.parametrize(
    ("old", "new", "where", "says", "hint"),
    [
        ("severity: 3", "severty: 3", "6:5", "`severity` is missing", "`severty`"),
        ("    terms:", "    unles: [x]\n    terms:", "11:12", "unknown key `unles`", "`unless`"),
        ("    action: block\n    severity", "    action: blok\n    severity", "8:13", "`blok`", "`block`"),
        ("    action: block\n    severity", "    action: allow\n    severity", "8:13", "`allow`", "flag"),
        ("    action: block\n    screen", "    action: rewrite\n    screen", "15:13", "`rewrite`", "flag"),
        ("severity: 3", "severity: 5", "9:15", "5 is out of range", "1 to 4"),
        ("severity: 3", "severity: true", "9:15", "whole number", ""),
        ("threshold: 0.5", "threshold: 1.5", "18:16", "out of range", "at most 1"),
        ("threshold: 0.5", "threshold: 0", "18:16", "out of range", "above 0"),
        ("threshold: 0.5", "threshold: high", "18:16", "expected a number", "0 to 1"),
        ("threshold: 0.5", "threshold: calibrated", "19:17", "its own error rate", "remove"),
        ("[gore, Blood  Bath]", "gore", "11:12", "expected a list", "- item"),
        ("[gore, Blood  Bath]", "[gore, 7]", "11:19", "expected text", "quotes"),
        ("[gore, Blood  Bath]", "['...']", "11:13", "can never match", ""),
        ("[gore, Blood  Bath]", "[]", "6:5", "no terms", "terms_file"),
        ("    terms:", "    requires: [[]]\n    terms:", "11:16", "never speak", ""),
        ("{words}", "{word}", "10:14", "placeholder", "braces"),
        ("expect: allow", "expect: alow", "25:30", "`alow`", "`allow`"),
        ("policy/v1", "policy/v2", "1:14", "policy/v2", "policy/v1"),
        ('version: "1"', "version: 1", "3:10", "expected text", "quotes"),
        ("id: S-1", "id: R-1", "13:9", "`R-1` is used twice", "line 6"),
        ("id: W-1", "id: R-1", "23:22", "`R-1` is used twice", "line 6"),
        ("tests:", "promt_limit: 5\ntests:", "24:14", "unknown key `promt_limit`", "`prompt_limit`"),
        ("    action: block\n    severity", "    action: rewrite\n    severity", "6:5", "belong together", "both"),
        ("    terms:", "    terms_file: x.txt\n    terms:", "11:17", "not a file", "inline"),
    ],
)
def test_mistakes_are_located_and_explained(pack: str, old: str, new: str, where: str, says: str, hint: str) -> None:
    assert old in pack
    with pytest.raises(PolicyError) as caught:
        load(pack.replace(old, new, 1))
    assert caught.value.message.startswith(f"p.yaml:{where}: ")
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_a_message_carries_the_key_path(pack: str) -> None:
    with pytest.raises(PolicyError, match=r"p\.yaml:9:15: prompt_rules\[0\]\.severity: "):
        load(pack.replace("severity: 3", "severity: 9"))


def test_a_policy_that_would_release_everything_is_invalid(pack: str) -> None:
    start, end = pack.index("prompt_rules:"), pack.index("similarity_rules:")
    with pytest.raises(PolicyError, match="release everything"):
        load(pack[:start] + pack[end:])


@pytest.mark.parametrize("document", ["just text", "[a, b]", "12"])
def test_a_document_that_is_no_mapping_is_refused(document: str) -> None:
    with pytest.raises(PolicyError, match=r"p\.yaml:1:1: expected a mapping"):
        load(document)


def test_the_digest_is_of_the_content_and_not_of_the_spelling(pack: str) -> None:
    first = load(pack)
    respelled = "# a comment\n" + pack.replace("[gore, Blood  Bath]", "\n      - gore\n      - 'blood bath'")
    assert load(respelled).digest == first.digest
    left_out = ("digest", "lineage", "signature", "registries")
    content = {f.name: getattr(first, f.name) for f in dataclasses.fields(first) if f.name not in left_out}
    assert first.digest == digest(content | {"registries": {}})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gore,", "gory,"),
        ("0.5", "0.50001"),
        ("for tests", "for test"),
        ("a tree", "a bee"),
        ("not_robust: flag", "not_robust: block"),
    ],
)
def test_the_digest_changes_with_any_content(pack: str, old: str, new: str) -> None:
    assert load(pack.replace(old, new)).digest != load(pack).digest


def test_term_lists_are_read_and_are_part_of_the_digest(pack: str, tmp_path: Path) -> None:
    text = pack.replace("terms: [gore, Blood  Bath]", "terms_file: lists/words.txt")
    (tmp_path / "lists").mkdir()
    words = tmp_path / "lists" / "words.txt"
    words.write_text("# why\n\nGore\nblood bath\n")
    policy = load(text, tmp_path)
    assert policy.prompt_rules[0].terms == ("gore", "blood bath")
    assert policy.digest == load(pack).digest
    words.write_text("gore\n")
    assert load(text, tmp_path).digest != policy.digest


def test_a_bad_line_of_a_term_list_is_located_in_the_list(pack: str, tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("gore\n!!\n")
    with pytest.raises(PolicyError, match=r"w\.txt:2:1: .*can never match"):
        load(pack.replace("terms: [gore, Blood  Bath]", "terms_file: w.txt"), tmp_path)


@pytest.mark.parametrize("escape", ["../secret.txt", "/etc/hostname", "link.txt", "sub/../../secret.txt"])
def test_a_term_list_outside_the_policies_folder_is_refused(pack: str, tmp_path: Path, escape: str) -> None:
    folder = tmp_path / "packs"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("password\n")
    os.symlink(tmp_path / "secret.txt", folder / "link.txt")
    with pytest.raises(PolicyError, match="outside the policies folder"):
        load(pack.replace("terms: [gore, Blood  Bath]", f"terms_file: {escape}"), folder)


def test_packs_are_found_by_name_and_by_path(pack: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(pack)
    assert load_policy(tmp_path / "mine.yaml").id == "tiny"
    assert load_policy(str(tmp_path / "mine.yaml")).id == "tiny"
    assert load_policy("default") == default_policy()


def test_an_unknown_pack_name_gets_a_suggestion() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy("defualt")
    assert "`default`" in caught.value.hint


def test_a_missing_file_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read"):
        load_policy(tmp_path / "none.yaml")


def test_a_calibrated_threshold_comes_with_its_error_rate_from_the_card(
    pack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tmp_path / "open-nsfw.json"
    card.write_text('{"concepts": {"nsfw": {"threshold": 0.625, "error_rate": "2 of 300"}}}')
    monkeypatch.setattr("guardrails.policy.ceilings.datasets_path", lambda *parts: tmp_path / parts[-1])
    text = pack.replace("threshold: 0.5\n    error_rate: 3 of 232", "threshold: calibrated")
    rule = load(text).screen_rules[0]
    assert (rule.threshold, rule.error_rate) == (0.625, "2 of 300")
    with pytest.raises(PolicyError, match=r"18:16: .*no threshold for `gore`"):
        load(text.replace("concept: nsfw", "concept: gore"))


def test_a_calibrated_threshold_without_a_card_is_refused(pack: str) -> None:
    text = pack.replace("threshold: 0.5\n    error_rate: 3 of 232", "threshold: calibrated")
    with pytest.raises(PolicyError, match=r"18:16: .*no calibration card"):
        load(text.replace("open-nsfw", "no-such-screen"))
