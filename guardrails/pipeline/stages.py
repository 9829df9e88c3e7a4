"""The stages of one image. Each step takes only the type before it, so that none can be skipped."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Action, Check, Finding, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import GenerationFacts, LatentStart, ManifestVerdict, MarkEmbedding, Match
from guardrails.domain.records import Receipt
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat
from guardrails.pipeline.approval import Approval
from guardrails.pipeline.original import Original
from guardrails.pipeline.timings import Timings


class Step(enum.Enum):
    """What has just been done: the name of the stage that was reached."""

    CLEARED = "cleared"
    DRAWN = "drawn"
    SCREENED = "screened"
    MARKED = "marked"
    SIGNED = "signed"
    RECORDED = "recorded"


Watch: TypeAlias = Callable[[Step, str], None]
"""Called with the step and the id of the picture, "" for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that the policy has not released; `decision` is None when there was no decision either."""

    request: PromptRequest
    decision: PromptDecision | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cleared:
    """A request whose prompt the policy, or a review under it, releases.

    Attributes:
        original: the picture to change, and `parent` what is known of it.
    """

    request: PromptRequest
    decision: PromptDecision
    approval: Approval | None = None
    original: Original | None = None
    parent: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """Pixels as the model made them, and the identity chosen for them."""

    cleared: Cleared
    id: ImageId
    pixels: Pixels
    facts: GenerationFacts
    latent: LatentStart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screened:
    """A draft that every check was run over and that the policy releases."""

    draft: Draft
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marked:
    """Pixels that carry the watermark, proven by reading it back."""

    screened: Screened
    pixels: Pixels
    embedding: MarkEmbedding
    findings: tuple[Finding, ...]

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Every rule that spoke, from the prompt to the mark."""
        screened = self.screened
        return (*screened.draft.cleared.decision.findings, *screened.findings, *self.findings)

    @property
    def action(self) -> Action:
        return strongest(self.all_findings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signed:
    """Final bytes, signed last and verified back.

    Attributes:
        fingerprint: ISCC of the marked pixels.
        edges: their `watermark.binding.EdgeMap`, which tells a transplanted mark.
    """

    marked: Marked
    data: bytes
    format: ImageFormat
    sha256: str
    fingerprint: str
    edges: str
    prompt_commitment: tuple[str, str]
    manifest: ManifestVerdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sealed:
    """A released image: bytes that may leave, and the receipt of their record.

    Attributes:
        data: the final file; what `path` holds when a folder was given.
        pixels: marked pixels, RGB uint8, as encoded.
    """

    id: ImageId
    data: bytes
    format: ImageFormat
    sha256: str
    path: Path | None
    pixels: Pixels
    facts: GenerationFacts
    latent: LatentStart
    decision: PromptDecision
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]
    matches: tuple[Match, ...]
    embedding: MarkEmbedding
    manifest: ManifestVerdict
    receipt: Receipt
    timings: Timings
