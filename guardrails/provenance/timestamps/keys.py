"""The certificate and key of an own time-stamp authority.

The folder appears whole or not at all::

    tsa/root.pem    certificate of the root: what a verifier has to trust; its key is thrown away
    tsa/tsa.pem     key and certificate of the authority, mode 0600

The profile is that of RFC 3161, section 2.3: the authority's certificate may be used for nothing but time-stamps, and
says so in a critical extension.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from guardrails.errors import KeyMaterialError
from guardrails.files import create_folder, write_atomically
from guardrails.provenance.certificates import ROOT_FILE, SigningKey, key_usage, load_key_files

TSA_FOLDER = "tsa"
KEY_FILE = "tsa.pem"

# A token outlives what it stamps, and verifiers compare the authority's certificate with the time in the token.
_LIFETIME = timedelta(days=10 * 365)
_BACKDATING = timedelta(minutes=5)
# Names and serial numbers are short on purpose: they lie three times in every token, and a token of at most 970 bytes
# fits into the padding that the SDK leaves beside an ES256 signature, so that a stamped file is not larger.
_SERIAL_BITS = 63


def create_authority_keys(folder: Path, *, now: datetime) -> bool:
    """Make the root and the authority's key (ECDSA P-256) in `folder`/tsa; keep those that are there.

    Returns:
        True when they were made by this call.

    Raises:
        KeyMaterialError: `folder`/tsa is there, but a file in it is missing.
        StorageError: the folder cannot be written.
    """
    target = folder / TSA_FOLDER
    if target.exists():
        _refuse_incomplete(target)
        return False
    return create_folder(target, "keys", lambda staged: _write(staged, now))


def load_authority_key(folder: Path) -> SigningKey:
    """The key and certificate in `folder`/tsa.

    Raises:
        KeyMaterialError: missing, readable for others, or broken.
    """
    path = folder / TSA_FOLDER / KEY_FILE
    if not path.exists():
        raise KeyMaterialError(f"{path} does not exist", hint="make it with `guardrails tsa init`")
    return load_key_files(path, path)


def _refuse_incomplete(folder: Path) -> None:
    missing = [name for name in (ROOT_FILE, KEY_FILE) if not (folder / name).exists()]
    if missing:
        raise KeyMaterialError(
            f"{folder} lacks {' and '.join(missing)}",
            hint="restore it from a backup, or move the folder away and run `guardrails tsa init`",
        )


def _write(folder: Path, now: datetime) -> None:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _name("guardrails TSA root"), _name("guardrails TSA")
    root = (
        _builder(root_name, root_name, root_key, root_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    certificate = (
        _builder(name, root_name, key, root_key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(content_commitment=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    write_atomically(folder / ROOT_FILE, root.public_bytes(serialization.Encoding.PEM))
    write_atomically(folder / KEY_FILE, pem, mode=0o600)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.CertificateBuilder:
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(_SERIAL_BITS) or 1)
        .not_valid_before(now - _BACKDATING)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_identifier, critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
