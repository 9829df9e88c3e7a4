"""Two policies on the same prompts: who changes verdict. Matching lives above, so the caller gives the decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from guardrails.domain.findings import Action
from guardrails.domain.requests import PolicyRef, PromptDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A prompt whose verdict is another one.

    Attributes:
        rules: "-" before those that fell silent, "+" before new ones, "~" before those that ask for something else.
    """

    prompt: str
    before: Action
    after: Action
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What changes between two policies.

    Attributes:
        verdicts: how many prompts went from which action to which, by "before>after".
        changes: the largest steps first.
    """

    first: PolicyRef
    second: PolicyRef
    total: int
    verdicts: Mapping[str, int]
    changes: tuple[Change, ...]

    def count(self, before: Action, after: Action) -> int:
        """How many prompts went from one action to another."""
        return self.verdicts.get(_pair(before, after), 0)


def compare(
    first: PolicyRef, second: PolicyRef, decisions: Iterable[tuple[str, PromptDecision, PromptDecision]]
) -> Comparison:
    """Compare decisions, given as (prompt, under the first policy, under the second)."""
    verdicts: Counter[str] = Counter()
    changes = []
    for prompt, before, after in decisions:
        verdicts[_pair(before.action, after.action)] += 1
        if before.action is not after.action:
            changes.append(
                Change(prompt=prompt, before=before.action, after=after.action, rules=_differing(before, after))
            )
    changes.sort(key=lambda change: (-abs(change.after - change.before), -change.after, change.prompt))
    return Comparison(
        first=first, second=second, total=verdicts.total(), verdicts=dict(verdicts), changes=tuple(changes)
    )


def _differing(before: PromptDecision, after: PromptDecision) -> tuple[str, ...]:
    old = {finding.rule: finding.action for finding in before.findings}
    new = {finding.rule: finding.action for finding in after.findings}
    return (
        *(f"-{rule}" for rule in sorted(old.keys() - new.keys())),
        *(f"+{rule}" for rule in sorted(new.keys() - old.keys())),
        *(f"~{rule}" for rule in sorted(old.keys() & new.keys()) if old[rule] is not new[rule]),
    )


def _pair(before: Action, after: Action) -> str:
    return f"{before.name.lower()}>{after.name.lower()}"
