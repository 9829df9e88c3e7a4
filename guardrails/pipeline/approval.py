"""What reviewers allowed: rules that would hold a prompt or a picture back, for one request."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from guardrails.domain.findings import Action, Finding
from guardrails.imaging import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The decision of a review. It lifts what waits for a review, never what is blocked.

    Attributes:
        review: id of the review, for the record.
        rules: ids of the rules that were looked at and allowed.
        pictures: `picture_digest` of each picture that the reviewers saw; rules about pixels are lifted for these
            alone.
        seed: that the picture they saw was drawn with; another picture is then not released. None where they saw none,
            or only the one that an edit starts from.
    """

    review: str
    rules: frozenset[str]
    pictures: frozenset[str] = frozenset()
    seed: int | None = None


def approved(findings: Iterable[Finding], approval: Approval | None) -> tuple[Finding, ...]:
    """The findings, with REVIEW lowered to FLAG where a review has allowed the rule."""
    return tuple(
        dataclasses.replace(finding, action=Action.FLAG, evidence={**finding.evidence, "review": approval.review})
        if approval is not None and finding.action is Action.REVIEW and finding.rule in approval.rules
        else finding
        for finding in findings
    )


def for_picture(approval: Approval | None, *shown: Pixels) -> Approval | None:
    """The approval, where the reviewers saw this very picture; else None. See `picture_digest` for `shown`."""
    return approval if approval is not None and picture_digest(*shown) in approval.pictures else None


def picture_digest(*shown: Pixels) -> str:
    """SHA-256 over the pixels of a picture, in every way in which its file can be shown."""
    return hashlib.sha256(b"".join(pixels.tobytes() for pixels in shown)).hexdigest()
