"""Public files of other makers, judged by what their names say was done to them, where the collection is at hand.

The folder is `$GUARDRAILS_C2PA_CORPUS`, or `shared/data/c2pa` beside the checkout: `public-testfiles/` of the C2PA
organisation and `trust/` with the official list and the roots of the test files. None of it is part of this repository.

Letters, from the right, in the order of making: A opened, C claimed, I placed; X changed afterwards without a claim;
E-dat, E-sig, E-uri, E-clm: the data hash, the signature, an assertion, a claim is broken. `CIE-sig-CA` is a good claim
over a broken one.
"""

from __future__ import annotations

import pytest

from guardrails.domain.images import CheckResult, ManifestStatus
from guardrails.provenance import TrustStore, Verifier

TRUSTED, TAMPERED = ManifestStatus.TRUSTED, ManifestStatus.TAMPERED
NONE, BAD = ManifestStatus.NO_MANIFEST, ManifestStatus.BAD_ANCESTOR
ADOBE = {
    "A": NONE,
    "I": NONE,
    "C": TRUSTED,
    "CA": TRUSTED,
    "CACA": TRUSTED,
    "CACAICAICICA": TRUSTED,
    "CAI": TRUSTED,
    "CAIAIIICAICIICAIICICA": TRUSTED,
    "CAICA": TRUSTED,
    "CAICAI": TRUSTED,
    "CI": TRUSTED,
    "CICA": TRUSTED,
    "CICACACA": TRUSTED,
    "CII": TRUSTED,
    "CIE-sig-CA": BAD,
    "E-clm-CAICAI": TAMPERED,
    "E-dat-CA": TAMPERED,
    "E-sig-CA": TAMPERED,
    "E-uri-CA": TAMPERED,
    "E-uri-CIE-sig-CA": TAMPERED,
    "XCA": TAMPERED,
    "XCI": TAMPERED,
}
VERDICTS = {f"adobe-20220124-{name}.jpg": status for name, status in ADOBE.items()} | {
    # Signed without a time-stamp by a certificate that was valid for a year.
    "nikon-20221019-building.jpeg": ManifestStatus.EXPIRED,
}


@pytest.fixture(scope="module")
def verifiers(corpus_trust: TrustStore) -> tuple[Verifier, Verifier]:
    return Verifier(corpus_trust), Verifier(corpus_trust, strict=True)


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts_follow_the_meaning_of_the_files(
    name: str, corpus_files: dict[str, bytes], verifiers: tuple[Verifier, Verifier]
) -> None:
    if name not in corpus_files:
        pytest.skip("the collection of public files is not at hand")
    for verifier in verifiers:
        assert verifier.verify(corpus_files[name]).status is VERDICTS[name]


def test_every_file_at_hand_has_a_label(corpus_files: dict[str, bytes]) -> None:
    assert set(corpus_files) <= set(VERDICTS)


@pytest.mark.parametrize(
    ("name", "integrity", "signature", "lineage"),
    [
        ("CACA", CheckResult.PASSED, CheckResult.PASSED, CheckResult.UNKNOWN),
        ("E-dat-CA", CheckResult.FAILED, CheckResult.PASSED, CheckResult.UNKNOWN),
        ("E-sig-CA", CheckResult.PASSED, CheckResult.FAILED, CheckResult.UNKNOWN),
        ("CIE-sig-CA", CheckResult.PASSED, CheckResult.PASSED, CheckResult.FAILED),
        ("E-uri-CIE-sig-CA", CheckResult.FAILED, CheckResult.PASSED, CheckResult.FAILED),
    ],
)
def test_the_four_answers_are_kept_apart(
    name: str,
    integrity: CheckResult,
    signature: CheckResult,
    lineage: CheckResult,
    corpus_files: dict[str, bytes],
    verifiers: tuple[Verifier, Verifier],
) -> None:
    data = corpus_files.get(f"adobe-20220124-{name}.jpg")
    if data is None:
        pytest.skip("the collection of public files is not at hand")
    verdict = verifiers[0].verify(data)
    assert (verdict.integrity, verdict.signature, verdict.lineage) == (integrity, signature, lineage)
