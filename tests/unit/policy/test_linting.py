"""`policy check`: a pack that does not do what it says is told so."""

from __future__ import annotations

import pytest

from guardrails.policy import default_policy, parse_policy
from guardrails.policy.linting import Level, LintReport
from guardrails.prompts import run_policy_tests

EXAMPLES = """\
    examples:
      match: [gore on a wall, a blood bath]
      pass: [a tree, a blood orange]
"""


def check(pack: str) -> LintReport:
    return run_policy_tests(parse_policy(pack.encode(), source="p.yaml"))


@pytest.fixture
def good(pack: str) -> str:
    return pack.replace("screen_rules:", EXAMPLES + "screen_rules:", 1)


def test_the_default_pack_keeps_its_own_promises() -> None:
    report = run_policy_tests(default_policy())
    assert report.problems == ()
    assert report.checked >= 90


def test_a_good_pack_has_no_problems(good: str) -> None:
    report = check(good)
    assert (report.ok, report.problems, report.checked) == (True, (), 5)


@pytest.mark.parametrize(
    ("old", "new", "subject", "says"),
    [
        ("expect: allow", "expect: block", "a tree", "expected block, got allow"),
        ("a tree, expect", "some gore, expect", "some gore", "got block (R-1)"),
        ("gore on a wall", "gorse on a wall", "gorse on a wall", "does not"),
        ("a blood orange", "a blood bath", "a blood bath", "should not"),
        ("match: [gore on a wall, a blood bath]", "match: [gore on a wall]", "match", "at least 2"),
        ("pass: [a tree, a blood orange]", "pass: []", "pass", "at least 2"),
    ],
)
def test_errors_are_found(good: str, old: str, new: str, subject: str, says: str) -> None:
    report = check(good.replace(old, new))
    problem = next(problem for problem in report.problems if problem.level is Level.ERROR)
    assert not report.ok
    assert problem.subject == subject
    assert says in problem.message


@pytest.mark.parametrize(("threshold", "domains"), [("0.97", []), ("0.995", ["photographs", "drawings"])])
def test_a_threshold_that_no_score_reaches_is_a_warning(good: str, threshold: str, domains: list[str]) -> None:
    own = good.replace("open-nsfw", "clip-concepts").replace("nsfw", "weapon").replace("0.5", threshold)
    report = check(own)
    assert report.ok
    assert [problem.subject for problem in report.problems] == domains
    for problem in report.problems:
        assert (problem.rule, problem.level) == ("S-1", Level.WARNING)
        assert "1197 are needed" in problem.message


@pytest.mark.parametrize(
    ("terms", "subject", "says"),
    [
        ("[gore, blood bath, gore]", "gore", "listed 2 times"),
        ("[gore, blood bath, gore film]", "gore film", "`gore` already matches"),
    ],
)
def test_terms_that_do_nothing_are_warnings(good: str, terms: str, subject: str, says: str) -> None:
    report = check(good.replace("[gore, Blood  Bath]", terms))
    assert report.ok
    assert [(problem.subject, says in problem.message) for problem in report.problems] == [(subject, True)]


def test_a_term_that_a_benign_phrase_always_covers_is_unreachable(good: str) -> None:
    report = check(
        good.replace("    examples:", "    benign_phrases: [al gore]\n    examples:").replace(
            "[gore, ", "[gore, al gore, "
        )
    )
    assert any("cannot be reached" in problem.message for problem in report.problems if problem.subject == "al gore")


def test_a_rewrite_that_the_policy_itself_refuses_is_an_error(good: str) -> None:
    rule = """\
  - id: R-2
    category: artist_style
    action: rewrite
    severity: 1
    message: m
    rewrite: much gore
    terms: [foo bar]
    examples: {match: [foo bar, a foo bar], pass: [a, b]}
"""
    report = check(good.replace("screen_rules:", rule + "screen_rules:", 1))
    assert [problem.subject for problem in report.problems] == ["much gore"]
