"""What a record may say in public: scores, rules and facts, never the words of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from guardrails.domain.canonical import Json, to_plain
from guardrails.domain.findings import Action, Check, Finding
from guardrails.domain.images import GenerationFacts, LatentStart, MarkEmbedding
from guardrails.domain.labels import VisibleLabel
from guardrails.pipeline.approval import Approval
from guardrails.pipeline.timings import Timings


def public_facts(
    *,
    findings: Iterable[Finding],
    checks: Iterable[Check],
    action: Action,
    generation: GenerationFacts | None = None,
    latent: LatentStart | None = None,
    embedding: MarkEmbedding | None = None,
    label: VisibleLabel | None = None,
    fingerprint: str = "",
    edges: str = "",
    approval: Approval | None = None,
    parent: Mapping[str, Json] | None = None,
    timings: Timings | None = None,
) -> dict[str, Json]:
    """The `facts` of a record. Findings lose message, span and evidence, which quote the prompt; checks lose theirs,
    which may name persons."""
    facts: dict[str, Json] = {
        "action": to_plain(action),
        "findings": [
            {
                "rule": finding.rule,
                "category": finding.category,
                "action": to_plain(finding.action),
                "detector": to_plain(finding.detector),
                "score": finding.score,
                "threshold": finding.threshold,
                "error_rate": finding.error_rate,
            }
            for finding in findings
        ],
        "checks": [to_plain(replace(check, evidence={})) for check in checks],
    }
    if generation is not None:
        facts["generation"] = to_plain(generation)
    if latent is not None:
        facts["latent"] = to_plain(latent)
    if embedding is not None:
        facts["watermark"] = to_plain(embedding)
    if label is not None:
        facts["label"] = {**to_plain(label), "text": label.text}
    if fingerprint:
        facts["fingerprint"] = fingerprint
    if approval is not None:
        facts["approval"] = {"review": approval.review, "rules": sorted(approval.rules)}
    if parent:
        facts["parent"] = dict(parent)
    if edges:
        facts["edges"] = edges
    if timings is not None:
        facts["timings"] = timings.to_json()
    return facts
