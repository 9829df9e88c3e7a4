"""What the ledger says, and how a run ends."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Check, Finding
from guardrails.domain.requests import PolicyRef


class RecordKind(enum.Enum):
    """The events that are logged."""

    GENERATION = "generation"
    REFUSAL = "refusal"
    LOSS = "loss"
    REVIEW = "review"
    APPEAL = "appeal"
    TAKEDOWN = "takedown"
    ERASURE = "erasure"
    POLICY_CHANGE = "policy_change"
    KEY_CHANGE = "key_change"
    ADMINISTRATION = "administration"


class Stage(enum.Enum):
    """Where in the pipeline something happened."""

    PROMPT = "prompt"
    GENERATION = "generation"
    SCREENING = "screening"
    SIMILARITY = "similarity"
    LABEL = "label"
    WATERMARK = "watermark"
    PROVENANCE = "provenance"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One leaf of the log. Holds digests and salted commitments, never the prompt itself.

    Attributes:
        id: the image id (UUID text), or a fresh one for refusals.
        created_at: RFC 3339 UTC with milliseconds.
        commitments: field name -> SHA-256(domain || salt || value); the salts live in the erasable payload.
        facts: what is not personal: model, seed, checks, rules that spoke, psnr ...
    """

    id: str
    kind: RecordKind
    created_at: str
    policy: PolicyRef
    mark_id: str = ""
    manifest_id: str = ""
    image_sha256: str = ""
    commitments: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """RFC 6962 section 2.1.1 audit path.

    Attributes:
        index: of the leaf, from 0.
        size: of the tree that the root belongs to.
        leaf_hash, root, path: 32-byte hashes; the path runs from the leaf's sibling up.
    """

    index: int
    size: int
    leaf_hash: bytes
    root: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The log's signed promise that a durable record stands in its tree, or will at most `max_merge_delay` later.

    Attributes:
        leaf_hash: 32 bytes, RFC 6962.
        issued_at: RFC 3339 UTC with milliseconds.
        max_merge_delay: seconds.
        note: the promise as a C2SP signed note; the fields above repeat what it says.
        index: of the leaf, from 0; None while the record waits for the sequencer.
        checkpoint: a C2SP signed note over a tree that holds the record; "" while it waits.
    """

    record_id: str
    leaf_hash: bytes
    issued_at: str
    max_merge_delay: int
    note: str
    index: int | None = None
    checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No image left: at which stage, by which rules, with which evidence.

    Attributes:
        fault: "" for a decision by rule; the error code and message when a guard itself failed.
        evidence_file: a picture for reviewers inside the installation's own folder, or "".
        picture_sha256: of the pixels that reviewers then decide about, and that a release must have; "" without them.
    """

    id: str
    stage: Stage
    policy: PolicyRef
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...] = ()
    fault: str = ""
    evidence_file: str = ""
    picture_sha256: str = ""
    receipt: Receipt | None = None
