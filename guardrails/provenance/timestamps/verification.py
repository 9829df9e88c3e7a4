"""What a time-stamp token proves (RFC 3161, section 2.2, and RFC 5652, section 5.4).

1. It is CMS signed data over a `TSTInfo`, with one signer.
2. Its imprint is the digest of the message, and its nonce is the one that was sent.
3. The signed attributes name the content's type and its digest.
4. They name the certificate of the signer, so that it cannot be exchanged (RFC 5035).
5. The signature over them verifies with that certificate.
6. The certificate is for time-stamping alone, says so in a critical extension, and covers the stamped time.
7. Where anchors are given, a chain leads from it to one of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from guardrails.errors import TimeStampError
from guardrails.provenance.timestamps.authority import is_for_time_stamping_alone
from guardrails.provenance.timestamps.messages import DIGESTS, FAULTS

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_MAX_CERTIFICATES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStamp:
    """A token that verified.

    Attributes:
        time: when the message existed at the latest, UTC.
        authority: common name of the authority, or its whole name.
        policy: dotted OID.
        anchored: a chain to a given anchor was found; False where none were given.
    """

    time: datetime
    authority: str
    policy: str
    serial: int
    anchored: bool


def verify_token(token: bytes, message: bytes, *, nonce: int | None = None, anchors: bytes = b"") -> TimeStamp:
    """Check a token over a message.

    Args:
        token: DER of the CMS ContentInfo.
        nonce: as sent; None to accept any.
        anchors: PEM certificates; without them no chain is asked for.

    Raises:
        TimeStampError: names the check that failed.
    """
    try:
        return _verify(token, message, nonce, anchors)
    except (*FAULTS, UnsupportedAlgorithm) as error:
        raise _failed(f"it cannot be read: {error}") from error


def _verify(token: bytes, message: bytes, nonce: int | None, anchors: bytes) -> TimeStamp:
    # 1.
    signed, signer = _open(token)
    content = bytes(signed["encap_content_info"]["content"].contents)
    info = signed["encap_content_info"]["content"].parsed
    # 2.
    algorithm = info["message_imprint"]["hash_algorithm"]["algorithm"].native
    _require(algorithm in DIGESTS, f"its imprint is made with {algorithm}")
    imprint = hashlib.new(algorithm, message).digest()
    _require(info["message_imprint"]["hashed_message"].native == imprint, "it stamps something else")
    _require(nonce is None or info["nonce"].native == nonce, "its nonce is not the one that was sent")
    # 3.
    attributes = {attribute["type"].native: attribute["values"] for attribute in signer["signed_attrs"]}
    digest_name = signer["digest_algorithm"]["algorithm"].native
    _require(digest_name in DIGESTS, f"it is signed with {digest_name}")
    _require(_only(attributes, "content_type").native == "tst_info", "it signs another type of content")
    digest = hashlib.new(digest_name, content).digest()
    _require(_only(attributes, "message_digest").native == digest, "its content was changed")
    # 4.
    certificates = [x509.load_der_x509_certificate(one.chosen.dump()) for one in _certificates(signed)]
    certificate = _named(certificates, attributes)
    # 5.
    _check_signature(certificate, signer, digest_name)
    # 6.
    time = info["gen_time"].native
    _require(is_for_time_stamping_alone(certificate), "its certificate is not for time-stamping alone")
    covered = certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc
    _require(covered, "its certificate does not cover the stamped time")
    # 7.
    if anchors:
        _check_chain(certificate, certificates, x509.load_pem_x509_certificates(anchors), time)
    return TimeStamp(
        time=time,
        authority=_common_name(certificate),
        policy=info["policy"].dotted,
        serial=info["serial_number"].native,
        anchored=bool(anchors),
    )


def _open(token: bytes) -> tuple[Any, Any]:
    from asn1crypto import cms, tsp  # noqa: F401 - tsp teaches cms the type of a token's content

    outer = cms.ContentInfo.load(token, strict=True)
    _require(outer["content_type"].native == "signed_data", "it is not signed data")
    signed = outer["content"]
    _require(signed["encap_content_info"]["content_type"].native == "tst_info", "it holds no time")
    _require(len(signed["signer_infos"]) == 1, f"it has {len(signed['signer_infos'])} signers")
    return signed, signed["signer_infos"][0]


def _only(attributes: dict[str, Any], name: str) -> Any:
    values = attributes.get(name)
    if values is None or len(values) != 1:
        raise _failed(f"it has not exactly one {name.replace('_', ' ')}")
    return values[0]


def _certificates(signed: Any) -> list[Any]:
    found = list(signed["certificates"]) if signed["certificates"].native is not None else []
    _require(0 < len(found) <= _MAX_CERTIFICATES, f"it carries {len(found)} certificates")
    _require(all(one.name == "certificate" for one in found), "it carries certificates of an unknown kind")
    return found


def _named(certificates: list[x509.Certificate], attributes: dict[str, Any]) -> x509.Certificate:
    """The certificate whose digest the signed attributes name (the first entry counts, RFC 5035, section 4)."""
    if "signing_certificate_v2" in attributes:
        entry = _only(attributes, "signing_certificate_v2")["certs"][0]
        name = entry["hash_algorithm"]["algorithm"].native
        _require(name in _HASHES, f"it names its certificate by {name}")
        algorithm = _HASHES[name]
    else:
        entry = _only(attributes, "signing_certificate")["certs"][0]
        algorithm = hashes.SHA1()  # noqa: S303 - RFC 2634 knows no other; the signature is over the attribute
    wanted = entry["cert_hash"].native
    for certificate in certificates:
        if certificate.fingerprint(algorithm) == wanted:
            return certificate
    raise _failed("the certificate that it names is not there")


def _check_signature(certificate: x509.Certificate, signer: Any, digest_name: str) -> None:
    # The bytes as they were sent, under the tag of a SET OF: encoding them anew could differ.
    signed = b"\x31" + signer["signed_attrs"].dump()[1:]
    signature, algorithm = signer["signature"].native, signer["signature_algorithm"]
    key = certificate.public_key()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, signed, ec.ECDSA(_HASHES[algorithm.hash_algo]))
            case rsa.RSAPublicKey() if algorithm.signature_algo == "rsassa_pss":
                digest = _HASHES[algorithm.hash_algo]
                scheme = padding.PSS(padding.MGF1(digest), algorithm["parameters"]["salt_length"].native)
                key.verify(signature, signed, scheme, digest)
            case rsa.RSAPublicKey():
                # Plain "rsaEncryption" leaves the digest to the signer's own field.
                plain = algorithm["algorithm"].native == "rsassa_pkcs1v15"
                name = digest_name if plain else algorithm.hash_algo
                key.verify(signature, signed, padding.PKCS1v15(), _HASHES[name])
            case ed25519.Ed25519PublicKey():
                key.verify(signature, signed)
            case _:
                raise _failed(f"its key is of an unsupported kind ({type(key).__name__})")
    except InvalidSignature as error:
        raise _failed("its signature is wrong") from error


def _check_chain(
    certificate: x509.Certificate, others: list[x509.Certificate], anchors: list[x509.Certificate], time: datetime
) -> None:
    from cryptography.x509 import verification

    # The purpose was checked above; here an authority has to be an authority, and signatures and periods have to hold.
    authorities = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
    )
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(anchors))
        .time(time)
        .extension_policies(ca_policy=authorities, ee_policy=verification.ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(certificate, [other for other in others if other != certificate])
    except verification.VerificationError as error:
        raise _failed(f"no chain leads to a trusted authority: {error}") from error


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _failed(otherwise)


def _failed(why: str) -> TimeStampError:
    return TimeStampError(
        f"the time-stamp token does not verify: {why}"[:300],
        hint="check the authority's address, its trust anchors and this machine's clock",
    )
