"""What `guardrails policy check` looks for in a pack that already loads: tests, examples, words that do nothing.

Matching lives in a layer above, so the caller gives the function that decides.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from guardrails.domain.findings import Action
from guardrails.domain.requests import PromptDecision
from guardrails.policy.model import Policy, PromptRule

FEWEST_EXAMPLES = 2

Decide = Callable[[str], PromptDecision]


class Level(enum.Enum):
    """An ERROR means that the pack does not do what it says; a WARNING that some of it does nothing."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        rule: id of the rule, or "" for the tests of the pack.
        subject: the prompt or term that shows it.
    """

    level: Level
    rule: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LintReport:
    """The result of checking one pack.

    Attributes:
        checked: how many prompts were decided as tests and examples.
    """

    problems: tuple[Problem, ...]
    checked: int

    @property
    def ok(self) -> bool:
        """True when there is no error; warnings are allowed."""
        return all(problem.level is not Level.ERROR for problem in self.problems)


def lint_policy(policy: Policy, decide: Decide) -> LintReport:
    """Check a pack against its own tests and examples, and look for terms that do nothing."""
    problems = list(_failed_tests(policy, decide))
    for rule in policy.prompt_rules:
        problems += _wrong_examples(rule, decide)
        problems += _idle_terms(rule, decide)
        if rule.rewrite and (action := decide(rule.rewrite).action) is not Action.ALLOW:
            problems.append(_error(rule, rule.rewrite, f"its rewrite text is itself decided as {_name(action)}"))
    examples = sum(len(rule.match_examples) + len(rule.pass_examples) for rule in policy.prompt_rules)
    return LintReport(problems=tuple(problems), checked=len(policy.tests) + examples)


def _failed_tests(policy: Policy, decide: Decide) -> Iterator[Problem]:
    for test in policy.tests:
        decision = decide(test.prompt)
        if decision.action is not test.expect:
            spoke = ", ".join(finding.rule for finding in decision.findings) or "no rule"
            message = f"expected {_name(test.expect)}, got {_name(decision.action)} ({spoke})"
            yield Problem(level=Level.ERROR, rule="", subject=test.prompt, message=message)


def _wrong_examples(rule: PromptRule, decide: Decide) -> Iterator[Problem]:
    for kind, examples, wanted in (("match", rule.match_examples, True), ("pass", rule.pass_examples, False)):
        if len(examples) < FEWEST_EXAMPLES:
            yield _error(rule, kind, f"has {len(examples)} `{kind}` examples; write at least {FEWEST_EXAMPLES}")
        for prompt in examples:
            if _speaks(rule, prompt, decide) is not wanted:
                yield _error(rule, prompt, "should speak here and does not" if wanted else "speaks here and should not")


def _idle_terms(rule: PromptRule, decide: Decide) -> Iterator[Problem]:
    for term, times in Counter(rule.terms).items():
        if times > 1:
            yield _warning(rule, term, f"the term is listed {times} times")
        elif shorter := _contained_term(rule, term):
            yield _warning(rule, term, f"the term adds nothing: `{shorter}` already matches it")
        elif not _speaks(rule, _prompt_for(rule, term), decide):
            yield _warning(rule, term, "the term cannot be reached: an exception or benign phrase always covers it")


def _prompt_for(rule: PromptRule, term: str) -> str:
    """A prompt that holds the term and one cue of each group that the rule requires."""
    return ". ".join((term, *(group[0] for group in rule.requires)))


def _contained_term(rule: PromptRule, term: str) -> str:
    """Another term of the rule that stands inside this one; none for rewrites, where the longer wording matters."""
    if rule.action is Action.REWRITE:
        return ""
    inside = (other for other in rule.terms if other != term and f" {other} " in f" {term} ")
    # A benign phrase may mask the shorter term and leave the longer one as the only way to speak.
    return next((other for other in inside if not any(other in phrase for phrase in rule.benign_phrases)), "")


def _speaks(rule: PromptRule, prompt: str, decide: Decide) -> bool:
    return any(finding.rule == rule.id for finding in decide(prompt).findings)


def _name(action: Action) -> str:
    return action.name.lower()


def _error(rule: PromptRule, subject: str, message: str) -> Problem:
    return Problem(level=Level.ERROR, rule=rule.id, subject=subject, message=message)


def _warning(rule: PromptRule, subject: str, message: str) -> Problem:
    return Problem(level=Level.WARNING, rule=rule.id, subject=subject, message=message)
