"""The doctor names the broken rule, and calls a chain fit exactly when the SDK signs with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from guardrails.errors import SigningError
from guardrails.provenance import backend, doctor
from guardrails.provenance.certificates import CLAIM_SIGNING, SigningKey, algorithm_of

NOW = datetime.now(UTC)
EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")


@dataclass
class Leaf:
    """A good leaf unless told otherwise."""

    key: object = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    purposes: Sequence[ObjectIdentifier] = (CLAIM_SIGNING, EMAIL)
    authority: bool = False
    may_sign: bool = True
    cert_sign: bool = False
    issuer_key_id: bool = True
    organisation: bool = True
    start: timedelta = timedelta(minutes=-5)
    end: timedelta = timedelta(days=300)
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    odd_extension: bool = False


def _usage(*, may_sign: bool, cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(may_sign, may_sign, False, False, False, cert_sign, False, False, False)


def _name(common_name: str, organisation: bool = True) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test"))
    return x509.Name(parts)


def _authority(digest: hashes.HashAlgorithm) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(_name("issuer"), _name("issuer"), key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=3000))
        .not_valid_after(NOW + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(may_sign=True, cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, digest)
    )
    return key, certificate


def _issue(leaf: Leaf) -> tuple[bytes, bytes, bytes]:
    """PEM of leaf, issuer and key."""
    issuer_key, issuer = _authority(leaf.digest)
    builder = (
        x509.CertificateBuilder(
            issuer.subject, _name("leaf", leaf.organisation), leaf.key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(NOW + leaf.start)
        .not_valid_after(NOW + leaf.end)
        .add_extension(x509.BasicConstraints(leaf.authority, None), critical=True)
        .add_extension(_usage(may_sign=leaf.may_sign, cert_sign=leaf.cert_sign), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(leaf.key.public_key()), critical=False)
    )
    if leaf.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(leaf.purposes), critical=False)
    if leaf.issuer_key_id:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if leaf.odd_extension:
        value = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
        builder = builder.add_extension(value, critical=True)
    certificate = builder.sign(issuer_key, leaf.digest)
    pem = serialization.Encoding.PEM
    key_pem = leaf.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), issuer.public_bytes(pem), key_pem


def _sdk_signs(chain: bytes, key_pem: bytes, make: SimpleNamespace) -> bool:
    algorithm = algorithm_of(serialization.load_pem_private_key(key_pem, None).public_key())
    key = SigningKey(chain_pem=chain, key_pem=key_pem, algorithm=algorithm, source="test")
    try:
        backend.sign(make.file(), "image/png", make.spec().definition, key)
    except SigningError:
        return False
    return True


GOOD = {
    "p256": {},
    "p384": {"key": ec.generate_private_key(ec.SECP384R1())},
    "p521": {"key": ec.generate_private_key(ec.SECP521R1()), "digest": hashes.SHA512()},
    "ed25519": {"key": ed25519.Ed25519PrivateKey.generate()},
    "rsa": {"key": rsa.generate_private_key(65537, 2048)},
    "email only": {"purposes": (EMAIL,)},
    "document signing": {"purposes": (DOCUMENT_SIGNING,)},
}
BAD = {
    "leaf is no authority": {"authority": True},
    "key usage": {"may_sign": False},
    "extended key usage": {"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
    "authority key identifier": {"issuer_key_id": False},
    "not expired": {"start": timedelta(days=-300), "end": timedelta(days=-1)},
    "already valid": {"start": timedelta(days=2)},
    "critical extensions": {"odd_extension": True},
    "certificate signatures": {"digest": hashes.SHA224()},
}
ADVISORY = {
    "at most 366 days": {"end": timedelta(days=700)},
    "subject": {"organisation": False},
}


@pytest.mark.parametrize("case", GOOD)
def test_fit_chains_pass_every_rule_and_sign(case: str, make: SimpleNamespace) -> None:
    leaf, issuer, key = _issue(Leaf(**GOOD[case]))
    assert [d.rule for d in doctor(leaf + issuer, key) if not d.passed] == []
    assert _sdk_signs(leaf + issuer, key, make)


@pytest.mark.parametrize("rule", BAD)
def test_a_broken_rule_is_named_with_a_fix_and_the_sdk_refuses_too(rule: str, make: SimpleNamespace) -> None:
    leaf, issuer, key = _issue(Leaf(**BAD[rule]))
    failed = [d for d in doctor(leaf + issuer, key) if not d.passed]
    assert [d.rule for d in failed] == [rule]
    assert failed[0].why
    assert failed[0].fix
    assert failed[0].required
    assert not _sdk_signs(leaf + issuer, key, make)


@pytest.mark.parametrize("rule", ADVISORY)
def test_advice_does_not_stop_a_chain_that_the_sdk_takes(rule: str, make: SimpleNamespace) -> None:
    leaf, issuer, key = _issue(Leaf(**ADVISORY[rule]))
    assert [(d.rule, d.required) for d in doctor(leaf + issuer, key) if not d.passed] == [(rule, False)]
    assert _sdk_signs(leaf + issuer, key, make)


@pytest.mark.parametrize("purpose", [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.OCSP_SIGNING])
def test_a_purpose_that_goes_with_no_other_is_named(purpose: ObjectIdentifier, make: SimpleNamespace) -> None:
    leaf, issuer, key = _issue(Leaf(purposes=(EMAIL, purpose)))
    (failed,) = [d for d in doctor(leaf + issuer, key) if not d.passed]
    assert failed.rule == "extended key usage"
    assert "goes with no other purpose" in failed.why
    assert not _sdk_signs(leaf + issuer, key, make)


def test_a_key_that_a_service_holds_is_judged_by_its_certificates_alone() -> None:
    leaf, issuer, _ = _issue(Leaf())
    assert all(diagnosis.passed for diagnosis in doctor(leaf + issuer, None))
    leaf, issuer, _ = _issue(Leaf(key=ec.generate_private_key(ec.SECP256K1())))
    (failed,) = [d for d in doctor(leaf + issuer, None) if not d.passed]
    assert failed.why == "the leaf's key (secp256k1) cannot sign manifests"


def test_a_leaf_that_may_issue_certificates_is_named(make: SimpleNamespace) -> None:
    leaf, issuer, key = _issue(Leaf(cert_sign=True))
    assert [d.why for d in doctor(leaf + issuer, key) if not d.passed] == [
        "the leaf's key usage has keyCertSign, which is for authorities"
    ]
    assert not _sdk_signs(leaf + issuer, key, make)


def test_wrong_order_wrong_key_and_missing_intermediate_are_named(make: SimpleNamespace) -> None:
    leaf, issuer, key = _issue(Leaf())
    other = _issue(Leaf())[2]
    assert "leaf first, issuers after it" in {d.rule for d in doctor(issuer + leaf, key) if not d.passed}
    assert {d.rule for d in doctor(leaf + issuer, other) if not d.passed} == {"key belongs to the leaf"}
    assert not _sdk_signs(leaf + issuer, other, make)
    assert {d.rule for d in doctor(leaf, key) if not d.passed} == {"intermediate included"}


def test_weak_keys_and_weak_hashes_are_named() -> None:
    leaf, issuer, key = _issue(Leaf(key=ec.generate_private_key(ec.SECP521R1())))
    assert {d.rule for d in doctor(leaf + issuer, key) if not d.passed} == {"hash as strong as the key"}
    leaf, issuer, key = _issue(Leaf(key=rsa.generate_private_key(65537, 1024)))
    assert {d.rule for d in doctor(leaf + issuer, key) if not d.passed} == {"supported key"}


def test_files_that_are_no_pem_give_one_answer() -> None:
    assert [(d.rule, d.passed) for d in doctor(b"nothing", b"nothing")] == [("readable PEM", False)]
