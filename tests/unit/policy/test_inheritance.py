"""A pack that extends another can only make it stricter, unless it says why and who."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guardrails.domain.findings import Action
from guardrails.errors import PolicyError
from guardrails.policy import Policy, load_policy
from guardrails.policy.model import Mode

CHILD = 'api_version: policy/v1\nid: child\nversion: "2"\ndescription: d\n'
Child = Callable[..., Policy]


@pytest.fixture
def child(pack: str, tmp_path: Path) -> Child:
    (tmp_path / "tiny.yaml").write_text(pack + "prompt_limit: 900\n")

    def load(text: str, extends: str = "[tiny]") -> Policy:
        (tmp_path / "child.yaml").write_text(f"{CHILD}extends: {extends}\n{text}")
        return load_policy(tmp_path / "child.yaml")

    return load


def adjust(change: str) -> str:
    return f"adjust:\n  - {{rule: R-1, {change}}}\n"


def test_a_child_has_the_rules_of_its_parent_and_its_own(child: Child) -> None:
    policy = child("prompt_rules:\n  - {id: C-1, category: c, action: flag, severity: 1, message: m, terms: [tree]}\n")
    assert [rule.id for rule in policy.prompt_rules] == ["R-1", "C-1"]
    assert [rule.id for rule in policy.screen_rules] == ["S-1"]
    assert policy.watermark_rule.id == "W-1"
    assert policy.prompt_limit == 900
    assert [(ref.id, ref.version) for ref in policy.lineage] == [("tiny", "1")]


@pytest.mark.parametrize(
    "change",
    [
        "severity: 4", "add_terms: [entrails]", "remove_unless: [museum]", "action: block, severity: 4",
        "remove_benign_phrases: [al gore]",
    ],
)  # fmt: skip
def test_tightening_needs_no_reason(child: Child, pack: str, tmp_path: Path, change: str) -> None:
    (tmp_path / "tiny.yaml").write_text(
        pack.replace("screen_rules:", "    unless: [museum]\n    benign_phrases: [al gore]\nscreen_rules:", 1)
    )
    assert child(adjust(change)).loosened == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("action: review", "action block -> review"),
        ("severity: 1", "severity 3 -> 1"),
        ("mode: shadow", "mode enforce -> shadow"),
        ("remove_terms: [gore]", "terms - gore"),
        ("add_unless: [museum]", "unless + museum"),
        ("add_benign_phrases: [al gore]", "benign_phrases + al gore"),
        ("action: flag, add_terms: [entrails]", "action block -> flag"),
    ],
)
def test_loosening_needs_a_reason_and_an_approver(child: Child, change: str, what: str) -> None:
    for missing in ("", ", reason: because", ", approver: me"):
        with pytest.raises(PolicyError, match=r"child\.yaml:7:5: .*this loosens `R-1`") as caught:
            child(adjust(change + missing))
        assert "approver" in caught.value.hint
    (loosening,) = child(adjust(change + ", reason: because, approver: me")).loosened
    assert (loosening.rule, loosening.what, loosening.reason, loosening.approver) == ("R-1", what, "because", "me")


def test_what_was_loosened_stays_known_to_grandchildren(child: Child, tmp_path: Path) -> None:
    child(adjust("mode: shadow, reason: trial, approver: me"))
    (tmp_path / "grand.yaml").write_text(CHILD.replace("child", "grand") + "extends: [child]\n")
    policy = load_policy(tmp_path / "grand.yaml")
    assert policy.prompt_rules[0].mode is Mode.SHADOW
    assert [loosening.reason for loosening in policy.loosened] == ["trial"]
    assert [ref.id for ref in policy.lineage] == ["child", "tiny"]


def test_a_screen_threshold_may_fall_and_not_rise(child: Child) -> None:
    stricter = child("adjust:\n  - {rule: S-1, threshold: 0.3, error_rate: 9 of 232}\n")
    assert (stricter.screen_rules[0].threshold, stricter.screen_rules[0].error_rate) == (0.3, "9 of 232")
    with pytest.raises(PolicyError, match="this loosens `S-1`"):
        child("adjust:\n  - {rule: S-1, threshold: 0.9, error_rate: 1 of 232}\n")
    with pytest.raises(PolicyError, match="error_rate"):
        child("adjust:\n  - {rule: S-1, threshold: 0.3}\n")


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("adjust:\n  - {rule: R-11, action: block}\n", "no inherited rule", "R-1"),
        ("adjust:\n  - {rule: R-1}\n", "changes nothing", "action"),
        ("adjust:\n  - {rule: R-1, actoin: block}\n", "unknown key", "action"),
        (adjust("remove_terms: [gor]"), "not among the inherited terms", "gore"),
        ("prompt_limit: 901\n", "the parent allows 900", "lower"),
        (
            "prompt_rules:\n  - {id: R-1, category: c, action: flag, severity: 1, message: m, terms: [a]}\n",
            "is inherited",
            "adjust",
        ),
        ("watermark_rule: {id: W-2, not_robust: allow, message: m}\n", "milder than the parent", "tighten"),
        (
            "watermark_rule: {id: W-2, not_robust: block, latent: never, message: m}\n",
            "milder than the parent",
            "tighten",
        ),
    ],
)
def test_mistakes_are_explained(child: Child, text: str, says: str, hint: str) -> None:
    with pytest.raises(PolicyError, match=r"child\.yaml:\d+:\d+: ") as caught:
        child(text)
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("wanted", ["1", ">=1", ">=0.9"])
def test_a_version_that_fits_is_taken(child: Child, wanted: str) -> None:
    assert child("", f"['tiny@{wanted}']").lineage[0].version == "1"


@pytest.mark.parametrize("wanted", ["2", ">=1.1", ">=2026.11"])
def test_a_version_that_does_not_fit_is_refused(child: Child, wanted: str) -> None:
    with pytest.raises(PolicyError, match="has version 1, not"):
        child("", f"['tiny@{wanted}']")


def test_packs_that_extend_each_other_are_refused(child: Child, pack: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(pack + "extends: [child]\n")
    with pytest.raises(PolicyError, match="extends itself"):
        child("")


def test_a_parent_outside_of_the_folder_is_refused(child: Child, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="outside the policies folder"):
        child("", "[../tiny.yaml]")


def test_the_digest_is_of_what_decides_and_not_of_how_it_came_about(child: Child, pack: str, tmp_path: Path) -> None:
    plain = child("")
    (tmp_path / "flat.yaml").write_text(
        pack.replace("id: tiny", "id: child").replace('version: "1"', 'version: "2"').replace("for tests", "d")
        + "prompt_limit: 900\n"
    )
    flat = load_policy(tmp_path / "flat.yaml")
    assert flat.prompt_rules == plain.prompt_rules
    # The tests of a parent are not inherited: they were run on the parent.
    assert plain.tests == ()
    assert child(adjust("severity: 4")).digest != plain.digest


def test_two_parents_that_share_a_rule_hand_it_down_once(child: Child, pack: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(pack.replace("id: tiny", "id: other") + "prompt_limit: 700\n")
    policy = child("", "[tiny, other]")
    assert [rule.id for rule in policy.prompt_rules] == ["R-1"]
    assert policy.prompt_limit == 700


def test_the_example_pack_shows_what_it_says() -> None:
    policy = load_policy("example-jurisdiction")
    assert [ref.id for ref in policy.lineage] == ["default"]
    assert [loosening.rule for loosening in policy.loosened] == ["SEXUAL-02"]
    banned = next(rule for rule in policy.prompt_rules if rule.id == "ZZ-NAMES-01")
    assert (banned.action, banned.jurisdictions) == (Action.BLOCK, ("ZZ",))


# --- The semantic section ------------------------------------------------------------------------------------------


def section(*, model: str = "minilm", name: str = "M-0", unavailable: str = "review", rules: str = "") -> str:
    return f"semantics:\n  id: {name}\n  model: {model}\n  when_unavailable: {unavailable}\n  rules:\n{rules}"


def semantic_rule(name: str, action: str = "review", rate: float = 0.015) -> str:
    return f"    - {{id: {name}, category: violence, action: {action}, false_positives: {rate}, message: m}}\n"


@pytest.fixture
def semantic_child(pack: str, child: Child, tmp_path: Path) -> Child:
    (tmp_path / "tiny.yaml").write_text(pack + section(rules=semantic_rule("M-1")))
    return child


def test_a_child_inherits_the_semantic_section(semantic_child: Child) -> None:
    policy = semantic_child("prompt_limit: 100\n")
    assert policy.semantics is not None
    assert [rule.id for rule in policy.semantics.rules] == ["M-1"]


def test_a_child_adds_semantic_rules_and_fails_closed_earlier(semantic_child: Child) -> None:
    policy = semantic_child(section(unavailable="block", rules=semantic_rule("M-2", "block")))
    assert policy.semantics is not None
    assert [rule.id for rule in policy.semantics.rules] == ["M-1", "M-2"]
    assert policy.semantics.when_unavailable is Action.BLOCK


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (section(name="X-0", rules=semantic_rule("M-2")), "called `M-0`"),
        (section(unavailable="flag", rules=semantic_rule("M-2")), "milder than the parent"),
        (section(rules=semantic_rule("M-1", "block")), "`M-1` is inherited"),
        ("adjust:\n  - {rule: M-1, action: flag}\n", "this loosens `M-1`"),
        ("adjust:\n  - {rule: M-1, action: block}\n", "block"),
        ("adjust:\n  - {rule: M-1, severity: 4}\n", "severity"),
    ],
)
def test_a_child_cannot_make_the_semantic_section_milder(semantic_child: Child, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        semantic_child(text)


def test_a_semantic_rule_is_loosened_with_reason_and_name(semantic_child: Child) -> None:
    policy = semantic_child("adjust:\n  - {rule: M-1, action: flag, reason: r, approver: a}\n")
    assert policy.semantics is not None
    assert policy.semantics.rules[0].action is Action.FLAG
    assert [one.what for one in policy.loosened] == ["action review -> flag"]
