"""Facts about one image: how it was made, what it resembles, what it carries."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrails.domain.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationFacts:
    """How one picture was made.

    Attributes:
        model: name for people, for example a hub id or a folder name.
        revision: hub revision or package version; "" when unknown.
        weights_sha256: over all weight files of the pipeline, see `generation`; "" for a pipeline built in memory
            whose weights were not hashed.
        sampler: scheduler class name.
        seed: of this very picture.
    """

    model: str
    revision: str
    weights_sha256: str
    pipeline: str
    sampler: str
    steps: int
    guidance_scale: float
    seed: int
    width: int
    height: int
    device: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Whose a work is.

    Attributes:
        reservation: "" (none known; never read as permission) or "opt-out".
    """

    licence: str
    licence_url: str
    creator: str
    source: str
    reservation: str = ""


class MatchState(enum.Enum):
    """How sure a match is. Only CONFIRMED is a finding about pixels; CANDIDATE is two hashes that are near."""

    CONFIRMED = "confirmed"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One entry of the rights-bearing index that a picture resembles.

    Attributes:
        entry: stable id in the index.
        distances: Hamming distance by hash name, for example {"phash64": 4, "pdq256": 18}.
        agreement: share of agreeing pixels evidence, 0..1; None when the source picture was not at hand.
        sha256: of the source's rendering.
    """

    entry: str
    title: str
    rights: Rights
    state: MatchState
    distances: Mapping[str, int]
    sha256: str
    agreement: float | None = None


class MarkVerdict(enum.Enum):
    """What the watermark detector says.

    PRESENT_UNBOUND: the payload is right, but the pixels are not those that the id was given to, as the record's edge
    map shows: probably a transplant. NOT_DETECTED never means "not AI".
    """

    PRESENT = "present"
    PRESENT_UNBOUND = "present_unbound"
    SUSPECTED = "suspected"
    NOT_DETECTED = "not_detected"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkReading:
    """The detector's answer for one image.

    Attributes:
        mark_id: 16 hexadecimal digits when the payload was decoded and its keyed check is right, else "".
        p_value: probability of a pilot this strong in an unmarked image, after correction for every test made; with a
            right payload check, of both together.
        tests: how many hypotheses that correction counts.
        stage: "fast", "standard" or "deep" of the pixel mark, "latent" of the latent mark.
        geometry: rotation (degrees), mirror (bool), scale, shift as found.
        corrected_bits: channel bits that the code repaired.
    """

    verdict: MarkVerdict
    scheme: str
    p_value: float
    z: float
    tests: int
    stage: str
    mark_id: str = ""
    epoch: int | None = None
    flags: int | None = None
    corrected_bits: int | None = None
    geometry: Mapping[str, Json] = field(default_factory=dict)
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkEmbedding:
    """What embedding did to one image.

    Attributes:
        psnr: decibel between unmarked and marked pixels.
        robust: the mark was read back after JPEG quality 50 and after halving the size.
        p_value: read back from the unattacked marked pixels.
    """

    scheme: str
    mark_id: str
    epoch: int
    psnr: float
    robust: bool
    strength_db: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentStart:
    """Whether one picture was drawn from noise that carries its id.

    Attributes:
        scheme: of the latent mark; "" when the noise is that of the seed alone.
        reason: why there is no mark in it; "" when there is one.
    """

    scheme: str = ""
    epoch: int | None = None
    reason: str = ""


class ManifestStatus(enum.Enum):
    """The verdict on a file's C2PA manifest; the first rule that matches wins, in the order written."""

    UNREADABLE = "unreadable"
    NO_MANIFEST = "no_manifest"
    TAMPERED = "tampered"
    EXPIRED = "expired"
    BAD_ANCESTOR = "bad_ancestor"
    VALID_UNTRUSTED = "valid_untrusted"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestVerdict:
    """What a file's manifest proves.

    Attributes:
        manifest_id: "urn:c2pa:<uuid>" or "".
        explanation: one sentence for people.
        codes: raw validation codes, failures first.
        mark_id: value of our own watermark soft binding, or "".
        ai_generated: True when an action declares a trained-algorithm source type.
    """

    status: ManifestStatus
    explanation: str
    manifest_id: str = ""
    issuer: str = ""
    signed_at: str = ""
    model: str = ""
    ai_generated: bool = False
    mark_id: str = ""
    policy_digest: str = ""
    codes: tuple[str, ...] = ()
    ancestry: tuple[str, ...] = ()
