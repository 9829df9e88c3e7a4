"""The asset conformance rubric 0.2 for specification 2.4, on the manifest that speaks for a file.

Re-implemented from the rubric of the C2PA conformance programme (c2pa-org/conformance-public, release 1.0 of August
2026, CC BY 4.0): 31 statements about the crJSON form of a manifest. Ids and order are the rubric's, so that results can
be compared; wording and code are ours. A passed check says that the manifest is formed as the programme asks; it says
nothing about pixels, about ancestors, or about who may be trusted, see `verifier`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from guardrails.domain.canonical import Json
from guardrails.provenance.shapes import items, members, text

SPECIFICATION = "2.4"

_INCEPTIONS = frozenset({"c2pa.created", "c2pa.opened"})
_WITHOUT_SOURCE_TYPE = _INCEPTIONS | {
    "c2pa.converted",
    "c2pa.edited.metadata",
    "c2pa.enhanced",
    "c2pa.placed",
    "c2pa.published",
    "c2pa.redacted",
    "c2pa.repackaged",
    "c2pa.resized.proportional",
    "c2pa.transcoded",
    "c2pa.watermarked",
    "c2pa.watermarked.bound",
    "c2pa.watermarked.unbound",
}
_ACTIONS = _WITHOUT_SOURCE_TYPE | {
    "c2pa.addedText",
    "c2pa.adjustedColor",
    "c2pa.changedSpeed",
    "c2pa.color_adjustments",
    "c2pa.cropped",
    "c2pa.deleted",
    "c2pa.drawing",
    "c2pa.dubbed",
    "c2pa.edited",
    "c2pa.filtered",
    "c2pa.mastered",
    "c2pa.mixed",
    "c2pa.orientation",
    "c2pa.remixed",
    "c2pa.removed",
    "c2pa.resized",
    "c2pa.translated",
    "c2pa.trimmed",
    "c2pa.unknown",
}
_DEPRECATED_ACTIONS = frozenset(
    {
        "c2pa.color_adjustments",
        "c2pa.copied",
        "c2pa.formatted",
        "c2pa.managed",
        "c2pa.printed",
        "c2pa.produced",
        "c2pa.saved",
        "c2pa.version_updated",
        "c2pa.watermarked",
    }
)
_PARAMETERS = frozenset(
    {
        "description",
        "ingredient",
        "ingredients",
        "italic",
        "multipleInstances",
        "optical-size",
        "ranges",
        "redacted",
        "relatedAssertions",
        "slant",
        "sourceLanguage",
        "targetLanguage",
        "weight",
        "width",
    }
)
_ASSERTIONS = frozenset(
    {
        "c2pa.actions.v2",
        "c2pa.ai-disclosure",
        "c2pa.alternative-content-representation",
        "c2pa.assertion.metadata",
        "c2pa.asset-ref",
        "c2pa.asset-type.v2",
        "c2pa.certificate-status",
        "c2pa.cloud-data",
        "c2pa.depthmap.GDepth",
        "c2pa.embedded-data",
        "c2pa.environmental-sustainability",
        "c2pa.external-reference",
        "c2pa.hash.bmff.v3",
        "c2pa.hash.boxes",
        "c2pa.hash.collection.data",
        "c2pa.hash.data",
        "c2pa.hash.data.part",
        "c2pa.hash.multi-asset",
        "c2pa.icon",
        "c2pa.ingredient.v3",
        "c2pa.metadata",
        "c2pa.repository-receipt",
        "c2pa.session-keys",
        "c2pa.soft-binding",
        "c2pa.thumbnail.claim",
        "c2pa.thumbnail.ingredient",
        "c2pa.time-stamp",
    }
)
_DEPRECATED_ASSERTIONS = frozenset(
    {
        "c2pa.actions",
        "c2pa.asset-type",
        "c2pa.claim",
        "c2pa.hash.bmff.v2",
        "c2pa.ingredient",
        "c2pa.ingredient.v2",
    }
)
_MALFORMED = frozenset(
    {
        "assertion.action.malformed",
        "assertion.alternativeContentRepresentation.malformed",
        "assertion.alternativeContentRepresentation.missing",
        "assertion.bmffHash.malformed",
        "assertion.boxesHash.malformed",
        "assertion.boxesHash.unknownBox",
        "assertion.cbor.invalid",
        "assertion.collectionHash.malformed",
        "assertion.dataHash.malformed",
        "assertion.external-reference.created",
        "assertion.external-reference.labelMismatch",
        "assertion.external-reference.malformed",
        "assertion.ingredient.malformed",
        "assertion.json.invalid",
        "assertion.multiAssetHash.malformed",
        "assertion.multipleHardBindings",
        "claim.cbor.invalid",
        "claim.hardBindings.missing",
        "claim.malformed",
        "claim.missing",
        "claim.multiple",
        "hashedURI.missing",
        "ingredient.manifest.missing",
        "manifest.compressed.invalid",
        "manifest.html.multipleManifests",
        "manifest.inaccessible",
        "manifest.multipleParents",
        "manifest.structuredText.emptyReference",
        "manifest.structuredText.malformedReference",
        "manifest.structuredText.multipleReferences",
        "manifest.structuredText.noManifest",
        "manifest.structuredText.noResolutionPath",
        "manifest.timestamp.invalid",
        "manifest.timestamp.wrongParents",
        "manifest.update.invalid",
        "manifest.update.wrongParents",
    }
)
_MISMATCHED = frozenset(
    {
        "assertion.action.ingredientMismatch",
        "assertion.action.redactionMismatch",
        "assertion.alternativeContentRepresentation.hashMismatch",
        "assertion.bmffHash.mismatch",
        "assertion.boxesHash.mismatch",
        "assertion.collectionHash.mismatch",
        "assertion.dataHash.mismatch",
        "assertion.external-reference.hashMismatch",
        "assertion.hardBinding.redacted",
        "assertion.hashedURI.mismatch",
        "assertion.multiAssetHash.mismatch",
        "claimSignature.missing",
        "hashedURI.mismatch",
        "ingredient.claimSignature.mismatch",
        "ingredient.claimSignature.missing",
        "ingredient.manifest.mismatch",
    }
)
_NO_RESULTS = "no validation results"
_RELATIONSHIPS = frozenset({"parentOf", "inputTo", "componentOf"})
_HUMAN_SOURCES = frozenset({"humanEntry.anonymous", "humanEntry.credentialed"})
_NOT_REFERABLE = frozenset({"c2pa.actions", "c2pa.actions.v2", "c2pa.cloud-data", "c2pa.external-reference"})
_TIFF_TYPES = frozenset({"image/tiff", "image/x-adobe-dng"})
_PRESERVED_ORIGINAL = "exif.originalPreservationImage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of the rubric, judged.

    Attributes:
        id: the rubric's.
        passed: True when the manifest meets it.
        found: what speaks against it.
        warns: True for a statement whose failure is a warning.
    """

    id: str
    passed: bool
    found: tuple[str, ...] = ()
    warns: bool = False


@dataclass(frozen=True)
class _Manifest:
    """The active manifest in crJSON, whatever shape a stranger gave it."""

    content: Mapping[str, Json]

    @cached_property
    def assertions(self) -> Mapping[str, Json]:
        return members(self.content.get("assertions"))

    @cached_property
    def values(self) -> list[Mapping[str, Json]]:
        return [members(value) for value in self.assertions.values()]

    @cached_property
    def actions(self) -> list[Mapping[str, Json]]:
        return [members(action) for value in self.values for action in items(value.get("actions"))]

    @cached_property
    def ingredients(self) -> list[Mapping[str, Json]]:
        return [value for value in self.values if value.get("relationship") is not None]

    @cached_property
    def claim(self) -> Mapping[str, Json]:
        return members(self.content.get("claim.v2"))

    @cached_property
    def failures(self) -> list[str]:
        results = self.content.get("validationResults")
        if results is None:
            return [_NO_RESULTS]
        return [text(members(failure).get("code")) for failure in items(members(results).get("failure"))]


def check(crjson: Mapping[str, Json]) -> tuple[Statement, ...]:
    """Judge the active manifest by all 31 statements.

    Args:
        crjson: of the whole file; the first manifest is the active one.
    """
    manifest = _Manifest(members(next(iter(items(crjson.get("manifests"))), None)))
    return tuple(_judge(name, objections, manifest) for name, objections in _STATEMENTS)


def _judge(name: str, objections: Callable[[_Manifest], Iterator[str]], manifest: _Manifest) -> Statement:
    found = tuple(objections(manifest))
    return Statement(id=name, passed=not found, found=found, warns=name in _WARNINGS)


def _names(actions: list[Mapping[str, Json]]) -> Iterator[str]:
    return (text(action.get("action")) for action in actions)


def _edits_without_source_type(manifest: _Manifest) -> Iterator[str]:
    for action in manifest.actions:
        name = text(action.get("action"))
        standard = name.startswith("c2pa.") and name not in _WITHOUT_SOURCE_TYPE
        if standard and action.get("digitalSourceType") is None:
            yield name


def _wrong_specification(manifest: _Manifest) -> Iterator[str]:
    info = manifest.claim.get("claim_generator_info")
    # One structure by the specification, a list of one in older files.
    stated = members(items(info)[0] if items(info) else info).get("specVersion")
    if not isinstance(stated, str) or stated.split(".")[:2] != SPECIFICATION.split("."):
        yield f"specVersion {stated!r}"


def _actions_of_unknown_extent(manifest: _Manifest) -> Iterator[str]:
    for label, value in manifest.assertions.items():
        data = members(value)
        if data.get("actions") is not None and data.get("allActionsIncluded") is None:
            yield label


def _opened_with_source_type(manifest: _Manifest) -> Iterator[str]:
    for action in manifest.actions:
        if action.get("action") == "c2pa.opened" and action.get("digitalSourceType") is not None:
            yield text(action.get("digitalSourceType")) or "digitalSourceType"


def _without_results(manifest: _Manifest) -> Iterator[str]:
    return (code for code in manifest.failures if code == _NO_RESULTS)


def _malformed(manifest: _Manifest) -> Iterator[str]:
    return (code for code in manifest.failures if code in _MALFORMED or code == _NO_RESULTS)


def _mismatched(manifest: _Manifest) -> Iterator[str]:
    return (code for code in manifest.failures if code in _MISMATCHED or code == _NO_RESULTS)


def _inception_out_of_place(manifest: _Manifest) -> Iterator[str]:
    urls = [text(members(entry).get("url")) for entry in items(manifest.claim.get("created_assertions"))]
    first = next((url for url in urls if "c2pa.actions" in url), "")
    if not first.endswith("c2pa.actions.v2"):
        yield first or "no created actions assertion"
    names = list(_names(manifest.actions))
    if "c2pa.created" in names and names[0] not in _INCEPTIONS:
        yield names[0]


def _deprecated_assertions(manifest: _Manifest) -> Iterator[str]:
    return (name for name in manifest.assertions if name.startswith("stds.") or name in _DEPRECATED_ASSERTIONS)


def _unknown_assertions(manifest: _Manifest) -> Iterator[str]:
    known = _ASSERTIONS | _DEPRECATED_ASSERTIONS
    return (n for n in manifest.assertions if n.startswith("c2pa.") and n.partition("__")[0] not in known)


def _deprecated_actions(manifest: _Manifest) -> Iterator[str]:
    return (name for name in _names(manifest.actions) if name in _DEPRECATED_ACTIONS)


def _unknown_actions(manifest: _Manifest) -> Iterator[str]:
    return (name for name in _names(manifest.actions) if name.startswith("c2pa.") and name not in _ACTIONS)


def _undotted_assertions(manifest: _Manifest) -> Iterator[str]:
    return (name for name in manifest.assertions if "." not in name)


def _undotted_actions(manifest: _Manifest) -> Iterator[str]:
    return (name for name in _names(manifest.actions) if "." not in name)


def _undotted_parameters(manifest: _Manifest) -> Iterator[str]:
    for action in manifest.actions:
        for name in members(action.get("parameters")):
            if name not in _PARAMETERS and "." not in name:
                yield name


def _misplaced_parameters(manifest: _Manifest) -> Iterator[str]:
    for action in manifest.actions:
        parameters = members(action.get("parameters"))
        if parameters.get("description") is not None or parameters.get("ingredient") is not None:
            yield text(action.get("action")) or "unknown"


def _other_label(manifest: _Manifest) -> Iterator[str]:
    label = text(manifest.content.get("label"))
    if not label.startswith("urn:c2pa:"):
        yield label or "no label"


def _rated_by_hand(manifest: _Manifest) -> Iterator[str]:
    for label, value in manifest.assertions.items():
        data = members(value)
        source = text(members(data.get("dataSource")).get("type"))
        if data.get("reviewRatings") is not None and source in _HUMAN_SOURCES:
            yield label


def _results_without_manifest(manifest: _Manifest) -> Iterator[str]:
    for ingredient in manifest.ingredients:
        if ingredient.get("activeManifest") is None and ingredient.get("validationResults") is not None:
            yield _title(ingredient)


def _manifest_without_results(manifest: _Manifest) -> Iterator[str]:
    for ingredient in manifest.ingredients:
        if ingredient.get("activeManifest") is not None and ingredient.get("validationResults") is None:
            yield _title(ingredient)


def _unknown_relationships(manifest: _Manifest) -> Iterator[str]:
    relationships = (ingredient.get("relationship") for ingredient in manifest.ingredients)
    return (str(name) for name in relationships if text(name) not in _RELATIONSHIPS)


def _created_without_source_type(manifest: _Manifest) -> Iterator[str]:
    for action in manifest.actions:
        if action.get("action") == "c2pa.created" and action.get("digitalSourceType") is None:
            yield "c2pa.created"


def _deprecated_claim_fields(manifest: _Manifest) -> Iterator[str]:
    if manifest.claim.get("specVersion") is not None:
        yield "specVersion"


def _manifest_and_source_type(manifest: _Manifest) -> Iterator[str]:
    for ingredient in manifest.ingredients:
        if ingredient.get("activeManifest") is not None and ingredient.get("digitalSourceType") is not None:
            yield _title(ingredient)


def _original_in_no_single_place(manifest: _Manifest) -> Iterator[str]:
    for label, value in manifest.assertions.items():
        data = members(value)
        parameters = members(data.get("parameters"))
        if _PRESERVED_ORIGINAL not in (data.get("type"), parameters.get("type")):
            continue
        by_index = parameters.get("multiAssetPartIndex") is not None
        embedded = parameters.get("embeddedOriginalPreservationImage") is not None
        if by_index == embedded:
            yield label


def _forbidden_references(manifest: _Manifest) -> Iterator[str]:
    for value in manifest.values:
        label = text(value.get("label"))
        is_reference = value.get("url") is not None and value.get("relationship") is None
        if is_reference and (label in _NOT_REFERABLE or label.startswith(("c2pa.hash", "c2pa.ingredient"))):
            yield label


def _hashes_with_url(manifest: _Manifest) -> Iterator[str]:
    for label in ("c2pa.hash.data", "c2pa.hash.bmff.v3"):
        if members(manifest.assertions.get(label)).get("url") is not None:
            yield label


def _opened_alone(manifest: _Manifest) -> Iterator[str]:
    alone = list(_names(manifest.actions)) == ["c2pa.opened"]
    if alone and members(manifest.assertions.get("c2pa.actions.v2")).get("allActionsIncluded") is not True:
        yield "c2pa.opened"


def _opened_without_one_parent(manifest: _Manifest) -> Iterator[str]:
    for action in manifest.actions:
        if action.get("action") == "c2pa.opened":
            count = len(items(members(action.get("parameters")).get("ingredients")))
            if count != 1:
                yield f"{count} ingredients"


def _box_hash_on_tiff(manifest: _Manifest) -> Iterator[str]:
    kind = members(manifest.assertions.get("c2pa.asset-type.v2")).get("dc:format")
    if "c2pa.hash.boxes" in manifest.assertions and kind in _TIFF_TYPES:
        yield "c2pa.hash.boxes"


def _title(ingredient: Mapping[str, Json]) -> str:
    return text(ingredient.get("dc:title")) or "an ingredient without title"


_WARNINGS = frozenset({"discouraged_legacy_action_parameters"})
_STATEMENTS: tuple[tuple[str, Callable[[_Manifest], Iterator[str]]], ...] = (
    ("mandatory_dst_for_perceptible_transformations", _edits_without_source_type),
    ("mandatory_spec_version", _wrong_specification),
    ("mandatory_all_actions_included", _actions_of_unknown_extent),
    ("no_dst_for_opened_action", _opened_with_source_type),
    ("well_formed_data_present", _without_results),
    ("well_formed_success", _malformed),
    ("valid_data_present", _without_results),
    ("valid_success", _mismatched),
    ("inception_action_position", _inception_out_of_place),
    ("no_deprecated_assertions", _deprecated_assertions),
    ("no_unsupported_assertions", _unknown_assertions),
    ("no_deprecated_actions", _deprecated_actions),
    ("no_unsupported_actions", _unknown_actions),
    ("no_unrecognized_custom_assertions", _undotted_assertions),
    ("no_unrecognized_custom_actions", _undotted_actions),
    ("no_unrecognized_custom_action_parameters", _undotted_parameters),
    ("discouraged_legacy_action_parameters", _misplaced_parameters),
    ("active_manifest_urn", _other_label),
    ("review_ratings_datasource", _rated_by_hand),
    ("ingredient_v3_no_active_manifest", _results_without_manifest),
    ("ingredient_v3_mandatory_validation_results", _manifest_without_results),
    ("ingredient_relationship_values", _unknown_relationships),
    ("mandatory_dst_for_created_action", _created_without_source_type),
    ("no_deprecated_claim_fields", _deprecated_claim_fields),
    ("ingredient_v3_choice", _manifest_and_source_type),
    ("alternative_content_representation_choice", _original_in_no_single_place),
    ("forbidden_labels_in_external_references", _forbidden_references),
    ("no_url_in_hashes", _hashes_with_url),
    ("all_actions_included_opened", _opened_alone),
    ("opened_action_ingredient_reference", _opened_without_one_parent),
    ("no_box_hash_for_tiff", _box_hash_on_tiff),
)
