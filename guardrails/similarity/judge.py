"""Matches and the policy's rules to findings."""

from __future__ import annotations

from collections.abc import Sequence

from guardrails.domain.canonical import to_plain
from guardrails.domain.findings import Action, Check, CheckStatus, Finding
from guardrails.domain.images import Match, MatchState
from guardrails.domain.rights import terms_of
from guardrails.policy.model import SimilarityRule
from guardrails.similarity.keypoint_index import PLACEMENT
from guardrails.similarity.levels import error_rates
from guardrails.similarity.radii import ERROR_RATE_HASHES

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
    """The matches that a rule wants credited wherever the picture goes."""
    return tuple(match for match in matches if any(rule.credit and _concerns(rule, match) for rule in rules))


def redraws(findings: Sequence[Finding], rules: Sequence[SimilarityRule]) -> int:
    """How often the rules that hold a picture back want another one drawn first; 0 when one of them wants none."""
    spoken = {finding.rule for finding in findings if not finding.action.releases}
    return min((rule.redraw for rule in rules if rule.id in spoken), default=0)


def error_rate(match: Match) -> str:
    """How often a match of this state is wrong, with its n and bound, in words."""
    if match.agreement is None and match.state.confirms:
        return ERROR_RATE_HASHES
    return error_rates(placed=PLACEMENT in match.evidence)[match.state]


def _concerns(rule: SimilarityRule, match: Match) -> bool:
    rights = match.rights
    return (
        match.state.at_least(MatchState(rule.state))
        and rule.reservation in (_ANY, rights.reservation)
        and (not rule.licences or terms_of(rights.licence).value in rule.licences or rights.licence in rule.licences)
    )


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
        error_rate=error_rate(match),
        evidence={
            "entry": match.entry,
            "title": match.title,
            "state": match.state.value,
            "distances": dict(match.distances),
            "agreement": match.agreement,
            "grade": match.grade,
            "remark": match.remark,
            **match.evidence,
            "source_sha256": match.sha256,
            "licence": rights.licence,
            "licence_url": rights.licence_url,
            "terms": terms_of(rights.licence).value,
            "creator": rights.creator,
            "credit": rights.credit or rights.creator,
            "source": rights.source,
            "reservation": rights.reservation,
            "dataset": rights.dataset,
            "opt_out_signals": to_plain(rights.signals),
            "matching_works": count,
        },
    )
