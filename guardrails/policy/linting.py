"""What `guardrails policy check` looks for in a pack that loads: broken promises, and words and rules without effect.

Matching lives in a layer above, so the caller gives the function that decides.
"""

from __future__ import annotations

import datetime
import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from guardrails.domain.findings import Action
from guardrails.domain.requests import PromptDecision
from guardrails.errors import DatasetUnavailable
from guardrails.policy import patterns
from guardrails.policy.ceilings import never_reached, read_card
from guardrails.policy.model import Loosening, Mode, Policy, PromptRule
from guardrails.policy.taxonomy import load_taxonomy

FEWEST_EXAMPLES = 2
_FIRST_DAY = datetime.date(2026, 1, 1)


class Decide(Protocol):
    """Decides a prompt as of a day, in a jurisdiction ("" is every one)."""

    def __call__(
        self, prompt: str, *, negative_prompt: str = "", on: datetime.date, jurisdiction: str = ""
    ) -> PromptDecision: ...


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
        loosened: what the pack and its parents made milder, with reason and approver.
    """

    problems: tuple[Problem, ...]
    checked: int
    loosened: tuple[Loosening, ...] = ()

    @property
    def ok(self) -> bool:
        """True when there is no error; warnings are allowed."""
        return all(problem.level is not Level.ERROR for problem in self.problems)


def lint_policy(policy: Policy, decide: Decide) -> LintReport:
    """Check a pack against its own tests and examples, and look for terms and rules that do nothing."""
    problems = list(_failed_tests(policy, decide))
    rules = [rule for rule in policy.prompt_rules if rule.mode is not Mode.OFF]
    for rule in rules:
        asked = _Asked(rule, policy, decide)
        problems += _wrong_examples(rule, asked)
        problems += _idle_terms(rule, asked)
        problems += _bad_rewrites(rule, asked)
    problems += _unknown_categories(policy)
    problems += _rules_without_effect(rules)
    problems += _never_reached(policy)
    examples = sum(len(rule.match_examples) + len(rule.pass_examples) for rule in rules)
    return LintReport(problems=tuple(problems), checked=len(policy.tests) + examples, loosened=policy.loosened)


def neutral_day(policy: Policy) -> datetime.date:
    """The first day of 2026 or later that lies in no window."""
    periods = [window.period for group in policy.windows.values() for window in group]
    day = _FIRST_DAY
    while any(period.holds(day) for period in periods):
        day += datetime.timedelta(days=1)
    return day


class _Asked:
    """Asks whether one rule speaks, on a day and in a place where it is run."""

    def __init__(self, rule: PromptRule, policy: Policy, decide: Decide) -> None:
        self._rule = rule
        self._decide = decide
        windows = policy.windows.get(rule.window, ())
        first = windows[0] if windows else None
        written = (first.period.start or first.period.end) if first else rule.effective.start
        self._day = datetime.date.fromisoformat(written) if written else neutral_day(policy)
        self._place = rule.jurisdictions[0] if rule.jurisdictions else (first.jurisdiction if first else "")

    def decision(self, prompt: str) -> PromptDecision:
        return self._decide(prompt, on=self._day, jurisdiction=self._place)

    def speaks(self, prompt: str) -> bool:
        decision = self.decision(prompt)
        return any(finding.rule == self._rule.id for finding in (*decision.findings, *decision.shadow))


def _failed_tests(policy: Policy, decide: Decide) -> Iterator[Problem]:
    for test in policy.tests:
        day = datetime.date.fromisoformat(test.on) if test.on else neutral_day(policy)
        decision = decide(test.prompt, negative_prompt=test.negative_prompt, on=day, jurisdiction=test.jurisdiction)
        if decision.action is not test.expect:
            spoke = ", ".join(finding.rule for finding in decision.findings) or "no rule"
            message = f"expected {_name(test.expect)}, got {_name(decision.action)} ({spoke})"
            yield Problem(level=Level.ERROR, rule="", subject=test.prompt, message=message)


def _wrong_examples(rule: PromptRule, asked: _Asked) -> Iterator[Problem]:
    for kind, examples, wanted in (("match", rule.match_examples, True), ("pass", rule.pass_examples, False)):
        if len(examples) < FEWEST_EXAMPLES:
            yield _error(rule, kind, f"has {len(examples)} `{kind}` examples; write at least {FEWEST_EXAMPLES}")
        for prompt in examples:
            if asked.speaks(prompt) is not wanted:
                yield _error(rule, prompt, "should speak here and does not" if wanted else "speaks here and should not")


def _idle_terms(rule: PromptRule, asked: _Asked) -> Iterator[Problem]:
    plain = frozenset(term for term in rule.terms if not term.startswith(patterns.PREFIX))
    for term, times in Counter(rule.terms).items():
        if times > 1:
            yield _warning(rule, term, f"the term is listed {times} times")
        elif term not in plain:
            continue
        elif shorter := _contained_term(rule, term, plain):
            yield _warning(rule, term, f"the term adds nothing: `{shorter}` already matches it")
        elif (prompt := _prompt_for(rule, term)) and not asked.speaks(prompt):
            yield _warning(rule, term, "the term cannot be reached: an exception or benign phrase always covers it")


def _prompt_for(rule: PromptRule, term: str) -> str:
    """A prompt that holds the term and one cue of each group; "" when a group holds nothing but patterns."""
    cues = [next((cue for cue in group if not cue.startswith(patterns.PREFIX)), "") for group in rule.requires]
    return ". ".join(word.removesuffix("*") for word in (term, *cues)) if all(cues) else ""


def _contained_term(rule: PromptRule, term: str, terms: frozenset[str]) -> str:
    """Another term of the rule that stands inside this one; none for rewrites, where the longer wording matters."""
    if rule.action is Action.REWRITE:
        return ""
    words = term.split()
    runs = (" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1))
    inside = (run for run in runs if run != term and run in terms)
    # A benign phrase may mask the shorter term and leave the longer one as the only way to speak.
    return next((other for other in inside if not any(other in phrase for phrase in rule.benign_phrases)), "")


def _bad_rewrites(rule: PromptRule, asked: _Asked) -> Iterator[Problem]:
    for text in filter(None, ("" if "{" in rule.rewrite else rule.rewrite, *rule.rewrites.values())):
        if (action := asked.decision(text).action) is not Action.ALLOW:
            yield _error(rule, text, f"its rewrite text is itself decided as {_name(action)}")


def _unknown_categories(policy: Policy) -> Iterator[Problem]:
    known = load_taxonomy().keys()
    categories = [(rule.id, rule.category) for rule in policy.prompt_rules]
    categories += [(rule.id, rule.category) for rule in policy.screen_rules]
    categories += [(rule.id, rule.category) for rule in policy.similarity_rules]
    for rule_id, category in categories:
        if category not in known:
            message = "the category is not in the taxonomy, so reports by its schemes leave it out"
            yield Problem(level=Level.WARNING, rule=rule_id, subject=category, message=message)


def _never_reached(policy: Policy) -> Iterator[Problem]:
    """Screen rules whose threshold the shipped safe pictures cannot state."""
    for screen in sorted({rule.screen for rule in policy.screen_rules}):
        try:
            card = read_card(screen)
        except DatasetUnavailable:
            continue
        rules = [rule for rule in policy.screen_rules if rule.screen == screen]
        for one in never_reached(rules, card["concepts"], card["ceilings"]):
            yield Problem(level=Level.WARNING, rule=one.rule, subject=one.domain, message=str(one))


def _rules_without_effect(rules: list[PromptRule]) -> Iterator[Problem]:
    """Rules that never change a decision, because a rule at least as strict always speaks where they do."""
    for rule in rules:
        over = next((other for other in rules if other is not rule and _covers(other, rule)), None)
        if over is not None:
            yield _warning(rule, over.id, "the rule cannot change a decision: this one always speaks where it does")


def _covers(strict: PromptRule, rule: PromptRule) -> bool:
    excused = strict.unless and strict.severity <= strict.unless_severity
    return (
        strict.action > rule.action is not Action.REWRITE
        and strict.mode is Mode.ENFORCE
        and not (strict.window or strict.jurisdictions or strict.benign_phrases or strict.names or excused)
        and (strict.effective == rule.effective or not (strict.effective.start or strict.effective.end))
        and rule.names_from is None
        and set(rule.terms) <= set(strict.terms)
        and all(any(set(own) <= set(group) for own in rule.requires) for group in strict.requires)
    )


def _name(action: Action) -> str:
    return action.name.lower()


def _error(rule: PromptRule, subject: str, message: str) -> Problem:
    return Problem(level=Level.ERROR, rule=rule.id, subject=subject, message=message)


def _warning(rule: PromptRule, subject: str, message: str) -> Problem:
    return Problem(level=Level.WARNING, rule=rule.id, subject=subject, message=message)
