"""The `semantics:` section: rates become thresholds, and a category without pairs may not block."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails.domain.findings import Action
from guardrails.errors import DatasetUnavailable, PolicyError
from guardrails.policy import default_policy, parse_policy
from guardrails.policy import semantics as module
from guardrails.policy.semantics import Semantics

CARD = {
    "heads_sha256": "ab" * 32,
    "adapter_sha256": "",
    "categories": {"weather": {"pairs": 100}, "traffic": {"pairs": 99}},
    "levels": {"0.01": {"threshold": 0.9, "error_rate": "at 1 %"}, "0.04": {"threshold": 0.5, "error_rate": "at 4 %"}},
    "garbled": {"0.005": {"threshold": 0.3, "error_rate": "at .5 % of plain prompts"}},
}

Load = Callable[..., Semantics]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    folder = tmp_path / "prompts" / "small"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(CARD))
    (tmp_path / "prompts" / "broken").mkdir()
    (tmp_path / "prompts" / "broken" / "card.json").write_text("[]")

    def find(*parts: str) -> Path:
        path = tmp_path.joinpath(*parts)
        if not path.exists():
            raise DatasetUnavailable("/".join(parts))
        return path

    monkeypatch.setattr(module, "datasets_path", find)

    def build(*rules: dict[str, Any], **changes: Any) -> Semantics:
        section = {"id": "S", "model": "small", "when_unavailable": "review", "rules": list(rules)} | changes
        pack = {
            "api_version": "policy/v1", "id": "t", "version": "1", "description": "d",
            "prompt_rules": [
                {"id": "R", "category": "c", "action": "block", "severity": 3, "message": "m", "terms": ["x"]}
            ],
            "watermark_rule": {"id": "W", "not_robust": "flag", "message": "m"},
            "semantics": {key: value for key, value in section.items() if value is not None},
        }  # fmt: skip
        policy = parse_policy(json.dumps(pack).encode(), source="t.yaml")
        assert policy.semantics is not None
        return policy.semantics

    return build


def rule(**changes: Any) -> dict[str, Any]:
    return {"id": "A", "category": "weather", "action": "block", "false_positives": 0.01, "message": "m"} | changes


def test_a_rate_becomes_the_threshold_of_the_card(load: Load) -> None:
    section = load(rule(), rule(id="B", action="review", false_positives=0.04))
    assert [(one.threshold, one.error_rate) for one in section.rules] == [(0.9, "at 1 %"), (0.5, "at 4 %")]
    assert (section.digest, section.when_unavailable) == ("ab" * 32, Action.REVIEW)


@pytest.mark.parametrize("action", ["flag", "review"])
def test_a_category_with_few_pairs_may_flag_and_review(load: Load, action: str) -> None:
    assert load(rule(category="traffic", action=action)).rules[0].category == "traffic"


def test_a_category_with_few_pairs_may_not_block(load: Load) -> None:
    with pytest.raises(PolicyError, match="99 contrast pairs") as caught:
        load(rule(category="traffic"))
    assert "flag or review" in caught.value.hint
    assert caught.value.message.startswith("t.yaml:1:")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category": "wether"}, "wether"),
        ({"action": "rewrite"}, "rewrite"),
        ({"false_positives": 0.02}, "0.02"),
        ({"false_positives": "low"}, "rate"),
        ({"false_positives": True}, "rate"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_bad_rule_is_named(load: Load, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        load(rule(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "absent"}, "no prompt heads"),
        ({"model": "broken"}, "not a card"),
        ({"model": "../small"}, "not the name"),
        ({"when_unavailable": "rewrite"}, "rewrite"),
        ({"when_unavailable": None}, "when_unavailable"),
        ({"rules": []}, "no rules"),
    ],
)
def test_a_bad_section_is_named(load: Load, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        load(rule(), **changes)


def endpoint(**changes: Any) -> dict[str, Any]:
    one = {"id": "M-1", "category": "violence", "action": "block", "message": "m", "threshold": 0.5, "error_rate": "?"}
    return {"id": "M", "when_unavailable": "review", "rules": [one | changes]}


def test_an_endpoint_has_its_own_thresholds(load: Load) -> None:
    section = load(rule(), endpoint=endpoint())
    assert section.endpoint is not None
    assert section.endpoint.rules[0].threshold == 0.5


@pytest.mark.parametrize("threshold", [0, 1.5, "high", True])
def test_an_endpoint_threshold_lies_within_0_and_1(load: Load, threshold: object) -> None:
    with pytest.raises(PolicyError):
        load(rule(), endpoint=endpoint(threshold=threshold))


def test_a_policy_cannot_name_an_address(load: Load) -> None:
    with pytest.raises(PolicyError, match="url"):
        load(rule(), endpoint=endpoint() | {"url": "https://example.org"})


def test_the_default_pack_names_heads_and_reviews_before_it_blocks() -> None:
    section = default_policy().semantics
    assert section is not None
    assert len(section.digest) == 64
    assert {one.action for one in section.rules} == {Action.BLOCK, Action.REVIEW}


def test_garbled_text_has_thresholds_of_its_own_and_never_blocks(load: Load) -> None:
    (found,) = load(rule(category="garbled", action="review", false_positives=0.005)).rules
    assert (found.threshold, found.error_rate) == (0.3, "at .5 % of plain prompts")
    with pytest.raises(PolicyError, match="contrast pairs"):
        load(rule(category="garbled", action="block", false_positives=0.005))
    with pytest.raises(PolicyError, match="not calibrated"):
        load(rule(category="garbled", action="review", false_positives=0.01))
