"""What the evidence in one file adds up to."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrails.domain.canonical import Json
from guardrails.domain.images import (
    ManifestStatus,
    ManifestVerdict,
    MarkReading,
    MarkVerdict,
    Recovery,
    RecoveryLevel,
)
from guardrails.domain.records import InclusionProof
from guardrails.watermark.public_marks import PublicMark


class FileVerdict(enum.Enum):
    """The answer for one file. NOT_FOUND never means "not AI"."""

    CONFIRMED = "confirmed"
    RECOVERED = "recovered"
    SIGNED = "signed"
    SUSPECTED = "suspected"
    CONFLICT = "conflict"
    TAMPERED = "tampered"
    NOT_FOUND = "not_found"
    UNREADABLE = "unreadable"


class LedgerStatus(enum.Enum):
    """What the ledger knows of a file."""

    VERIFIED = "verified"
    NO_RECORD = "no_record"
    CORRUPT = "corrupt"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvidence:
    """The record of a file, found by image digest, manifest id or watermark id.

    Attributes:
        found_by: "image", "manifest" or "watermark".
        proof: inclusion in the signed tree, verified; None unless `status` is VERIFIED.
        edges: the recorded `watermark.binding.EdgeMap` as text, or "".
        size: width and height of the picture as it was drawn.
        reason: why there is no verified record.
    """

    status: LedgerStatus
    found_by: str = ""
    record_id: str = ""
    mark_id: str = ""
    created_at: str = ""
    model: str = ""
    policy: str = ""
    action: str = ""
    rules: tuple[str, ...] = ()
    image_sha256: str = ""
    edges: str = ""
    size: tuple[int, int] | None = None
    proof: InclusionProof | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """Everything that was found in one file, and the verdict.

    Attributes:
        ids: the image id that each layer names, as 16 hexadecimal digits: {"manifest": ..., "watermark": ...,
            "ledger": ...}; layers that name none are left out, and so is a manifest that names the recorded image as
            what it was made from: an edit is no transplant.
        exact: the file is byte for byte the one that was released.
        mark: what the pixel mark says, after the comparison with the record.
        latent: what the latent mark says, where it was looked for.
        public_mark: the keyless mark of another program, a hint that takes no part in the verdict.
        likeness: correlation of the picture's edges with the recorded ones, -1..1, where it fits best; None when there
            is no record or no picture.
        recovery: the kept manifest of a file that does not carry it; None when it carries one, or none was found.
    """

    source: str
    sha256: str
    verdict: FileVerdict
    explanation: str
    manifest: ManifestVerdict
    mark: MarkReading | None
    ledger: LedgerEvidence
    latent: MarkReading | None = None
    public_mark: PublicMark | None = None
    ids: Mapping[str, Json] = field(default_factory=dict)
    exact: bool = False
    likeness: float | None = None
    recovery: Recovery | None = None
    problem: str = ""


# Intact, but not by the word of anyone on the trust list.
_UNVOUCHED = (ManifestStatus.VALID_UNTRUSTED, ManifestStatus.EXPIRED)


def judge(
    manifest: ManifestVerdict,
    mark: MarkReading | None,
    ledger: LedgerEvidence,
    ids: Mapping[str, str],
    recovery: Recovery | None = None,
) -> tuple[FileVerdict, str]:
    """Weigh the layers; the first rule that matches wins.

    1. Pixels that cannot be decoded: unreadable.
    2. A manifest that was tampered with: tampered.
    3. Layers that name different images: conflict.
    4. A damaged ledger: conflict.
    5. Trusted manifest, mark and ledger agree: confirmed.
    6. Mark and ledger agree without a trusted manifest of this very image: recovered. A mark whose pixels are unlike
       the recorded picture is only suspected, because it can be lifted from one picture onto another.
    7. A trusted manifest alone: signed.
    8. No manifest, but a kept one of a trusted signer belongs here for certain: recovered.
    9. A mark without a record, a pilot without a payload, a manifest that nobody here vouches for (anyone can sign
       with a key of his own), or a kept manifest that may belong here: suspected.
    10. Nothing: not found.
    """
    marked = mark is not None and mark.verdict is MarkVerdict.PRESENT
    recorded = ledger.status is LedgerStatus.VERIFIED
    if mark is None:  # 1
        return FileVerdict.UNREADABLE, "The pixels cannot be decoded, so nothing could be checked in them."
    if manifest.status is ManifestStatus.TAMPERED:  # 2
        return FileVerdict.TAMPERED, "The file or its manifest was changed after signing."
    if len(set(ids.values())) > 1:  # 3
        return FileVerdict.CONFLICT, "Manifest, watermark and ledger name different images: probably a transplant."
    if ledger.status is LedgerStatus.CORRUPT:  # 4
        return FileVerdict.CONFLICT, "The ledger does not verify, so its record proves nothing."
    if manifest.status is ManifestStatus.TRUSTED and "manifest" in ids and marked and recorded:  # 5
        return FileVerdict.CONFIRMED, "Made here: manifest, watermark and ledger name the same image."
    if mark.verdict is MarkVerdict.PRESENT_UNBOUND:  # 6
        return (
            FileVerdict.SUSPECTED,
            "The watermark is that of a recorded image, but these pixels look different: probably transplanted.",
        )
    if marked and recorded:
        return (
            FileVerdict.RECOVERED,
            "Made here, stripped or changed since: the watermark leads to the ledger's record.",
        )
    if manifest.status is ManifestStatus.TRUSTED:  # 7
        return FileVerdict.SIGNED, "Signed by a trusted signer; no matching watermark and ledger record here."
    if recovery is not None and _is_sure(recovery) and not manifest.manifest_id:  # 8
        return FileVerdict.RECOVERED, "Stripped since it was signed: its manifest of a trusted signer was kept."
    if marked or mark.verdict is MarkVerdict.SUSPECTED:  # 9
        return FileVerdict.SUSPECTED, "A trace of this installation's watermark, but no record to confirm it."
    if manifest.status is ManifestStatus.BAD_ANCESTOR:
        return FileVerdict.SUSPECTED, "Intact as signed, but a picture that it was made from did not pass."
    if manifest.status in _UNVOUCHED:
        return FileVerdict.SUSPECTED, "A manifest that nobody trusted here vouches for: a claim, not a proof."
    if recovery is not None:
        return FileVerdict.SUSPECTED, "It looks like a picture whose manifest was kept; that alone is no proof."
    unlooked = " Its watermark could not be looked for." if mark.verdict is MarkVerdict.ERROR else ""  # 10
    return (
        FileVerdict.NOT_FOUND,
        f"No evidence of this installation found.{unlooked} That does not mean the image is not AI-made.",
    )


def _is_sure(recovery: Recovery) -> bool:
    return recovery.level is not RecoveryLevel.CANDIDATE and recovery.manifest.status is ManifestStatus.TRUSTED
