"""Applies a policy's screen rules to checks. A score that is not known never counts as a pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Check, CheckStatus, Component, Finding
from guardrails.policy.model import ScreenRule


def judge(checks: Iterable[Check], rules: Iterable[ScreenRule]) -> tuple[Finding, ...]:
    """Findings of every rule that speaks, in the order of the rules.

    A rule speaks with its own action when the score of its concept is at or above its threshold, and with
    `when_unavailable` when no check of its screen produced that score: the screen did not run, failed, is not
    installed, knows no such concept, abstained, or cannot give any picture of this kind a score that high. What was
    found in one part is found, also where the screen could say nothing about another.
    """
    by_screen: dict[str, list[Check]] = {}
    for check in checks:
        by_screen.setdefault(check.component.name, []).append(check)
    findings: list[Finding] = []
    for rule in rules:
        ran = by_screen.get(rule.screen)
        if not ran:
            findings.append(unknown(rule, Component(name=rule.screen, version=""), "no such screen was run"))
        for check in ran or ():
            finding = apply(rule, check)
            if finding is not None:
                findings.append(finding)
    return tuple(findings)


def apply(rule: ScreenRule, check: Check) -> Finding | None:
    """What one rule says about one check of its screen; None when it stays silent."""
    if check.status is not CheckStatus.RAN:
        return unknown(rule, check.component, f"{check.status.value}: {check.reason}")
    score = check.scores.get(rule.concept)
    if score is None or score < rule.threshold:
        reason = not_known(check, rule)
        return unknown(rule, check.component, reason, check.evidence.get(rule.concept, {})) if reason else None
    return Finding(
        rule=rule.id,
        category=rule.category,
        action=rule.action,
        message=rule.message,
        detector=check.component,
        score=score,
        threshold=rule.threshold,
        error_rate=rule.error_rate,
        evidence={"status": check.status.value, "concept": rule.concept, **check.evidence.get(rule.concept, {})},
    )


def not_known(check: Check, rule: ScreenRule) -> str:
    """Why silence about the concept of a rule says nothing; "" where it is a pass."""
    if reason := check.abstained.get(rule.concept):
        return f"abstained: {reason}"
    if rule.concept not in check.scores:
        return f"the screen gave no score for {rule.concept!r}"
    ceiling = check.ceilings.get(rule.concept, 1.0)
    return "" if ceiling >= rule.threshold else too_low(ceiling, rule.threshold)


def too_low(ceiling: float, threshold: float) -> str:
    """Why a threshold above the ceiling decides nothing."""
    return (
        f"no picture of this kind can score above {ceiling:.4f}, so the threshold {threshold:g} is never reached; "
        "calibrate on more safe pictures, or ask for a lower threshold"
    )


def unknown(
    rule: ScreenRule, detector: Component, reason: str, evidence: Mapping[str, Json] = MappingProxyType({})
) -> Finding:
    """The finding of a rule whose score is not known, with what the screen saw all the same."""
    return Finding(
        rule=rule.id,
        category=rule.category,
        action=rule.when_unavailable,
        message=f"This picture could not be checked for {rule.concept!r}.",
        detector=detector,
        threshold=rule.threshold,
        error_rate=rule.error_rate,
        evidence={"status": "unavailable", "concept": rule.concept, "reason": reason, **evidence},
    )
