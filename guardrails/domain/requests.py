"""What is asked for, and what the prompt policy says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrails.domain.findings import Action, Finding, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """One request for pictures.

    Attributes:
        seed: of the first picture; the i-th has seed + i. None: a random one is drawn and recorded.
        count: number of pictures, at least 1.
        steps, guidance_scale, width, height: None means the pipeline's own default.
        jurisdiction: ISO 3166 code of where the picture is asked for. "" is not known: then the rules of every
            jurisdiction apply.
        language: ISO 639-1 code of the language in which a refusal is explained.
        labels: ids of jurisdiction profiles whose visible label is drawn, beside what the jurisdiction requires.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    count: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    jurisdiction: str = ""
    language: str = "en"
    labels: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """Requests of equal form can be drawn in one call of a model: size, steps, guidance and kinds of condition."""
        conditions = "with negative prompt" if self.negative_prompt else "prompt alone"
        return f"{self.width}x{self.height}, {self.steps} steps, guidance {self.guidance_scale}, {conditions}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRef:
    """The policy a decision was made under; `digest` is of its canonical form, `signature` of that digest or ""."""

    id: str
    version: str
    digest: str
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A rule that almost spoke.

    Attributes:
        why: what kept it silent: an exception, a harmless phrase, a cue that is missing, or the distance of a score.
        span: the words that it looked at.
    """

    rule: str
    category: str
    action: Action
    why: str
    span: Span | None = None
    score: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDecision:
    """What the prompt policy decided.

    Attributes:
        action: maximum over the findings.
        prompt: the prompt to generate from: the original, or the rewritten one.
        rewritten: True when `prompt` differs from what was asked.
        shadow: findings of rules in shadow mode; they change nothing.
        near_misses: rules that almost spoke, and why they did not.
        on: the day of the decision, ISO 8601: offices end and windows open.
        jurisdiction: of the request, or "" when not known.
        timings: milliseconds of wall time by stage.
    """

    action: Action
    policy: PolicyRef
    findings: tuple[Finding, ...]
    prompt: str
    rewritten: bool = False
    shadow: tuple[Finding, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()
    on: str = ""
    jurisdiction: str = ""
    milliseconds: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)
