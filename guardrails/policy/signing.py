"""Signatures of policies: Ed25519 over id, version and digest, in a file beside the pack.

The signature travels with every decision, into the manifest and the ledger, so that an auditor can tell whose rules
were applied without having the pack.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.domain.canonical import canonical_json
from guardrails.domain.requests import PolicyRef
from guardrails.errors import KeyMaterialError, PolicyError
from guardrails.files import write_atomically
from guardrails.policy.yamlio import read_limited

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "ed25519"
SUFFIX = ".sig"
_CONTEXT = "guardrails-policy-v1"
_RAW_KEY_BYTES = 32


def signature_path(pack: Path) -> Path:
    """Where the signature of a pack lies."""
    return pack.with_name(pack.name + SUFFIX)


def sign_policy(pack: Path, policy: PolicyRef, key: Ed25519PrivateKey) -> str:
    """Sign a policy and write the signature beside its pack.

    Returns:
        The signature as decisions carry it: "ed25519:<public key>:<signature>", both base64.
    """
    signature = key.sign(_message(policy))
    text = f"{ALGORITHM}:{_encoded(key.public_key().public_bytes_raw())}:{_encoded(signature)}"
    document = {"policy": policy.id, "version": policy.version, "digest": policy.digest, "signature": text}
    write_atomically(signature_path(pack), json.dumps(document, indent=2).encode() + b"\n")
    return text


def signature_beside(pack: Path, policy: PolicyRef) -> str:
    """The signature that lies beside a pack, or "" when there is none or it is of other rules."""
    path = signature_path(pack)
    if not path.is_file():
        return ""
    try:
        signature = str(json.loads(read_limited(path))["signature"])
        check_signature(policy, signature)
    except (ValueError, KeyError, TypeError, PolicyError):
        return ""
    return signature


def check_signature(policy: PolicyRef, signature: str, *, trusted: Ed25519PublicKey | None = None) -> str:
    """Verify that a signature is of this policy and, when a key is given, by that key.

    Returns:
        The id of the key: the first 16 hexadecimal digits of the SHA-256 of the public key.

    Raises:
        PolicyError: it is not.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    algorithm, _, rest = signature.partition(":")
    written_key, _, written = rest.partition(":")
    try:
        raw, proof = base64.b64decode(written_key, validate=True), base64.b64decode(written, validate=True)
        if algorithm != ALGORITHM or len(raw) != _RAW_KEY_BYTES:
            raise ValueError
        Ed25519PublicKey.from_public_bytes(raw).verify(proof, _message(policy))
    except (ValueError, InvalidSignature) as error:
        raise PolicyError(
            f"the signature is not of {policy.id} {policy.version} ({policy.digest[:12]})", hint="sign the policy again"
        ) from error
    if trusted is not None and trusted.public_bytes_raw() != raw:
        raise PolicyError(f"{policy.id} is signed by another key ({key_id(raw)})", hint="ask who signed it")
    return key_id(raw)


def key_id(raw: bytes) -> str:
    """A short name of a public key."""
    return hashlib.sha256(raw).hexdigest()[:16]


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 private key in PEM (PKCS 8, unencrypted).

    Raises:
        KeyMaterialError: it cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyMaterialError(f"{path}: no private key can be read", hint="give an unencrypted PEM file") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyMaterialError(
            f"{path}: this is not an Ed25519 key", hint="make one with `openssl genpkey -algorithm ed25519`"
        )
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """An Ed25519 public key in PEM.

    Raises:
        KeyMaterialError: it cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyMaterialError(f"{path}: no public key can be read", hint="give a PEM file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyMaterialError(f"{path}: this is not an Ed25519 key", hint="give the public half of the signing key")
    return key


def _message(policy: PolicyRef) -> bytes:
    return canonical_json([_CONTEXT, policy.id, policy.version, policy.digest])


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
