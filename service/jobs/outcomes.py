"""What became of each picture of a job, as plain values that the API hands on.

Released pictures are described from their record alone: what a client is told is what stands in the ledger, also when
a second worker finds what a first one recorded before it died.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guardrails.domain.canonical import canonical_json, to_plain
from guardrails.domain.findings import Action, strongest
from guardrails.domain.records import Record, Refusal
from guardrails.ledger import Ledger
from guardrails.similarity.hash_lists import RULE

_PASSED = "pass"
# The stage of a review that asks people to act on a hit in a hash list. Nothing can be seen in it, nor released.
LISTED = "hash list"


def describe_release(ledger: Ledger, record: Record, index: int, file: str) -> dict[str, Any]:
    """One released picture.

    Args:
        index: of the picture in its job.
        file: its name in the folder of assets.
    """
    facts = record.facts
    return {
        "index": index,
        "id": record.id,
        "file": file,
        "sha256": record.image_sha256,
        "guardrails": {
            "record_id": record.id,
            "gen_uid": record.manifest_id,
            "c2pa": "trusted",
            "watermark": "embedded",
            "watermark_id": record.mark_id,
            "policy": f"{record.policy.id}@sha256:{record.policy.digest}",
            "action": facts.get("action", ""),
            "checks": [describe_check(check, facts.get("findings", ())) for check in facts.get("checks", ())],
            "findings": [describe_finding(finding) for finding in facts.get("findings", ())],
            "seed": facts.get("generation", {}).get("seed"),
            "model": facts.get("generation", {}).get("model", ""),
            "receipt": _receipt(ledger, record.id),
            "label": facts.get("label"),
        },
    }


def describe_check(check: Mapping[str, Any], findings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One check of a record: whether it ran, what it scored, and what the rules made of it."""
    component, scores = check["component"], check["scores"]
    own = [finding for finding in findings if finding["detector"]["name"] == component["name"]]
    loudest = max(own, key=lambda finding: Action.parse(finding["action"]), default=None)
    ran = check["status"] == "ran"
    return {
        "id": component["name"],
        "version": component["version"],
        "ran": ran,
        "verdict": (_PASSED if ran else check["status"]) if loudest is None else loudest["action"],
        "score": max(scores.values(), default=None),
        "threshold": None if loudest is None else loudest["threshold"],
        "scores": scores,
        "ms": check["milliseconds"],
    }


def describe_finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    """One rule that spoke, without anything that quotes the prompt."""
    return {name: finding[name] for name in ("rule", "category", "action", "score", "threshold")}


def describe_refusal(refusal: Refusal, index: int | None, stage: str) -> dict[str, Any]:
    """Why a picture (or, with index None, the whole request) was not released.

    The messages of rules are for the person who asked and may quote the prompt.

    Args:
        stage: "input" for what was given, a prompt or an original; "output" for what was made.
    """
    plain = [to_plain(finding) for finding in refusal.findings]
    deciding = [finding for finding in refusal.findings if not finding.action.releases]
    return {
        "index": index,
        "stage": stage,
        "step": refusal.stage.value,
        "categories": sorted({finding.category for finding in deciding}),
        "rules": [finding.rule for finding in deciding],
        "messages": [finding.message for finding in deciding],
        "action": to_plain(strongest(refusal.findings) if refusal.findings else Action.BLOCK),
        "decision_id": refusal.id,
        "policy": f"{refusal.policy.id}@sha256:{refusal.policy.digest}",
        "checks": [describe_check(to_plain(check), plain) for check in refusal.checks],
        "fault": refusal.fault.partition(":")[0],
        "evidence": refusal.evidence_file,
    }


def is_held(blocked: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every refusal waits for a review: no rule blocks, and no guard failed."""
    return bool(blocked) and all(entry["action"] == "review" and not entry["fault"] for entry in blocked)


def is_listed(entry: Mapping[str, Any]) -> bool:
    """Whether a picture was refused because it is on a list of pictures that nobody may hold."""
    return RULE in entry["rules"]


def _receipt(ledger: Ledger, record_id: str) -> str:
    """That the record is in the log, by its inclusion proof, or will be, by a signed promise; base64 of JSON."""
    receipt = ledger.receipt(record_id)
    value: dict[str, Any] = {"record_id": record_id, "index": receipt.index}
    if receipt.index is None:
        value["receipt"] = receipt.note
    else:
        value["tlog_proof"] = ledger.tlog_proof(receipt.index)
    return base64.b64encode(canonical_json(value)).decode()
