"""What a manifest declares, read with tolerance: foreign manifests hold whatever their signers wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from guardrails.domain.canonical import Json
from guardrails.provenance.manifest import LABEL_TEXT, POLICY_DECISION, POLICY_DIGEST, WATERMARK
from guardrails.provenance.shapes import items, members, text

# IPTC NewsCodes (and the C2PA's own list) of source types that involve a trained algorithm, without their URL.
_AI_SOURCE_TYPES = {
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "trainedAlgorithmicData",
}
_CREATED = "c2pa.created"
_LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """What one manifest says; every field is "" or False where it says nothing.

    Attributes:
        label: text of the visible label that it says was drawn.
        issuer: organisation of the signing certificate, or its common name.
        signed_at: of a time-stamp authority where there is one, else what the signer states for the first action.
    """

    issuer: str
    signed_at: str
    time_stamped: bool
    model: str
    ai_generated: bool
    mark_id: str
    label: str
    policy_digest: str


def declarations(manifest: Json) -> Declarations:
    """Read one manifest in the SDK's JSON form."""
    signature = members(members(manifest).get("signature_info"))
    actions = list(_actions(manifest))
    # What a model did speaks before who else touched the file: an edited picture has no creation of its own.
    made = next((action for action in actions if _is_ai(action.get("digitalSourceType"))), None)
    created = made or next((action for action in actions if action.get("action") == _CREATED), {})
    return Declarations(
        issuer=text(signature.get("issuer")) or text(signature.get("common_name")),
        time_stamped=bool(text(signature.get("time"))),
        signed_at=text(signature.get("time")) or text(next(iter(actions), created).get("when")),
        model=_agent(created.get("softwareAgent")),
        ai_generated=made is not None,
        mark_id=soft_binding(manifest, WATERMARK),
        label=next(filter(None, map(_label, actions)), ""),
        policy_digest=next(
            (text(data.get(POLICY_DIGEST)) for data in _assertions(manifest, POLICY_DECISION)),
            "",
        ),
    )


def soft_binding(manifest: Json, algorithm: str) -> str:
    """The value of the first soft binding of an algorithm, or ""."""
    for data in _assertions(manifest, "c2pa.soft-binding"):
        if data.get("alg") == algorithm:
            return next((text(members(block).get("value")) for block in items(data.get("blocks"))), "")
    return ""


def _actions(manifest: Json) -> Iterator[Mapping[str, Json]]:
    for label in ("c2pa.actions.v2", "c2pa.actions"):
        for data in _assertions(manifest, label):
            yield from (members(action) for action in items(data.get("actions")))


def _assertions(manifest: Json, label: str) -> Iterator[Mapping[str, Json]]:
    for assertion in items(members(manifest).get("assertions")):
        # The second assertion of a kind is labelled "<kind>__1".
        if text(members(assertion).get("label")).partition("__")[0] == label:
            yield members(assertion.get("data"))


def _label(action: Mapping[str, Json]) -> str:
    """The words of a visible label; texts that others added are none."""
    return text(members(action.get("parameters")).get(LABEL_TEXT))[:_LONGEST_LABEL]


def _agent(value: Json) -> str:
    """A software agent is a structure with a name in version 2 and a plain text in version 1."""
    return text(value) or text(members(value).get("name"))


def _is_ai(source_type: Json) -> bool:
    return text(source_type).rpartition("/")[2] in _AI_SOURCE_TYPES
