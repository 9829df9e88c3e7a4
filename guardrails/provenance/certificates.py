"""Signing keys and their X.509 certificates: the development chain, and loading from PEM files.

A development folder looks like this; `c2pa` appears whole or not at all::

    c2pa/root.pem           certificate of the root: what a verifier has to trust; its key is thrown away
    c2pa/intermediate.pem   key and certificate, mode 0600: issues the next leaf
    c2pa/signing.pem        key, leaf certificate and intermediate certificate, mode 0600: what signs

The certificate profile is that of the C2PA Technical Specification, section "Digital Signatures", plus what c2pa-rs
asks for beyond it; `diagnosis.doctor` holds the rules one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from guardrails.errors import KeyMaterialError
from guardrails.files import create_folder, write_atomically

KEY_FOLDER = "c2pa"
ROOT_FILE = "root.pem"
INTERMEDIATE_FILE = "intermediate.pem"
SIGNING_FILE = "signing.pem"

CLAIM_SIGNING = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
MAX_LEAF_DAYS = 366

_LEAF_LIFETIME = timedelta(days=365)
_INTERMEDIATE_LIFETIME = timedelta(days=5 * 365)
_ROOT_LIFETIME = timedelta(days=10 * 365)
# A verifier whose clock is a little behind must not find a certificate from the future.
_BACKDATING = timedelta(minutes=5)
_CERTIFICATE_POLICY = ObjectIdentifier("1.3.6.1.4.1.62558.1.1")

_Signed: TypeAlias = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """What signs: a certificate chain with its private key, or with a service that holds the key.

    Attributes:
        chain_pem: leaf first, then intermediates, no root.
        key_pem: PKCS#8 without password; never shown. Empty when `service` signs.
        algorithm: as C2PA names it, see `algorithm_of`.
        source: the file or service the key is in, for messages.
        service: bytes to a signature over them, raw r||s or DER for ECDSA.
    """

    chain_pem: bytes
    key_pem: bytes = field(default=b"", repr=False)
    algorithm: str
    source: str
    service: Callable[[bytes], bytes] | None = None

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain_pem)


def algorithm_of(key: PublicKeyTypes) -> str:
    """The C2PA signature algorithm of a key: "es256", "es384", "es512", "ed25519" or "ps256"; "" for other keys."""
    match key:
        case ec.EllipticCurvePublicKey():
            return {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(key.curve.name, "")
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case rsa.RSAPublicKey():
            return "ps256"
        case _:
            return ""


def create_dev_chain(folder: Path, *, now: datetime) -> None:
    """Make root, intermediate and leaf (ECDSA P-256) in `folder`/c2pa; keep the ones that are there already.

    Args:
        now: the leaf is valid from five minutes before it for 365 days.

    Raises:
        KeyMaterialError: `folder`/c2pa is there, but a file in it is missing.
        StorageError: the folder cannot be written.
    """
    target = folder / KEY_FOLDER
    if target.exists():
        _refuse_incomplete(target)
        return
    create_folder(target, "keys", lambda staged: _write_dev_chain(staged, now))


def rotate_dev_leaf(folder: Path, *, now: datetime) -> None:
    """Issue a new leaf with a new key under the intermediate in `folder`/c2pa; replaces `signing.pem` in one step.

    Raises:
        KeyMaterialError: the intermediate is missing, unreadable, or ends before the new leaf would.
        StorageError: the folder cannot be written.
    """
    path = folder / KEY_FOLDER / INTERMEDIATE_FILE
    data = _read_secret(path)
    key, certificate = _parse_key(data, path, None), _parse_certificates(data, path)[0]
    end = certificate.not_valid_after_utc
    if end < now + _LEAF_LIFETIME or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyMaterialError(
            f"{path} can issue no leaf of {_LEAF_LIFETIME.days} days: it ends on {end:%Y-%m-%d}",
            hint="move the folder away and run `guardrails keys init`; keep its root.pem to verify older files",
        )
    _write_leaf(folder / KEY_FOLDER, (key, certificate), now)


def load_dev_key(folder: Path) -> SigningKey:
    """The signing key of a development folder; its certificates are not judged here.

    Raises:
        KeyMaterialError: missing, readable for others, or broken.
    """
    path = folder / KEY_FOLDER / SIGNING_FILE
    data = _read_secret(path)
    return _to_signing_key(_parse_certificates(data, path), _parse_key(data, path, None), path)


def load_key_files(chain: Path, key: Path, password: bytes | None = None) -> SigningKey:
    """A signing key from two PEM files, as a certificate authority and `openssl` leave them.

    Args:
        chain: leaf first, then intermediates.
        key: PKCS#8 or SEC1, encrypted or not; may be the same file as `chain`.

    Raises:
        KeyMaterialError: a file is missing or broken, the key is readable for others, or the password is wrong.
    """
    private_key = _parse_key(_read_secret(key), key, password)
    return _to_signing_key(_parse_certificates(_read(chain), chain), private_key, key)


def load_service_key(chain: Path, service: Callable[[bytes], bytes], name: str) -> SigningKey:
    """A key that never leaves its service: a KMS, an HSM, another process.

    Args:
        chain: PEM certificates, leaf first; the leaf's key decides the algorithm.
        service: signs bytes.
        name: of the service, for messages.

    Raises:
        KeyMaterialError: the chain is missing or broken.
    """
    certificates = _parse_certificates(_read(chain), chain)
    return SigningKey(
        chain_pem=b"".join(map(_certificate_pem, certificates)),
        algorithm=algorithm_of(certificates[0].public_key()),
        source=name,
        service=service,
    )


def read_anchors(path: Path) -> bytes:
    """Trust anchors (one or more certificates) from a PEM file, without the remarks that lists hold between them.

    Raises:
        KeyMaterialError: missing, or no certificate in it.
    """
    return b"".join(map(_certificate_pem, _parse_certificates(_read(path), path)))


def _refuse_incomplete(folder: Path) -> None:
    missing = [name for name in (ROOT_FILE, INTERMEDIATE_FILE, SIGNING_FILE) if not (folder / name).exists()]
    if missing:
        raise KeyMaterialError(
            f"{folder} lacks {' and '.join(missing)}",
            hint="restore it from a backup, or move the folder away and run `guardrails keys init`",
        )


def _write_dev_chain(folder: Path, now: datetime) -> None:
    root_key, intermediate_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _issue_authority("DEV root, not for production", root_key, None, now, _ROOT_LIFETIME, path_length=1)
    intermediate = _issue_authority(
        "DEV intermediate", intermediate_key, (root_key, root), now, _INTERMEDIATE_LIFETIME, path_length=0
    )
    write_atomically(folder / ROOT_FILE, _certificate_pem(root))
    intermediate_pem = _key_pem(intermediate_key) + _certificate_pem(intermediate)
    write_atomically(folder / INTERMEDIATE_FILE, intermediate_pem, mode=0o600)
    _write_leaf(folder, (intermediate_key, intermediate), now)


def _write_leaf(folder: Path, issuer: _Signed, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _issue_leaf("DEV signer", key, issuer, now)
    signing_pem = _key_pem(key) + _certificate_pem(leaf) + _certificate_pem(issuer[1])
    write_atomically(folder / SIGNING_FILE, signing_pem, mode=0o600)


def _issue_authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: _Signed | None,
    now: datetime,
    lifetime: timedelta,
    *,
    path_length: int,
) -> x509.Certificate:
    issuer_key, issuer_name = (key, _name(name)) if issuer is None else (issuer[0], issuer[1].subject)
    return (
        _builder(name, key, issuer_key, issuer_name, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _issue_leaf(name: str, key: ec.EllipticCurvePrivateKey, issuer: _Signed, now: datetime) -> x509.Certificate:
    purposes = [CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    policy = x509.PolicyInformation(_CERTIFICATE_POLICY, None)
    return (
        _builder(name, key, issuer[0], issuer[1].subject, now, _LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(content_commitment=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.CertificatePolicies([policy]), critical=False)
        .sign(issuer[0], hashes.SHA256())
    )


def _builder(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer_name: x509.Name,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATING)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_identifier, critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "guardrails DEV"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def key_usage(
    *, content_commitment: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """What a key that signs may be used for; nothing is ever encrypted or agreed upon with one."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=content_commitment,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _to_signing_key(chain: list[x509.Certificate], key: PrivateKeyTypes, path: Path) -> SigningKey:
    chain_pem = b"".join(_certificate_pem(certificate) for certificate in chain)
    algorithm = algorithm_of(key.public_key())
    return SigningKey(chain_pem=chain_pem, key_pem=_key_pem(key), algorithm=algorithm, source=str(path))


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyMaterialError(
            f"{path} does not exist", hint="make keys with `guardrails keys init`, or correct the path"
        ) from None
    except OSError as error:
        raise KeyMaterialError(
            f"cannot read {path}: {error.strerror or error}", hint="make it readable for the account that runs this"
        ) from error


def _read_secret(path: Path) -> bytes:
    data = _read(path)
    mode = path.stat().st_mode & 0o777
    # A group may read: that is how container platforms mount secrets.
    if mode & 0o037:
        raise KeyMaterialError(
            f"the private key {path} is open to other accounts (mode {mode:04o})",
            hint=f"run `chmod 600 {path}`; if others may have read it, `guardrails keys rotate`",
        )
    return data


def _parse_certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise KeyMaterialError(
            f"{path} holds no readable certificate: {error}",
            hint="give PEM certificates, leaf first, or make new ones with `guardrails keys init`",
        ) from error


def _parse_key(data: bytes, path: Path, password: bytes | None) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError(
            f"cannot load the private key in {path}: {error}",
            hint="check the password, or restore the file from its backup; `guardrails keys init` makes new keys",
        ) from error
