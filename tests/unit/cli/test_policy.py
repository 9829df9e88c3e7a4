from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
