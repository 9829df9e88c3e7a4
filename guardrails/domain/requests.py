"""What is asked for, and what the prompt policy says about it."""

from __future__ import annotations

from dataclasses import dataclass

from guardrails.domain.findings import Action, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """One request for pictures.

    Attributes:
        seed: of the first picture; the i-th has seed + i. None: a random one is drawn and recorded.
        count: number of pictures, at least 1.
        steps, guidance_scale, width, height: None means the pipeline's own default.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    count: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRef:
    """The policy a decision was made under; `digest` is of its canonical form."""

    id: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDecision:
    """What the prompt policy decided.

    Attributes:
        action: maximum over the findings.
        prompt: the prompt to generate from: the original, or the rewritten one.
        rewritten: True when `prompt` differs from what was asked.
    """

    action: Action
    policy: PolicyRef
    findings: tuple[Finding, ...]
    prompt: str
    rewritten: bool = False
    milliseconds: float = 0.0
