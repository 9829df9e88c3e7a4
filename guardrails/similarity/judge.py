"""Matches and the policy's rules to findings."""

from __future__ import annotations

from collections.abc import Sequence

from guardrails.domain.findings import Action, Check, CheckStatus, Finding
from guardrails.domain.images import Match, MatchState
from guardrails.policy.model import SimilarityRule
from guardrails.similarity.radii import ERROR_RATE_CANDIDATE, ERROR_RATE_COMPARED, ERROR_RATE_HASHES

_ANY = "any"


def judge(check: Check, matches: Sequence[Match], rules: Sequence[SimilarityRule]) -> tuple[Finding, ...]:
    """One finding for each rule that speaks, about the best of its matches.

    Args:
        check: of the search that gave `matches`; when it did not run, each rule's `when_unavailable` holds.
        matches: best first.
    """
    if check.status is not CheckStatus.RAN:
        return tuple(_not_checked(check, rule) for rule in rules if rule.when_unavailable > Action.ALLOW)
    findings = []
    for rule in rules:
        matching = [match for match in matches if _concerns(rule, match)]
        if matching:
            findings.append(_finding(check, rule, matching[0], len(matching)))
    return tuple(findings)


def attributed(matches: Sequence[Match], rules: Sequence[SimilarityRule]) -> tuple[Match, ...]:
    """The matches that a rule speaks about: the policy wants them named wherever the picture goes."""
    return tuple(match for match in matches if any(_concerns(rule, match) for rule in rules))


def _concerns(rule: SimilarityRule, match: Match) -> bool:
    sure_enough = match.state is MatchState.CONFIRMED or rule.state == MatchState.CANDIDATE.value
    return sure_enough and rule.reservation in (_ANY, match.rights.reservation)


def _not_checked(check: Check, rule: SimilarityRule) -> Finding:
    return Finding(
        rule=rule.id,
        category=rule.category,
        action=rule.when_unavailable,
        message="The picture could not be compared with the index of works.",
        detector=check.component,
        evidence={"status": check.status.value, "reason": check.reason},
    )


def _finding(check: Check, rule: SimilarityRule, match: Match, count: int) -> Finding:
    rights = match.rights
    return Finding(
        rule=rule.id,
        category=rule.category,
        action=rule.action,
        message=rule.message,
        detector=check.component,
        error_rate=_error_rate(match),
        evidence={
            "entry": match.entry,
            "title": match.title,
            "state": match.state.value,
            "distances": dict(match.distances),
            "agreement": match.agreement,
            "source_sha256": match.sha256,
            "licence": rights.licence,
            "licence_url": rights.licence_url,
            "creator": rights.creator,
            "source": rights.source,
            "reservation": rights.reservation,
            "matching_works": count,
        },
    )


def _error_rate(match: Match) -> str:
    if match.state is MatchState.CANDIDATE:
        return ERROR_RATE_CANDIDATE
    return ERROR_RATE_HASHES if match.agreement is None else ERROR_RATE_COMPARED
