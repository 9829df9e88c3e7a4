"""Each statement of the conformance rubric speaks against exactly the fault that it is about."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from guardrails.provenance import Signer, TrustStore, backend, rubric

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def good(sign, signer: Signer, make: SimpleNamespace) -> dict[str, Any]:
    """crJSON of an edited picture: created by nobody, opened from a signed parent."""
    spec = make.spec(lineage=make.kinds(sign())["image-to-image"])
    reading = backend.read(signer.sign(make.file(), "image/png", spec).data, TrustStore().anchors)
    assert isinstance(reading, backend.Store)
    return dict(reading.crjson())


def _actions(manifest: Manifest) -> Manifest:
    return manifest["assertions"]["c2pa.actions.v2"]


def _edited(manifest: Manifest) -> Manifest:
    return _actions(manifest)["actions"][1]


def _ingredient(manifest: Manifest) -> Manifest:
    return manifest["assertions"]["c2pa.ingredient.v3"]


def _failure(code: str) -> Callable[[Manifest], None]:
    return lambda m: m["validationResults"]["failure"].append({"code": code})


def _add(name: str, /, **data: Any) -> Callable[[Manifest], None]:
    return lambda m: m["assertions"].update({name: data})


FAULTS: dict[str, Callable[[Manifest], Any]] = {
    "mandatory_dst_for_perceptible_transformations": lambda m: _edited(m).pop("digitalSourceType"),
    "mandatory_spec_version": lambda m: m["claim.v2"]["claim_generator_info"].update(specVersion="2.2.0"),
    "mandatory_all_actions_included": lambda m: _actions(m).pop("allActionsIncluded"),
    "no_dst_for_opened_action": lambda m: _actions(m)["actions"][0].update(digitalSourceType="x"),
    "well_formed_success": _failure("claim.multiple"),
    "valid_success": _failure("assertion.dataHash.mismatch"),
    "inception_action_position": lambda m: _actions(m)["actions"].extend(
        [{"action": "c2pa.created", "digitalSourceType": "x"}, _actions(m)["actions"].pop(0)]
    ),
    "no_deprecated_assertions": _add("stds.exif"),
    "no_unsupported_assertions": _add("c2pa.invented__1"),
    "no_deprecated_actions": lambda m: _actions(m)["actions"].append({"action": "c2pa.watermarked"}),
    "no_unsupported_actions": lambda m: _edited(m).update(action="c2pa.invented"),
    "no_unrecognized_custom_assertions": _add("mine"),
    "no_unrecognized_custom_actions": lambda m: _edited(m).update(action="mine"),
    "no_unrecognized_custom_action_parameters": lambda m: _edited(m)["parameters"].update(strength=1),
    "discouraged_legacy_action_parameters": lambda m: _edited(m)["parameters"].update(description="x"),
    "active_manifest_urn": lambda m: m.update(label="urn:uuid:1"),
    "review_ratings_datasource": _add("x.y", reviewRatings=[], dataSource={"type": "humanEntry.anonymous"}),
    "ingredient_v3_no_active_manifest": lambda m: _ingredient(m).pop("activeManifest"),
    "ingredient_v3_mandatory_validation_results": lambda m: _ingredient(m).pop("validationResults"),
    "ingredient_relationship_values": lambda m: _ingredient(m).update(relationship="childOf"),
    "mandatory_dst_for_created_action": lambda m: _actions(m)["actions"].append({"action": "c2pa.created"}),
    "no_deprecated_claim_fields": lambda m: m["claim.v2"].update(specVersion="2.4.0"),
    "ingredient_v3_choice": lambda m: _ingredient(m).update(digitalSourceType="x"),
    "alternative_content_representation_choice": _add("x.y", type="exif.originalPreservationImage", parameters={}),
    "forbidden_labels_in_external_references": _add("x.y", url="x", label="c2pa.hash.data"),
    "no_url_in_hashes": lambda m: m["assertions"]["c2pa.hash.data"].update(url="x"),
    "opened_action_ingredient_reference": lambda m: _actions(m)["actions"][0].pop("parameters"),
}


def _failed(crjson: dict[str, Any]) -> list[str]:
    return [statement.id for statement in rubric.check(crjson) if not statement.passed]


def test_a_good_manifest_meets_all_31(good: dict[str, Any]) -> None:
    assert _failed(good) == []
    assert len({statement.id for statement in rubric.check(good)}) == 31


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_fails_one_statement(name: str, good: dict[str, Any]) -> None:
    faulty = copy.deepcopy(good)
    FAULTS[name](faulty["manifests"][0])
    assert _failed(faulty) == [name]
    statement = next(statement for statement in rubric.check(faulty) if statement.id == name)
    assert statement.found
    assert statement.warns is (name == "discouraged_legacy_action_parameters")


def test_faults_that_touch_several_statements(good: dict[str, Any]) -> None:
    unchecked = copy.deepcopy(good)
    del unchecked["manifests"][0]["validationResults"]
    assert _failed(unchecked) == [
        "well_formed_data_present",
        "well_formed_success",
        "valid_data_present",
        "valid_success",
    ]
    alone = copy.deepcopy(good)
    _actions(alone["manifests"][0]).update(allActionsIncluded=False)
    del _actions(alone["manifests"][0])["actions"][1:]
    assert _failed(alone) == ["all_actions_included_opened"]
    tiff = copy.deepcopy(good)
    kind = {"c2pa.hash.boxes": {}, "c2pa.asset-type.v2": {"dc:format": "image/tiff"}}
    tiff["manifests"][0]["assertions"].update(kind)
    assert _failed(tiff) == ["no_box_hash_for_tiff"]
    assert set(FAULTS) | {"well_formed_data_present", "valid_data_present"} | {
        "all_actions_included_opened",
        "no_box_hash_for_tiff",
    } == {statement.id for statement in rubric.check(good)}


@pytest.mark.parametrize(
    "crjson",
    [
        {},
        {"manifests": None},
        {"manifests": ["text"]},
        {"manifests": [{"assertions": [], "claim.v2": "text", "validationResults": 7, "label": {}}]},
        {"manifests": [{"assertions": {"c2pa.actions.v2": {"actions": [None, 3, {"parameters": [1]}]}}}]},
    ],
)
def test_odd_shapes_fail_and_never_raise(crjson: dict[str, Any]) -> None:
    assert "mandatory_spec_version" in _failed(crjson)
