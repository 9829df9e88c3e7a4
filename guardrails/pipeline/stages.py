"""The stages of one image. Each step takes only the type before it, so that none can be skipped."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Action, Check, Finding, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import GenerationFacts, LatentStart, ManifestVerdict, MarkEmbedding, Match
from guardrails.domain.labels import LabelProfile, VisibleLabel
from guardrails.domain.records import Receipt
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.generation.protocol import Drawn, Progress
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


def watch_nothing(step: Step, image_id: str) -> None:
    """A `Watch` for whoever does not want to know."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """A request, and what is to become of its pictures; each attribute is explained at `Guard.generate_all`."""

    request: PromptRequest
    format: ImageFormat = ImageFormat.PNG
    quality: int | None = None
    out: Path | None = None
    progress: Progress | None = None
    ids: Sequence[ImageId] | None = None
    approval: Approval | None = None
    original: Original | None = None
    watch: Watch = watch_nothing


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
        labels: what must be drawn on the picture.
    """

    request: PromptRequest
    decision: PromptDecision
    approval: Approval | None = None
    original: Original | None = None
    labels: tuple[LabelProfile, ...] = ()
    parent: Mapping[str, Json] = field(default_factory=dict)

    @property
    def reviewed_seed(self) -> int | None:
        """Of the picture that reviewers saw."""
        return None if self.approval is None else self.approval.seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Begun:
    """An order whose prompt is cleared, before anything is drawn; `ids` name the pictures to come."""

    order: Order
    cleared: Cleared
    ids: Sequence[ImageId]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """The pictures of one order as they left a call of the model, which other orders may have shared.

    Attributes:
        milliseconds: wall time of the call for each of its pictures.
    """

    latent: LatentStart
    drawn: Sequence[Drawn]
    milliseconds: float


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
class Labelled:
    """A screened draft with the visible label that it must carry; `label` is None where it must carry none.

    The label goes in behind the screens, which must see what the model made, and before the watermark, so that the mark
    lies in the label as well, and everything that is computed of the marked pixels is of the final picture.
    """

    screened: Screened
    pixels: Pixels
    label: VisibleLabel | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marked:
    """Pixels that carry the watermark, proven by reading it back."""

    labelled: Labelled
    pixels: Pixels
    embedding: MarkEmbedding
    findings: tuple[Finding, ...]

    @property
    def screened(self) -> Screened:
        return self.labelled.screened

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
        label: as measured in these bytes, or None.
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
    label: VisibleLabel | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sealed:
    """A released image: bytes that may leave, and the receipt of their record.

    Attributes:
        data: the final file; what `path` holds when a folder was given.
        pixels: marked pixels, RGB uint8, as encoded.
        label: what is drawn on them, or None.
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
    label: VisibleLabel | None = None
