"""What a manifest says about a picture: made by a model from text or from other pictures, or handed on as it was.

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
from guardrails.domain.labels import VisibleLabel
from guardrails.domain.requests import PolicyRef
from guardrails.imaging.iscc import ALGORITHM as ISCC
from guardrails.imaging.metadata import ALGORITHMIC_MEDIA, COMPOSITE_WITH_TRAINED, TRAINED_ALGORITHMIC_MEDIA
from guardrails.provenance.lineage import PARENT_ID, Ingredient, Lineage, Process, Source

GENERATOR = "guardrails"
WATERMARK = "org.guardrails.watermark.1"
POLICY_DECISION = "org.guardrails.policy-decision"
POLICY_DIGEST = "policyDigest"
LABEL_TEXT = "org.guardrails.label"

_SPECIFICATION = "2.4.0"
_OPENED: Mapping[str, Json] = {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT_ID]}}
_TRAINING_USES = ("cawg.data_mining", "cawg.ai_inference", "cawg.ai_generative_training", "cawg.ai_training")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSpec:
    """A manifest that is ready to be signed, once.

    Attributes:
        manifest_id: "urn:c2pa:<uuid>", the manifest's label.
        definition: in the form that the SDK takes.
        ingredients: the pictures that the definition's actions refer to.
    """

    manifest_id: str
    definition: Mapping[str, Json]
    ingredients: tuple[Ingredient, ...] = ()

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
        label: VisibleLabel | None = None,
        lineage: Lineage | None = None,
        created_at: datetime | None = None,
    ) -> ManifestSpec:
        """The manifest of a picture that a model made, from text or from other pictures.

        Args:
            image_id: names the manifest.
            decision: of the policy; one that releases the picture.
            findings: the rules that spoke.
            mark: the watermark in the pixels.
            fingerprint: the ISCC of the marked pixels, see `iscc.image_code`.
            prompt_digest: salted; the prompt itself has no way in here.
            similar: works of the index that the policy wants credited, with their rights.
            version: of this toolkit.
            label: the visible one in the pixels.
            lineage: made from text alone by default.
            created_at: when the picture was made, by this machine's clock; now by default.
        """
        lineage = lineage or Lineage()
        made = _made(facts, lineage, prompt_digest)
        assertions = [
            _actions((*made, *_labelled(label, version), _marked(mark, version)), created_at),
            _soft_binding(WATERMARK, mark.mark_id),
            # The specification allows only listed algorithms; ours is not listed yet, this one is.
            _soft_binding(ISCC, fingerprint),
            _training_and_mining(),
            _policy_decision(policy, decision, findings, similar),
        ]
        return cls(
            manifest_id=image_id.urn,
            definition=_definition(image_id, version, assertions),
            ingredients=lineage.ingredients,
        )

    @classmethod
    def handed_on(
        cls,
        *,
        image_id: ImageId,
        original: Source,
        fingerprint: str,
        version: str,
        created_at: datetime | None = None,
    ) -> ManifestSpec:
        """The manifest of a finished file that is signed as it is: we vouch that we had it, not for how it was made.

        Args:
            original: the very file that will be signed; kept as parent, so that its own manifest is not lost.
            fingerprint: the ISCC of its pixels.
        """
        assertions = [_actions((_OPENED, {"action": "c2pa.published"}), created_at), _soft_binding(ISCC, fingerprint)]
        return cls(
            manifest_id=image_id.urn,
            definition=_definition(image_id, version, assertions),
            ingredients=(Ingredient(id=PARENT_ID, relationship="parentOf", source=original),),
        )


def _definition(image_id: ImageId, version: str, assertions: list[dict[str, Json]]) -> dict[str, Json]:
    return {
        "claim_version": 2,
        "label": image_id.urn,
        "title": "image",
        "instance_id": f"xmp:iid:{uuid.uuid4()}",
        "claim_generator_info": [{"name": GENERATOR, "version": version, "specVersion": _SPECIFICATION}],
        "assertions": assertions,
    }


def _actions(actions: Iterable[Mapping[str, Json]], created_at: datetime | None) -> dict[str, Json]:
    when = (created_at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = {"allActionsIncluded": True, "actions": [{**action, "when": when} for action in actions]}
    return _created("c2pa.actions.v2", data)


def _made(facts: GenerationFacts, lineage: Lineage, prompt_digest: str) -> list[Mapping[str, Json]]:
    """What the model did; first of all where the picture begins: created, or opened from its parent."""
    work: dict[str, Json] = {
        "description": lineage.process.value,
        "softwareAgent": {
            "name": facts.model,
            "version": facts.revision or "unknown",
            "org.guardrails.pipeline": facts.pipeline,
            "org.guardrails.weights_sha256": facts.weights_sha256,
        },
        "parameters": _parameters(facts, lineage, prompt_digest),
    }
    if lineage.parent is None:
        return [{"action": "c2pa.created", "digitalSourceType": TRAINED_ALGORITHMIC_MEDIA, **work}]
    # A model that enlarges a picture invents detail: that is an edit, not mere resampling.
    edited = {"action": "c2pa.edited", "digitalSourceType": COMPOSITE_WITH_TRAINED, **work}
    resized: list[Mapping[str, Json]] = (
        [{"action": "c2pa.resized.proportional"}] if lineage.process is Process.UPSCALING else []
    )
    return [_OPENED, edited, *resized]


def _parameters(facts: GenerationFacts, lineage: Lineage, prompt_digest: str) -> dict[str, Json]:
    parameters: dict[str, Json] = {
        "org.guardrails.seed": facts.seed,
        "org.guardrails.sampler": facts.sampler,
        "org.guardrails.steps": facts.steps,
        "org.guardrails.guidance_scale": facts.guidance_scale,
        "org.guardrails.prompt_sha256": prompt_digest,
    }
    if lineage.strength is not None:
        parameters["org.guardrails.strength"] = lineage.strength
    if lineage.references:
        parameters["ingredientIds"] = list(lineage.reference_ids)
    return parameters


def _labelled(label: VisibleLabel | None, version: str) -> list[Mapping[str, Json]]:
    """Visible text, and where it lies (specification 2.4, sections on actions and on regions of interest). The
    watermark actions of the specification speak of invisible marks alone."""
    if label is None:
        return []
    left, top, right, bottom = label.box
    plate = {"type": "rectangle", "unit": "pixel", "origin": {"x": left, "y": top}}
    region: dict[str, Json] = {
        "type": "spatial",
        "shape": {**plate, "width": right - left, "height": bottom - top},
    }
    return [
        {
            "action": "c2pa.addedText",
            "description": "visible label",
            "digitalSourceType": ALGORITHMIC_MEDIA,
            "softwareAgent": {"name": "guardrails-label", "version": version},
            "parameters": {LABEL_TEXT: label.text, "org.guardrails.label_profiles": sorted(label.profiles)},
            "changes": [{"region": [region], "description": "visible label"}],
        }
    ]


def _marked(mark: MarkEmbedding, version: str) -> dict[str, Json]:
    return {
        "action": "c2pa.watermarked.bound",
        "softwareAgent": {"name": "guardrails-watermark", "version": version},
        "parameters": {"org.guardrails.scheme": mark.scheme, "org.guardrails.epoch": mark.epoch},
    }


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
        **({"policySignature": policy.signature} if policy.signature else {}),
        "decision": to_plain(decision),
        "rules": [_rule(finding) for finding in findings],
        "similarWorks": [_without_blanks(to_plain(match)) for match in similar],
    }
    return {"label": POLICY_DECISION, "kind": "Json", "data": data}


def _rule(finding: Finding) -> Json:
    box = finding.evidence.get("box")
    # Evidence may quote the prompt, numbers cannot.
    numbers = isinstance(box, list | tuple) and all(isinstance(edge, int | float) for edge in box)
    rule = {
        "rule": finding.rule,
        "category": finding.category,
        "action": finding.action,
        "score": finding.score,
        "threshold": finding.threshold,
        "errorRate": finding.error_rate,
        "detector": finding.detector,
        "box": box if numbers else None,
    }
    return _without_blanks(to_plain(rule))


def _without_blanks(value: Json) -> Json:
    """Each byte travels with every copy of the picture, and twice with what is made from it."""
    if isinstance(value, Mapping):
        return {name: _without_blanks(item) for name, item in value.items() if item not in ("", None)}
    return value


def _created(label: str, data: Mapping[str, Json]) -> dict[str, Json]:
    """An assertion that the signer itself vouches for (`created_assertions` of the claim)."""
    return {"label": label, "created": True, "data": data}
