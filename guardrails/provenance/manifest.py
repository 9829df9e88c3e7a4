"""What a manifest says about a generated picture.

Written for claim version 2 of the C2PA Technical Specification 2.4. Names of our own start with `org.guardrails.`.
A manifest travels with the picture for ever, so it holds nothing that a person typed: of the prompt only a salted
digest, of the findings only rule, score and threshold (their messages and evidence may quote the prompt).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from guardrails.domain.canonical import Json, to_plain
from guardrails.domain.findings import Action, Finding
from guardrails.domain.identity import ImageId
from guardrails.domain.images import GenerationFacts, MarkEmbedding, Match
from guardrails.domain.requests import PolicyRef
from guardrails.imaging.metadata import TRAINED_ALGORITHMIC_MEDIA
from guardrails.provenance.iscc import ALGORITHM as ISCC

GENERATOR = "guardrails"
WATERMARK = "org.guardrails.watermark.1"
POLICY_DECISION = "org.guardrails.policy-decision"
POLICY_DIGEST = "policyDigest"

_SPECIFICATION = "2.4.0"
_TRAINING_USES = ("cawg.data_mining", "cawg.ai_inference", "cawg.ai_generative_training", "cawg.ai_training")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSpec:
    """A manifest that is ready to be signed, once.

    Attributes:
        manifest_id: "urn:c2pa:<uuid>", the manifest's label.
        definition: in the form that the SDK takes.
    """

    manifest_id: str
    definition: Mapping[str, Json]

    @classmethod
    def generated(
        cls,
        *,
        image_id: ImageId,
        facts: GenerationFacts,
        policy: PolicyRef,
        decision: Action,
        findings: tuple[Finding, ...],
        mark: MarkEmbedding,
        fingerprint: str,
        prompt_digest: str,
        similar: tuple[Match, ...],
        version: str,
        created_at: datetime | None = None,
    ) -> ManifestSpec:
        """The manifest of a picture that a model made from text.

        Args:
            image_id: names the manifest.
            decision: of the policy; one that releases the picture.
            findings: the rules that spoke.
            mark: the watermark in the pixels.
            fingerprint: the ISCC of the marked pixels, see `iscc.image_code`.
            prompt_digest: salted; the prompt itself has no way in here.
            similar: works of the index that the picture resembles, with their rights.
            version: of this toolkit.
            created_at: when the picture was made, by this machine's clock; now by default.
        """
        definition = {
            "claim_version": 2,
            "label": image_id.urn,
            "title": "image",
            "instance_id": f"xmp:iid:{uuid.uuid4()}",
            "claim_generator_info": [{"name": GENERATOR, "version": version, "specVersion": _SPECIFICATION}],
            "assertions": [
                _actions(facts, mark, prompt_digest, version, created_at or datetime.now(UTC)),
                _soft_binding(WATERMARK, mark.mark_id),
                # The specification allows only listed algorithms; ours is not listed yet, this one is.
                _soft_binding(ISCC, fingerprint),
                _training_and_mining(),
                _policy_decision(policy, decision, findings, similar),
            ],
        }
        return cls(manifest_id=image_id.urn, definition=definition)


def _actions(
    facts: GenerationFacts, mark: MarkEmbedding, prompt_digest: str, version: str, created_at: datetime
) -> dict[str, Json]:
    agent = {
        "name": facts.model,
        "version": facts.revision or "unknown",
        "org.guardrails.pipeline": facts.pipeline,
        "org.guardrails.weights_sha256": facts.weights_sha256,
    }
    created = {
        "action": "c2pa.created",
        "when": _timestamp(created_at),
        "description": "text-to-image",
        "digitalSourceType": TRAINED_ALGORITHMIC_MEDIA,
        "softwareAgent": agent,
        "parameters": {
            "org.guardrails.seed": facts.seed,
            "org.guardrails.sampler": facts.sampler,
            "org.guardrails.steps": facts.steps,
            "org.guardrails.guidance_scale": facts.guidance_scale,
            "org.guardrails.prompt_sha256": prompt_digest,
        },
    }
    marked = {
        "action": "c2pa.watermarked.bound",
        "when": _timestamp(created_at),
        "softwareAgent": {"name": "guardrails-watermark", "version": version},
        "parameters": {"org.guardrails.scheme": mark.scheme, "org.guardrails.epoch": mark.epoch},
    }
    return _created("c2pa.actions.v2", {"allActionsIncluded": True, "actions": [created, marked]})


def _soft_binding(algorithm: str, value: str) -> dict[str, Json]:
    return _created("c2pa.soft-binding", {"alg": algorithm, "blocks": [{"scope": {}, "value": value}], "pad": ""})


def _training_and_mining() -> dict[str, Json]:
    return {
        "label": "cawg.training-mining",
        "data": {"entries": {use: {"use": "notAllowed"} for use in _TRAINING_USES}},
    }


def _policy_decision(
    policy: PolicyRef, decision: Action, findings: Iterable[Finding], similar: Iterable[Match]
) -> dict[str, Json]:
    data = {
        "policy": policy.id,
        "policyVersion": policy.version,
        POLICY_DIGEST: policy.digest,
        "decision": to_plain(decision),
        "rules": [_rule(finding) for finding in findings],
        "similarWorks": [to_plain(match) for match in similar],
    }
    return {"label": POLICY_DECISION, "kind": "Json", "data": data}


def _rule(finding: Finding) -> dict[str, Json]:
    return {
        "rule": finding.rule,
        "category": finding.category,
        "action": to_plain(finding.action),
        "score": finding.score,
        "threshold": finding.threshold,
        "errorRate": finding.error_rate,
        "detector": to_plain(finding.detector),
    }


def _created(label: str, data: Mapping[str, Json]) -> dict[str, Json]:
    """An assertion that the signer itself vouches for (`created_assertions` of the claim)."""
    return {"label": label, "created": True, "data": data}


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
