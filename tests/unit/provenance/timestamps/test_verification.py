"""A token that was changed, moved or made by the wrong authority proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from guardrails.errors import TimeStampError
from guardrails.provenance.certificates import SigningKey
from guardrails.provenance.timestamps import TimeStampAuthority, verify_token
from guardrails.provenance.timestamps.messages import token_of

MESSAGE = b"a heron above the water"
_EKU = [ExtendedKeyUsageOID.TIME_STAMPING]


def _certificate(key: Any, *, purposes: list[Any] = _EKU, critical: bool = True, days: int = 30) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=critical)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def _resigned(
    token: bytes, key: Any, certificate: x509.Certificate, algorithm: str, sign: Callable[[bytes], bytes]
) -> bytes:
    """The same content under another key, made by the rules."""
    from asn1crypto import cms, tsp
    from asn1crypto import x509 as asn1_x509

    outer = cms.ContentInfo.load(token)
    signed = outer["content"]
    signer = signed["signer_infos"][0]
    attributes = signer["signed_attrs"]
    identifier = tsp.ESSCertIDv2({"cert_hash": certificate.fingerprint(hashes.SHA256())})
    changed = [
        {"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [identifier]})]}
        if attribute["type"].native == "signing_certificate_v2"
        else attribute
        for attribute in attributes
    ]
    signer["signed_attrs"] = cms.CMSAttributes(changed)
    signer["signature_algorithm"] = {"algorithm": algorithm}
    signer["signature"] = sign(b"\x31" + signer["signed_attrs"].dump()[1:])
    signed["certificates"] = [asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))]
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": signed.copy()}).dump(force=True))


@pytest.fixture(scope="module")
def token(authority: TimeStampAuthority) -> bytes:
    return authority.stamp(MESSAGE)


def test_a_good_token_gives_its_time(token: bytes, anchors: bytes) -> None:
    stamp = verify_token(token, MESSAGE, anchors=anchors)
    assert abs(stamp.time - datetime.now(UTC)) < timedelta(minutes=5)
    assert stamp.anchored
    assert not verify_token(token, MESSAGE).anchored


def test_every_flipped_bit_that_is_not_refused_changes_nothing(token: bytes, anchors: bytes) -> None:
    good = verify_token(token, MESSAGE, anchors=anchors)
    passed = 0
    for position in range(0, len(token), 2):
        changed = bytearray(token)
        changed[position] ^= 1 << position % 8
        try:
            assert verify_token(bytes(changed), MESSAGE, anchors=anchors) == good
            passed += 1
        except TimeStampError:
            pass
    # Left are names that the outer, unsigned layer repeats: digest algorithms, and the signer's issuer and number.
    assert passed < 60


def test_another_message_nonce_or_anchor_is_refused(token: bytes, keys: Any) -> None:
    with pytest.raises(TimeStampError, match="stamps something else"):
        verify_token(token, MESSAGE + b"!")
    with pytest.raises(TimeStampError, match="nonce"):
        verify_token(token, MESSAGE, nonce=1)
    with pytest.raises(TimeStampError, match="no chain leads"):
        verify_token(token, MESSAGE, anchors=(keys / "c2pa" / "root.pem").read_bytes())


@pytest.mark.parametrize("junk", [b"", b"\x30\x00", b"no token", b"\x30\x80\x06"], ids=repr)
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(TimeStampError):
        verify_token(junk, MESSAGE)
    with pytest.raises(TimeStampError):
        token_of(junk)


def test_tokens_of_other_kinds_of_keys_verify(token: bytes) -> None:
    elliptic = ec.generate_private_key(ec.SECP384R1())
    plain = rsa.generate_private_key(65537, 2048)
    edwards = ed25519.Ed25519PrivateKey.generate()
    signers: list[tuple[Any, str, Callable[[bytes], bytes]]] = [
        (elliptic, "sha384_ecdsa", lambda data: elliptic.sign(data, ec.ECDSA(hashes.SHA384()))),
        (plain, "sha512_rsa", lambda data: plain.sign(data, padding.PKCS1v15(), hashes.SHA512())),
        (plain, "rsassa_pkcs1v15", lambda data: plain.sign(data, padding.PKCS1v15(), hashes.SHA256())),
        (edwards, "ed25519", edwards.sign),
    ]
    for key, algorithm, sign in signers:
        certificate = _certificate(key)
        made = _resigned(token, key, certificate, algorithm, sign)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        assert verify_token(made, MESSAGE, anchors=pem).authority == "alone", algorithm
        wrong = _resigned(token, key, certificate, algorithm, lambda data, sign=sign: sign(data + b"!"))
        with pytest.raises(TimeStampError, match="signature is wrong"):
            verify_token(wrong, MESSAGE)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"critical": False}, "not for time-stamping alone"),
        ({"purposes": [*_EKU, ExtendedKeyUsageOID.CODE_SIGNING]}, "not for time-stamping alone"),
        ({"purposes": [ExtendedKeyUsageOID.EMAIL_PROTECTION]}, "not for time-stamping alone"),
        ({"days": -1}, "does not cover the stamped time"),
    ],
    ids=["usage not critical", "two purposes", "another purpose", "expired"],
)
def test_the_wrong_kind_of_certificate_is_refused(token: bytes, changes: dict[str, Any], why: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = _resigned(
        token, key, _certificate(key, **changes), "sha256_ecdsa", lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))
    )
    with pytest.raises(TimeStampError, match=why):
        verify_token(made, MESSAGE)


def test_the_certificate_cannot_be_exchanged(token: bytes) -> None:
    """Another certificate for the same key and name, where the signed attribute names the first one."""
    from asn1crypto import cms
    from asn1crypto import x509 as asn1_x509

    key = ec.generate_private_key(ec.SECP256R1())
    first, second = _certificate(key), _certificate(key, days=3000)
    made = _resigned(token, key, first, "sha256_ecdsa", lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())))
    outer = cms.ContentInfo.load(made)
    outer["content"]["certificates"] = [asn1_x509.Certificate.load(second.public_bytes(serialization.Encoding.DER))]
    with pytest.raises(TimeStampError, match="certificate that it names is not there"):
        verify_token(outer.dump(force=True), MESSAGE)


def test_an_authority_under_a_root_that_is_no_authority_is_refused(token: bytes) -> None:
    """A leaf of an ordinary signer, used as if it were a certification authority."""
    leaf_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    leaf = _certificate(leaf_key, purposes=[ExtendedKeyUsageOID.EMAIL_PROTECTION])
    now = datetime.now(UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")]))
        .issuer_name(leaf.subject)
        .public_key(key.public_key())
        .serial_number(78)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_EKU), critical=True)
        .sign(leaf_key, hashes.SHA256())
    )
    made = _resigned(token, key, forged, "sha256_ecdsa", lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())))
    with pytest.raises(TimeStampError, match="no chain leads"):
        verify_token(made, MESSAGE, anchors=leaf.public_bytes(serialization.Encoding.PEM))


def test_an_authoritys_own_key_pair_has_to_fit() -> None:
    from guardrails.errors import KeyMaterialError

    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = _certificate(other).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(KeyMaterialError, match="does not belong"):
        TimeStampAuthority(SigningKey(chain_pem=chain, key_pem=pem, algorithm="es256", source="test"))
