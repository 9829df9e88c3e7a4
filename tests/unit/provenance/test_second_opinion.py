"""A second, independent verifier agrees about what we sign, and about what was done to it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guardrails.domain.images import ManifestStatus
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.provenance import Signer, TrustStore, Verifier

FORMATS = [format for format in ImageFormat if format.writable]
# Our files carry no answer about revocation, and these are signed without a time-stamp authority.
EXPECTED_IN_STRICT = {
    "com.encypher.conformance.revocationInformationMissing",
    "com.encypher.conformance.trustedTimeStampMissing",
}

Ask = Callable[[bytes, str], dict[str, Any]]


@pytest.fixture
def ask(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The other verifier: offline, without telemetry, with our root alone; its settings go to a folder of the test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    encypher_c2pa = pytest.importorskip("encypher_c2pa")
    root = TrustStore.dev(keys).anchors.decode()

    def verify(data: bytes, mime: str) -> dict[str, Any]:
        return dict(
            encypher_c2pa.verify(
                data,
                mime,
                trust_pem=root,
                tsa_trust_pem=root,
                no_default_trust=True,
                strict_conformance=True,
                telemetry=False,
                online=False,
            )
        )

    return verify


def _agrees(report: dict[str, Any]) -> bool:
    answers = (report["integrity"], report["signature"], report["hard_binding"], report["trust"]["status"])
    failures = {failure["code"] for failure in report["validation_results"]["failure"]}
    return answers == ("valid", "valid", "match", "valid_for_supplied_material") and failures == EXPECTED_IN_STRICT


def _check(count: int, ask: Ask, signer: Signer, verifier: Verifier, make: SimpleNamespace, parent: bytes) -> None:
    kinds = list(make.kinds(parent).values())
    for number in range(count):
        format = FORMATS[number % len(FORMATS)]
        pixels = make.pixels(number, 16 + number % 200)
        spec = make.spec(number, lineage=kinds[number % len(kinds)])
        signed = signer.sign(encode(pixels, format), format.mime, spec).data
        assert verifier.verify(signed).status is ManifestStatus.TRUSTED
        assert _agrees(ask(signed, format.mime)), (number, format)


def test_both_verifiers_agree(ask: Ask, signer: Signer, verifier: Verifier, make: SimpleNamespace, sign) -> None:
    _check(35, ask, signer, verifier, make, sign())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_both_verifiers_agree_on_525(ask: Ask, signer: Signer, verifier: Verifier, make: SimpleNamespace, sign) -> None:
    _check(525, ask, signer, verifier, make, sign())


def test_both_see_a_changed_picture_and_a_foreign_signer(
    ask: Ask, sign, verifier: Verifier, foreign_keys: Path, make: SimpleNamespace
) -> None:
    changed = bytearray(sign())
    changed[-40] ^= 1
    assert verifier.verify(bytes(changed)).status is ManifestStatus.TAMPERED
    assert ask(bytes(changed), "image/png")["hard_binding"] == "mismatch"
    foreign = Signer.dev(foreign_keys).sign(make.file(), "image/png", make.spec()).data
    assert verifier.verify(foreign).status is ManifestStatus.VALID_UNTRUSTED
    report = ask(foreign, "image/png")
    assert (report["integrity"], report["signature"]) == ("valid", "valid")
    assert report["trust"]["status"] != "valid_for_supplied_material"
