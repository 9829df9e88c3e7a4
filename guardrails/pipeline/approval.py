"""What reviewers allowed: rules that would hold a picture back, for one request."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from guardrails.domain.findings import Action, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The decision of a review. It lifts what waits for a review, never what is blocked.

    Attributes:
        review: id of the review, for the record.
        rules: ids of the rules that were looked at and allowed.
        seed: that the picture was drawn with, where the request names none.
        pixels_sha256: of the picture that the reviewers saw; another one is not released. "" where they saw none.
    """

    review: str
    rules: frozenset[str]
    seed: int | None = None
    pixels_sha256: str = ""


def approved(findings: Iterable[Finding], approval: Approval | None) -> tuple[Finding, ...]:
    """The findings, with REVIEW lowered to FLAG where a review has allowed the rule."""
    return tuple(
        dataclasses.replace(finding, action=Action.FLAG, evidence={**finding.evidence, "review": approval.review})
        if approval is not None and finding.action is Action.REVIEW and finding.rule in approval.rules
        else finding
        for finding in findings
    )
