"""Every kind of manifest in every format: trusted, formed as the conformance rubric asks, small, read back equal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrails.domain.identity import ImageId
from guardrails.domain.images import CheckResult, ManifestStatus
from guardrails.errors import LaunderingError, OptionError
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, image_code
from guardrails.provenance.lineage import Lineage, Process, Source

FORMATS = [format for format in ImageFormat if format.writable]
KINDS = ["text-to-image", "references", "image-to-image", "inpainting", "upscaling"]


@pytest.fixture(scope="module")
def parent(sign) -> bytes:
    return sign(20)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_every_format_passes_31_of_31(
    format: ImageFormat, kind: str, parent: bytes, signer: Signer, keys: Path, make: SimpleNamespace
) -> None:
    plain = encode(make.pixels(1), format)
    spec = make.spec(1, lineage=make.kinds(parent)[kind])
    signed = signer.sign(plain, format.mime, spec).data
    verifier = Verifier(TrustStore.dev(keys), strict=True)
    verdict = verifier.verify(signed)
    statements = verifier.conformance(signed)
    assert (verdict.status, verdict.codes[0]) == (ManifestStatus.TRUSTED, "signingCredential.trusted")
    assert (verdict.integrity, verdict.signature, verdict.trust) == (CheckResult.PASSED,) * 3
    assert [statement.found for statement in statements if not statement.passed] == []
    assert len(statements) == 31
    assert verdict.manifest_id == spec.manifest_id
    assert verdict.model == "pocket-diffusion"
    assert verdict.ai_generated
    assert (decode(signed).pixels == decode(plain).pixels).all()
    # A rule that spoke and a work to credit are in these manifests, and in the parent's once more.
    assert len(signed) - len(plain) <= (6_000 if kind == "text-to-image" else 15_000)


@pytest.mark.parametrize(
    ("kind", "actions", "relationships"),
    [
        ("text-to-image", ["c2pa.created"], []),
        ("references", ["c2pa.created"], ["inputTo", "inputTo"]),
        ("image-to-image", ["c2pa.opened", "c2pa.edited"], ["parentOf"]),
        ("inpainting", ["c2pa.opened", "c2pa.edited"], ["inputTo", "parentOf"]),
        ("upscaling", ["c2pa.opened", "c2pa.edited", "c2pa.resized.proportional"], ["parentOf"]),
    ],
)
def test_the_actions_say_where_the_content_comes_from(
    kind: str,
    actions: list[str],
    relationships: list[str],
    parent: bytes,
    signer: Signer,
    verifier: Verifier,
    make: SimpleNamespace,
) -> None:
    signed = signer.sign(make.file(1), "image/png", make.spec(1, lineage=make.kinds(parent)[kind])).data
    assertions = verifier.assertions(signed)
    found = assertions["c2pa.actions.v2"]["actions"]
    assert [action["action"] for action in found] == [*actions, "c2pa.watermarked.bound"]
    ingredients = [assertion for assertion in assertions.values() if "relationship" in assertion]
    assert sorted(ingredient["relationship"] for ingredient in ingredients) == relationships
    made = next(action for action in found if "digitalSourceType" in action)
    assert made["description"] == ("text-to-image" if kind == "references" else kind)
    composite = actions[0] == "c2pa.opened"
    assert made["digitalSourceType"].endswith(
        "/compositeWithTrainedAlgorithmicMedia" if composite else "/trainedAlgorithmicMedia"
    )
    assert made["softwareAgent"]["org.guardrails.weights_sha256"] == "ab" * 32
    assert (found[0]["action"] == "c2pa.opened") is ("digitalSourceType" not in found[0])
    inputs = sum(relationship == "inputTo" for relationship in relationships)
    assert len(made["parameters"].get("ingredients", [])) == inputs
    # What the signed parent says is in the file still.
    assert len(verifier.verify(signed).ancestry) == len(relationships)


def test_lineage_is_unknown_where_a_parent_has_no_manifest(
    parent: bytes, signer: Signer, verifier: Verifier, make: SimpleNamespace
) -> None:
    kinds = make.kinds(parent)
    results = {
        kind: verifier.verify(signer.sign(make.file(1), "image/png", make.spec(lineage=kinds[kind])).data).lineage
        for kind in ("text-to-image", "image-to-image", "inpainting")
    }
    assert results == {
        "text-to-image": CheckResult.PASSED,
        "image-to-image": CheckResult.PASSED,
        "inpainting": CheckResult.UNKNOWN,
    }


def test_numbers_of_a_decision_come_back_as_they_were_signed(
    signer: Signer, verifier: Verifier, make: SimpleNamespace
) -> None:
    signed = signer.sign(make.file(), "image/png", make.spec()).data
    (rule,) = verifier.verify(signed).policy_decision["rules"]
    assert (rule["score"], rule["threshold"], rule["box"]) == (0.625, 0.5, [10, 20.5, 300, 400])


def test_a_small_decision_keeps_manifests_small(signer: Signer, make: SimpleNamespace) -> None:
    """Without rules that spoke and works to credit: the usual case."""
    plain = make.file(side=512, format="JPEG")

    def overhead(lineage: Lineage | None) -> tuple[int, bytes]:
        spec = make.spec(lineage=lineage)
        decision = spec.definition["assertions"][-1]["data"]
        decision.update(rules=[], similarWorks=[])
        signed = signer.sign(plain, "image/jpeg", spec).data
        return len(signed) - len(plain), signed

    first, parent = overhead(None)
    source = Source(data=parent, mime="image/jpeg")
    second, _ = overhead(Lineage(process=Process.IMAGE_TO_IMAGE, parent=source, strength=0.5))
    assert first <= 5_500
    assert second <= 14_000


@pytest.mark.parametrize(
    ("process", "has_parent"), [(process, process is Process.TEXT_TO_IMAGE) for process in Process]
)
def test_a_process_and_its_parent_belong_together(process: Process, has_parent: bool) -> None:
    parent = Source(data=b"", mime="image/png") if has_parent else None
    with pytest.raises(OptionError, match=process.value):
        Lineage(process=process, parent=parent)


def _handed_on(data: bytes, make: SimpleNamespace) -> ManifestSpec:
    return ManifestSpec.handed_on(
        image_id=ImageId.new(),
        original=Source(data=data, mime="image/png"),
        fingerprint=image_code(make.pixels()),
        version="1",
    )


def test_a_signed_file_is_signed_again_only_with_its_history(
    parent: bytes, signer: Signer, verifier: Verifier, make: SimpleNamespace
) -> None:
    with pytest.raises(LaunderingError, match="already carries the manifest"):
        signer.sign(parent, "image/png", make.spec())
    # Another picture as parent does not account for the manifest in this one.
    with pytest.raises(LaunderingError):
        signer.sign(parent, "image/png", _handed_on(make.file(3), make))
    again = signer.sign(parent, "image/png", _handed_on(parent, make)).data
    verdict = verifier.verify(again)
    assert verdict.status is ManifestStatus.TRUSTED
    assert verdict.ancestry == (f"{verifier.verify(parent).manifest_id} (parentOf): no objection",)
    # The new manifest claims no AI, its parent does.
    assert verdict.ai_generated
    assert all(statement.passed for statement in verifier.conformance(again))
