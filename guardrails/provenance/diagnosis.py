"""Why a certificate chain can or cannot sign: the rules that the SDK applies without naming them.

Sources: C2PA Technical Specification, "Digital Signatures" and "Trust Model" (certificate profile), and what c2pa-rs
accepts beyond and below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier, SignatureAlgorithmOID

from guardrails.provenance.certificates import CLAIM_SIGNING, MAX_LEAF_DAYS, algorithm_of

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_NEW_CERTIFICATE = "ask for a new certificate, or make development keys with `guardrails keys init`"
_ROTATE = "for development keys run `guardrails keys rotate`; otherwise renew the certificate"
_SIGNING_PURPOSES = {
    CLAIM_SIGNING,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ObjectIdentifier("1.3.6.1.5.5.7.3.36"),
    ObjectIdentifier("1.3.6.1.4.1.311.76.59.1.9"),
}
_EXCLUSIVE_PURPOSES = {ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.OCSP_SIGNING}
_CERTIFICATE_SIGNATURES = {
    SignatureAlgorithmOID.RSA_WITH_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    SignatureAlgorithmOID.RSASSA_PSS,
    SignatureAlgorithmOID.ED25519,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One rule about a chain and its key.

    Attributes:
        why: what was found; "" when the rule holds.
        fix: the next step; "" when the rule holds.
        required: False for rules that verifiers may enforce but the SDK does not.
    """

    rule: str
    passed: bool
    why: str = ""
    fix: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A chain to judge; `key` is the public half of the private key, None when a service holds that."""

    chain: list[x509.Certificate]
    key: PublicKeyTypes | None
    now: datetime

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def doctor(chain_pem: bytes, key_pem: bytes | None, *, now: datetime | None = None) -> tuple[Diagnosis, ...]:
    """Check every rule that a signing chain has to meet.

    Args:
        chain_pem: leaf first, then intermediates.
        key_pem: the leaf's private key, without password; None when a service holds it.
        now: the time to judge validity at; the current time by default.

    Returns:
        One entry per rule; a single failed one when the files cannot be read at all.
    """
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        key = None if key_pem is None else serialization.load_pem_private_key(key_pem, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return (Diagnosis(rule="readable PEM", passed=False, why=str(error), fix="give PEM files without password"),)
    case = _Case(chain=chain, key=key, now=now or datetime.now(UTC))
    return tuple(_diagnose(rule, check, fix, required, case) for rule, check, fix, required in _RULES)


def _diagnose(rule: str, check: Callable[[_Case], str], fix: str, required: bool, case: _Case) -> Diagnosis:
    try:
        why = check(case)
    except (ValueError, UnsupportedAlgorithm) as error:
        why = f"the certificate cannot be read: {error}"
    return Diagnosis(rule=rule, passed=not why, why=why, fix=fix if why else "", required=required)


def _key_belongs_to_leaf(case: _Case) -> str:
    belongs = case.key is None or case.key == case.leaf.public_key()
    return "" if belongs else "the private key does not belong to the first certificate"


def _leaf_comes_first(case: _Case) -> str:
    for position, (certificate, issuer) in enumerate(zip(case.chain, case.chain[1:], strict=False), start=1):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return f"certificate {position} was not issued by certificate {position + 1}"
    return ""


def _intermediate_is_included(case: _Case) -> str:
    self_signed = case.leaf.issuer == case.leaf.subject
    alone = len(case.chain) == 1 and not self_signed
    return "only the leaf is there; it counts only for verifiers that hold its issuer as an anchor" if alone else ""


def _algorithm_is_supported(case: _Case) -> str:
    key = case.leaf.public_key()
    if not algorithm_of(key):
        return f"the leaf's key ({_kind(key)}) cannot sign manifests"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        return f"an RSA key of {key.key_size} bits is too short"
    return ""


def _kind(key: PublicKeyTypes) -> str:
    curve = getattr(key, "curve", None)
    return str(curve.name) if curve is not None else type(key).__name__.removesuffix("PublicKey")


def _certificates_hash_matches(case: _Case) -> str:
    if algorithm_of(case.leaf.public_key()) != "es512":
        return ""
    weaker = [c for c in case.chain if c.signature_hash_algorithm and c.signature_hash_algorithm.name != "sha512"]
    return "the key is P-521, but a certificate is signed with less than SHA-512" if weaker else ""


def _certificate_signature_is_supported(case: _Case) -> str:
    odd = [c for c in case.chain if c.signature_algorithm_oid not in _CERTIFICATE_SIGNATURES]
    return f"a certificate is signed with {odd[0].signature_algorithm_oid._name}" if odd else ""


def _started(case: _Case) -> str:
    begin = max(certificate.not_valid_before_utc for certificate in case.chain)
    return f"not valid before {begin:%Y-%m-%d %H:%M} UTC" if case.now < begin else ""


def _not_expired(case: _Case) -> str:
    end = min(certificate.not_valid_after_utc for certificate in case.chain)
    return f"expired on {end:%Y-%m-%d %H:%M} UTC" if case.now >= end else ""


def _lifetime_is_short(case: _Case) -> str:
    lifetime = case.leaf.not_valid_after_utc - case.leaf.not_valid_before_utc
    limit = timedelta(days=MAX_LEAF_DAYS)
    return f"the leaf is valid for {lifetime.days} days, more than {MAX_LEAF_DAYS}" if lifetime > limit else ""


def _leaf_is_version_3(case: _Case) -> str:
    return "" if case.leaf.version is x509.Version.v3 else f"the leaf is X.509 {case.leaf.version.name}"


def _leaf_is_no_authority(case: _Case) -> str:
    constraints = _extension(case.leaf, x509.BasicConstraints)
    return "the leaf is a certificate authority" if constraints is not None and constraints.ca else ""


def _may_sign(case: _Case) -> str:
    usage = _extension(case.leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        return "the leaf's key usage lacks digitalSignature"
    return "the leaf's key usage has keyCertSign, which is for authorities" if usage.key_cert_sign else ""


def _purpose_fits(case: _Case) -> str:
    usage = _extension(case.leaf, x509.ExtendedKeyUsage)
    if usage is None:
        return "the leaf has no extended key usage"
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage:
        return "the leaf's extended key usage is anyExtendedKeyUsage"
    if _EXCLUSIVE_PURPOSES & set(usage):
        return "the leaf may also sign time-stamps or OCSP answers, which goes with no other purpose"
    if not _SIGNING_PURPOSES & set(usage):
        return "the leaf's extended key usage has neither claim signing, document signing nor e-mail protection"
    return ""


def _names_its_issuers_key(case: _Case) -> str:
    present = _extension(case.leaf, x509.AuthorityKeyIdentifier) is not None
    return "" if present else "the leaf has no authority key identifier"


def _names_its_owner(case: _Case) -> str:
    required = {"organisation (O)": NameOID.ORGANIZATION_NAME, "common name (CN)": NameOID.COMMON_NAME}
    missing = [name for name, oid in required.items() if not case.leaf.subject.get_attributes_for_oid(oid)]
    return f"the leaf's subject lacks {' and '.join(missing)}" if missing else ""


def _critical_extensions_are_known(case: _Case) -> str:
    odd = [e for e in case.leaf.extensions if e.critical and isinstance(e.value, x509.UnrecognizedExtension)]
    return f"the leaf has the critical extension {odd[0].oid.dotted_string}, which no verifier knows" if odd else ""


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


_RULES: tuple[tuple[str, Callable[[_Case], str], str, bool], ...] = (
    ("key belongs to the leaf", _key_belongs_to_leaf, "give the key that the certificate was requested with", True),
    ("leaf first, issuers after it", _leaf_comes_first, "order the file: leaf, then the one that issued it", True),
    ("intermediate included", _intermediate_is_included, "append the intermediate certificate", False),
    ("supported key", _algorithm_is_supported, "use P-256, P-384, P-521, Ed25519 or RSA of 2048 bits and more", True),
    ("hash as strong as the key", _certificates_hash_matches, "issue the chain with SHA-512, or use P-256", False),
    ("certificate signatures", _certificate_signature_is_supported, _NEW_CERTIFICATE, True),
    ("already valid", _started, "correct this machine's clock, or wait", True),
    ("not expired", _not_expired, _ROTATE, True),
    (f"at most {MAX_LEAF_DAYS} days", _lifetime_is_short, _NEW_CERTIFICATE, False),
    ("X.509 version 3", _leaf_is_version_3, _NEW_CERTIFICATE, True),
    ("leaf is no authority", _leaf_is_no_authority, "sign with an end-entity certificate", True),
    ("key usage", _may_sign, _NEW_CERTIFICATE, True),
    ("extended key usage", _purpose_fits, _NEW_CERTIFICATE, True),
    ("authority key identifier", _names_its_issuers_key, _NEW_CERTIFICATE, True),
    ("critical extensions", _critical_extensions_are_known, _NEW_CERTIFICATE, True),
    ("subject", _names_its_owner, _NEW_CERTIFICATE, False),
)
