"""Facts about one image: how it was made, what it resembles, what it carries."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrails.domain.canonical import Json
from guardrails.domain.rights import Rights as Rights


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


class MatchState(enum.Enum):
    """How sure a match is, from a reason to look to a finding about pixels.

    CANDIDATE: hashes that are near. REVIEW: half of the textured tiles agree, or the tiles agree and the colours do
    not. CONFIRMED: pixels or several hashes bear it out. STRICT: nearly all tiles agree, in the same colours.
    """

    STRICT = "strict"
    CONFIRMED = "confirmed"
    REVIEW = "review"
    CANDIDATE = "candidate"

    @property
    def confirms(self) -> bool:
        """True for a finding; anything less is a reason for a person to look."""
        return self in (MatchState.STRICT, MatchState.CONFIRMED)

    def at_least(self, other: MatchState) -> bool:
        """True when this state is as sure as `other`."""
        order = list(MatchState)
        return order.index(self) <= order.index(other)


SAME_FAMILY = "same work family"
OTHER_COLOURS = "same shapes in other colours"
UNVERIFIABLE = "unverifiable: too little texture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One entry of the rights-bearing index that a picture resembles.

    Attributes:
        entry: stable id in the index.
        distances: Hamming distance by hash name, for example {"phash64": 4, "pdq256": 18}.
        agreement: share of agreeing pixels evidence, 0..1; None when the source picture was not at hand.
        sha256: of the source's rendering.
        grade: of replication, 0 (nothing) to 5 (nearly all); a candidate that was not compared has 1.
        remark: what a reader must know beside the state, for example `SAME_FAMILY` or `UNVERIFIABLE`; "" for nothing.
        evidence: how pixels were compared: hypothesis, tone, tiles, region. Empty where they were not.
    """

    entry: str
    title: str
    rights: Rights
    state: MatchState
    distances: Mapping[str, int]
    sha256: str
    agreement: float | None = None
    grade: int = 1
    remark: str = ""
    evidence: Mapping[str, Json] = field(default_factory=dict)


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
        p_value: read back from the marked pixels after JPEG quality 50; from the pixels as they are where that fails.
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
    """The verdict on a file's C2PA manifest; the first rule that matches wins, in the order written.

    RECOVERED: the file carries none, but the repository keeps one for it; `Recovery` says how sure that is.
    """

    UNREADABLE = "unreadable"
    RECOVERED = "recovered"
    NO_MANIFEST = "no_manifest"
    TAMPERED = "tampered"
    EXPIRED = "expired"
    BAD_ANCESTOR = "bad_ancestor"
    VALID_UNTRUSTED = "valid_untrusted"
    TRUSTED = "trusted"


class CheckResult(enum.Enum):
    """How one part of a verification ended. Only PASSED counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_CHECKED = "not_checked"


class RecoveryLevel(enum.Enum):
    """How sure it is that a kept manifest belongs to a file.

    BIT_IDENTICAL: with it put back the file is the signed one, byte for byte. CERTAIN: the watermark's keyed check is
    right and the picture looks like the recorded one. CANDIDATE: only one of the two; a reason to look.
    """

    BIT_IDENTICAL = "bit_identical"
    CERTAIN = "certain"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestVerdict:
    """What a file's manifest proves.

    Attributes:
        integrity: whether the file and its assertions are those that the claim was made about.
        signature: whether the claim was signed with the certificate that it names.
        trust: whether that certificate leads to a trust anchor and was valid in time.
        lineage: whether every picture that this one was made from passed when it was used and passes now; UNKNOWN when
            the origin of one is unknown, PASSED when there is none.
        manifest_id: "urn:c2pa:<uuid>" or "".
        explanation: one sentence for people.
        codes: raw validation codes, failures first.
        mark_id: value of our own watermark soft binding, or "".
        label: text of the visible label that the manifest says was drawn, or "".
        ai_generated: True when an action declares a trained-algorithm source type.
        policy_decision: our own assertion of that name, values as they were signed; empty where there is none.
        time_stamped: `signed_at` was attested by a time-stamp authority, not stated by the signer alone.
    """

    status: ManifestStatus
    explanation: str
    integrity: CheckResult = CheckResult.NOT_CHECKED
    signature: CheckResult = CheckResult.NOT_CHECKED
    trust: CheckResult = CheckResult.NOT_CHECKED
    lineage: CheckResult = CheckResult.NOT_CHECKED
    manifest_id: str = ""
    issuer: str = ""
    signed_at: str = ""
    time_stamped: bool = False
    model: str = ""
    ai_generated: bool = False
    mark_id: str = ""
    label: str = ""
    policy_digest: str = ""
    policy_decision: Mapping[str, Json] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    ancestry: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A kept manifest that was found for a file without it.

    Attributes:
        found_by: "digest", "watermark" or "fingerprint".
        manifest: what the kept manifest proves; for BIT_IDENTICAL of the whole file with it put back, else without
            the tie to the file's bytes.
        iscc_bits, pdq_bits: in which the fingerprints differ, of 64 and of 256; None when one is unknown.
        error_rate: how often such a level is wrong, with what that rests on.
        added_at: when the manifest was kept.
    """

    level: RecoveryLevel
    found_by: str
    manifest: ManifestVerdict
    iscc_bits: int | None
    pdq_bits: int | None
    error_rate: str
    added_at: str
