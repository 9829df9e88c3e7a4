from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails.cli.policy_pages import decision_page
from guardrails.domain.findings import Action, Component, Finding
from guardrails.domain.requests import PolicyRef, PromptDecision, PromptRequest

PACK = """\
api_version: policy/v1
id: small
version: "1"
description: For tests.
prompt_rules:
  - id: BAD-01
    category: violence
    action: block
    severity: 3
    message: "Found: {words}."
    terms: [badword]
    examples:
      match: [badword, a badword here]
      pass: [good, nice]
watermark_rule: {id: MARK-01, not_robust: flag, message: Not robust.}
tests:
  - {prompt: a badword, expect: block}
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PACK)
    return path


def test_the_shipped_pack_keeps_its_promises(run: Callable[..., Any]) -> None:
    result = run("policy", "check", "--json")

    assert result.status == 0
    assert result.json["ok"] is True
    assert result.json["checked"] > 50


def test_a_pack_that_breaks_its_promise_fails(pack: Path, run: Callable[..., Any]) -> None:
    pack.write_text(PACK.replace("expect: block", "expect: allow"))

    result = run("policy", "check", pack)

    assert result.status == 2
    assert "FAILED  small 1" in result.out
    assert "error: expected allow, got block (BAD-01): 'a badword'" in result.out


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("severity: 3", "severity: [", ":11:5: "),
        ("action: block", "action: blok", ":8:13: "),
        ("terms: [badword]", "termz: [badword]", ":"),
    ],
)
def test_a_broken_pack_is_located(
    old: str, new: str, place: str, pack: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    pack.write_text(PACK.replace(old, new))

    result = run("policy", "check", pack)

    one_line_error(result, "invalid_policy", 2)
    assert f"error[invalid_policy]: {pack}{place}" in result.err


def test_explaining_a_refused_prompt_underlines_the_words(pack: Path, run: Callable[..., Any]) -> None:
    result = run("policy", "explain", "one badword, two badword", "--policy", pack)

    lines = [line.strip() for line in result.out.splitlines()]
    assert result.status == 3
    assert lines[0] == "BLOCK  one badword, two badword"
    assert "BAD-01 (violence, block)" in lines
    quoted = result.out.splitlines()[result.out.splitlines().index("    one badword, two badword") + 1]
    assert quoted == "        ^^^^^^^      ^^^^^^^"


def test_explaining_an_allowed_prompt_exits_with_0(pack: Path, run: Callable[..., Any]) -> None:
    result = run("policy", "explain", "a fox", "--policy", pack, "--json")

    assert result.status == 0
    assert result.json["action"] == "allow"
    assert result.json["findings"] == []


@pytest.mark.parametrize(
    "prompt",
    ["", " \u200b ", "x" * 20_000, "a\x00fox", "a \x1b[31m fox"],
    ids=["empty", "blank", "long", "nul", "escape"],
)
@pytest.mark.parametrize("words", [["policy", "explain"], ["generate"]], ids=" ".join)
def test_a_prompt_that_cannot_be_used_is_one_line_and_writes_nothing(
    words: list[str],
    prompt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Any],
    one_line_error: Callable[..., None],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUARDRAILS_HOME", str(tmp_path / "home"))

    result = run(*words, prompt)

    one_line_error(result, "invalid_prompt", 2)
    assert list(tmp_path.iterdir()) == []


def test_showing_a_pack_lists_every_rule(pack: Path, run: Callable[..., Any]) -> None:
    table, document = run("policy", "show", pack), run("policy", "show", pack, "--json")

    assert "BAD-01" in table.out
    assert "MARK-01" in table.out
    assert document.json["prompt_rules"][0]["terms"] == ["badword"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"text": "a fox"}\n{"prompt": "a badword here"}\n\n{"text": "a <b>mildword</b>"}\n')
    return path


def test_a_difference_names_who_changes_verdict(
    pack: Path, prompts: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    milder = tmp_path / "milder.yaml"
    milder.write_text(PACK.replace("action: block", "action: review").replace("[badword]", "[badword, mildword]"))
    page = tmp_path / "diff.html"

    result = run("policy", "diff", pack, milder, "--on", prompts, "--html", page, "--json")

    assert result.status == 0
    assert result.json["total"] == 3
    assert [(change["before"], change["after"]) for change in result.json["changes"]] == [
        ("allow", "review"),
        ("block", "review"),
    ]
    assert [change["rules"] for change in result.json["changes"]] == [["+BAD-01"], ["~BAD-01"]]
    html = page.read_text()
    assert "2 of 3 prompts" in html
    # What a prompt holds is text, never markup.
    assert "<b>mildword" not in html
    assert "mildword" in run("policy", "diff", pack, milder, "--on", prompts).out


def test_explaining_writes_a_page_with_the_words_marked(pack: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    page = tmp_path / "decision.html"
    run("policy", "explain", "a <i>badword</i>", "--policy", pack, "--html", page)
    html = page.read_text()
    assert "&lt;i&gt;<span class=hit" in html
    assert ">badword</span>&lt;/i&gt;" in html
    assert "BAD-01" in html


def test_a_page_shows_how_often_a_threshold_errs_and_what_it_came_nearest_to() -> None:
    examples = {
        "nearest": [{"text": "poison <b>him</b>", "cosine": 0.874}],
        "nearest_harmless": [{"text": "a glass of water", "cosine": 0.311}],
    }
    finding = Finding(
        rule="SEM-01",
        category="dangerous_acts",
        action=Action.BLOCK,
        message="m",
        detector=Component(name="semantics", version="1"),
        score=0.93,
        threshold=0.9,
        error_rate="at most 1.5% of harmless prompts (n = 970)",
        evidence=examples,
    )
    policy = PolicyRef(id="p", version="1", digest="0" * 64)
    decision = PromptDecision(action=Action.BLOCK, policy=policy, findings=(finding,), prompt="x")
    html = decision_page(PromptRequest(prompt="x"), decision)
    assert "score 0.93, threshold 0.9" in html
    assert "Error rate of the threshold: at most 1.5% of harmless prompts (n = 970)." in html
    assert "<td>unsafe</td><td>poison &lt;b&gt;him&lt;/b&gt;</td><td>0.87</td>" in html
    assert "<td>harmless</td><td>a glass of water</td><td>0.31</td>" in html

    unknown = decision_page(
        PromptRequest(prompt="x"),
        dataclasses.replace(decision, findings=(dataclasses.replace(finding, error_rate="", evidence={}),)),
    )
    assert "Error rate of the threshold: not stated." in unknown
    assert "nearest example" not in unknown
    words = dataclasses.replace(finding, score=None, threshold=None, error_rate="", evidence={})
    assert "Error rate" not in decision_page(
        PromptRequest(prompt="x"), dataclasses.replace(decision, findings=(words,))
    )


def test_explaining_says_what_almost_spoke(run: Callable[..., Any]) -> None:
    out = run("policy", "explain", "a nude marble statue").out
    assert 'not SEXUAL-02 (review): exception "marble"' in out


def test_a_decision_has_a_day_and_a_place(run: Callable[..., Any], one_line_error: Callable[..., None]) -> None:
    words = ["policy", "explain", "press photo of Joe Biden in handcuffs", "--json", "--day", "2026-10-20"]
    assert run(*words, "--jurisdiction", "US").json["action"] == "block"
    assert run(*words, "--jurisdiction", "DE").json["action"] == "review"
    one_line_error(run("policy", "explain", "a fox", "--day", "tomorrow"), "invalid_option", 2)


@pytest.mark.parametrize("kept", [["--keep-text"], []], ids=["with text", "without"])
def test_records_replay(kept: list[str], pack: Path, prompts: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    records = tmp_path / "decisions.jsonl"
    assert run("policy", "record", prompts, "--policy", pack, "--out", records, *kept).status == 0
    assert (records.stat().st_mode & 0o777, (tmp_path / "decisions.jsonl.key").stat().st_mode & 0o077)[1] == 0
    assert ("badword here" in records.read_text()) is bool(kept)
    beside = [] if kept else ["--prompts", prompts]

    same = run("policy", "replay", records, "--policy", pack, *beside, "--json")
    assert (same.status, same.json) == (0, {"records": 3, "different": []})

    records.write_text(records.read_text().replace('"decision": "block"', '"decision": "allow"'))
    changed = run("policy", "replay", records, "--policy", pack, *beside, "--json")
    assert changed.status == 4
    assert changed.json["different"] == [{"record": 2, "fields": ["decision"]}]


@pytest.mark.parametrize("content", ["not json\n", "[1]\n", '{"words": "a fox"}\n'])
def test_a_broken_file_of_prompts_is_located(
    content: str, pack: Path, tmp_path: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "a fox"}\n' + content)
    result = run("policy", "diff", pack, pack, "--on", path)
    one_line_error(result, "invalid_input", 2)
    assert f"{path}:2: " in result.err


def test_signing_and_verifying(pack: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "k.pem", tmp_path / "k.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    assert run("policy", "verify", pack).status == 4
    signed = run("policy", "sign", pack, "--key", private, "--json")
    assert signed.status == 0
    verified = run("policy", "verify", pack, "--key", public, "--json")
    assert (verified.status, verified.json["trusted"], verified.json["key"]) == (0, True, signed.json["key"])
    explained = run("policy", "explain", "a badword", "--policy", pack, "--json")
    assert explained.json["policy"]["signature"] == signed.json["signature"]
    pack.write_text(PACK.replace("[badword]", "[badword, other]"))
    assert run("policy", "verify", pack, "--key", public).status == 4


def test_a_registry_is_built(tmp_path: Path, run: Callable[..., Any]) -> None:
    source = tmp_path / "people.csv"
    source.write_text("name,roles,source,licence\nAda Example,actor,test,CC0-1.0\n")
    result = run("policy", "registry", source, "--out", tmp_path / "out.csv", "--json")
    assert (result.status, result.json["rows"]) == (0, 1)


def test_checking_a_child_names_its_parents_and_what_it_loosened(run: Callable[..., Any]) -> None:
    result = run("policy", "check", "example-jurisdiction", "--json")
    assert result.status == 0
    assert [parent["id"] for parent in result.json["extends"]] == ["default"]
    assert [item["rule"] for item in result.json["loosened"]] == ["SEXUAL-02"]
