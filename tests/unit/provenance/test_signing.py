"""What a signed file says, what it must not say, and what the signer refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus
from guardrails.errors import KeyMaterialError, SigningError
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, backend, image_code
from guardrails.provenance.declarations import soft_binding

FORMATS = ["PNG", "JPEG", "WEBP"]


def _pixels(data: bytes, folder: Path) -> np.ndarray:
    path = folder / "picture"
    path.write_bytes(data)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("format", FORMATS)
def test_signed_file_is_trusted_and_says_what_was_put_in(
    format: str, signer: Signer, verifier: Verifier, make: SimpleNamespace, tmp_path: Path
) -> None:
    image_id, data = ImageId.new(), make.file(1, format)
    signed = signer.sign(data, f"image/{format.lower()}", make.spec(1, image_id))
    verdict = verifier.verify(signed.data)
    assert verdict.status is ManifestStatus.TRUSTED
    assert verdict.manifest_id == signed.manifest_id == image_id.urn
    assert verdict.mark_id == image_id.mark_id
    assert verdict.model == "pocket-diffusion"
    assert verdict.policy_digest == "cd" * 32
    assert verdict.signed_at == "2026-05-04T03:02:01Z"
    assert verdict.ai_generated
    assert "DEV" in verdict.issuer
    assert verdict.ancestry == ()
    assert "signingCredential.trusted" in verdict.codes
    assert verdict.explanation.startswith("Check passed")
    assert np.array_equal(_pixels(signed.data, tmp_path), _pixels(data, tmp_path))


def test_both_soft_bindings_and_the_decision_read_back_equal(verifier: Verifier, signer: Signer, make) -> None:
    spec = make.spec(2)
    signed = signer.sign(make.file(2), "image/png", spec)
    store = backend.read(signed.data, b"")
    assert isinstance(store, backend.Store)
    manifest = store.manifests[store.active]
    assert soft_binding(manifest, "io.iscc.v0") == image_code(make.pixels(2))
    assert (
        soft_binding(manifest, "org.guardrails.watermark.1")
        == spec.manifest_id.removeprefix("urn:c2pa:").replace("-", "")[:16]
    )
    by_label = {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}
    decision = by_label["org.guardrails.policy-decision"]
    assert decision["decision"] == "flag"
    assert decision["rules"][0]["score"] == 0.625
    assert decision["rules"][0]["threshold"] == 0.5
    assert decision["similarWorks"][0]["rights"]["licence"] == "CC-BY-4.0"
    assert decision["similarWorks"][0]["distances"] == {"phash64": 4, "pdq256": 18}
    created, marked = by_label["c2pa.actions.v2"]["actions"]
    assert created["parameters"]["org.guardrails.seed"] == 42
    assert marked["action"] == "c2pa.watermarked.bound"
    assert by_label["cawg.training-mining"]["entries"]["cawg.ai_generative_training"] == {"use": "notAllowed"}


def test_definition_keeps_the_naming_and_order_rules_of_the_specification(make: SimpleNamespace) -> None:
    definition = make.spec().definition
    assertions = definition["assertions"]
    assert definition["claim_version"] == 2
    assert definition["claim_generator_info"][0]["specVersion"].startswith("2.4")
    assert [a["label"] for a in assertions if a.get("created")] == [
        "c2pa.actions.v2",
        "c2pa.soft-binding",
        "c2pa.soft-binding",
    ]
    assert assertions[0]["data"]["allActionsIncluded"] is True
    actions = assertions[0]["data"]["actions"]
    assert [action["action"] for action in actions] == ["c2pa.created", "c2pa.watermarked.bound"]
    assert actions[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert all("." in name for action in actions for name in action["parameters"])


def test_nothing_that_a_person_typed_is_in_the_file(signer: Signer, make: SimpleNamespace) -> None:
    spec = make.spec()
    signed = signer.sign(make.file(), "image/png", spec)
    words = [word for word in make.prompt.split() if len(word) > 4]
    assert words
    for word in words:
        assert word.encode() not in signed.data
        assert word not in json.dumps(spec.definition)
    assert b"ef" * 32 in signed.data


def test_a_file_that_carries_a_manifest_is_not_signed_again(signer: Signer, sign, make: SimpleNamespace) -> None:
    signed = sign()
    with pytest.raises(SigningError, match="already carries the manifest urn:c2pa:"):
        signer.sign(signed, "image/png", make.spec())
    # Damage does not open a way around the guard.
    damaged = bytearray(signed)
    damaged[signed.index(b"c2pa.signature") + 200] ^= 1
    with pytest.raises(SigningError, match=r"already carries|cannot be told"):
        signer.sign(bytes(damaged), "image/png", make.spec())


@pytest.mark.parametrize(
    ("data", "mime"), [(b"", "image/png"), (b"no picture", "image/png"), (None, "image/jpeg"), (None, "text/x-nothing")]
)
def test_what_cannot_be_signed_is_a_signing_error(
    data: bytes | None, mime: str, signer: Signer, make: SimpleNamespace
) -> None:
    with pytest.raises(SigningError):
        signer.sign(make.file() if data is None else data, mime, make.spec())


def test_a_definition_that_the_specification_forbids_is_refused(signer: Signer, make: SimpleNamespace) -> None:
    good = make.spec()
    without_actions = {**good.definition, "assertions": good.definition["assertions"][1:]}
    with pytest.raises(SigningError, match="could not be signed"):
        signer.sign(make.file(), "image/png", ManifestSpec(manifest_id=good.manifest_id, definition=without_actions))


def test_expired_certificate_gives_verdict_expired_and_signs_no_more(
    expiring: SimpleNamespace, make: SimpleNamespace
) -> None:
    verdict = Verifier(TrustStore.dev(expiring.folder)).verify(expiring.signed)
    assert verdict.status is ManifestStatus.EXPIRED
    assert "signingCredential.expired" in verdict.codes
    assert "expired" in verdict.explanation
    with pytest.raises(KeyMaterialError, match="expired on") as caught:
        expiring.signer.sign(make.file(), "image/png", make.spec())
    assert "guardrails keys rotate" in caught.value.hint
