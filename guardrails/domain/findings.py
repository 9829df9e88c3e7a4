"""Findings and decisions: what was seen, by which rule, with which evidence, and what follows."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from guardrails.domain.canonical import Json


class Action(enum.IntEnum):
    """What a rule asks for; a decision is the maximum, so order of rules never matters."""

    ALLOW = 0
    FLAG = 1
    REWRITE = 2
    REVIEW = 3
    BLOCK = 4

    @classmethod
    def parse(cls, text: str) -> Action:
        return cls[text.upper()]

    @property
    def releases(self) -> bool:
        """True when an image may leave under this action (a review holds it back)."""
        return self < Action.REVIEW


class CheckStatus(enum.Enum):
    """Whether a check ran. Only `RAN` can ever count as passed."""

    RAN = "ran"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What produced a result: name, version, and the digest of its weights or tables where it has any."""

    name: str
    version: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Code points [start, end) of the original prompt; `field` is "prompt" or "negative_prompt"."""

    start: int
    end: int
    field: str = "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that spoke.

    Attributes:
        rule: id of the policy rule, for example "WEAPON-01".
        category: of the taxonomy, for example "violence".
        message: one sentence for the person who asked.
        span: where in the prompt, for prompt rules.
        score: higher is worse, always; None for exact matches.
        threshold: the score at or above which the rule speaks.
        error_rate: stated false-positive rate of that threshold with its n and bound; "" for exact matches.
        evidence: anything else that explains it: view, nearest example, distance, box.
    """

    rule: str
    category: str
    action: Action
    message: str
    detector: Component
    span: Span | None = None
    score: float | None = None
    threshold: float | None = None
    error_rate: str = ""
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One guard's run over one input: the result of a screen, the similarity search, or a detector.

    Attributes:
        status: RAN, UNAVAILABLE (nothing to run, see `reason`) or FAILED (it raised, see `reason`).
        scores: every score that was computed, by concept; higher is worse.
        evidence: by concept, what explains a score; stays inside the installation, because it may name persons.
        abstained: by concept, why a check that ran cannot say that there is nothing; never counts as passed. A score
            beside it is that of the part that could be seen.
        ceilings: by concept, the highest score that the check can give to a picture of this kind, where that is below
            1: a threshold above it is never reached, so silence there is no pass either.
        milliseconds: wall time.
    """

    component: Component
    status: CheckStatus
    scores: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    abstained: Mapping[str, str] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    milliseconds: float = 0.0

    @property
    def outcome(self) -> str:
        """The status in a word; "abstained" where it ran and could say nothing at all."""
        return "abstained" if self.abstained and not self.scores else self.status.value


def strongest(findings: Iterable[Finding]) -> Action:
    """The order-independent maximum; ALLOW when there are no findings."""
    return max((finding.action for finding in findings), default=Action.ALLOW)
