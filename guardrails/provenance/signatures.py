"""Signatures of the algorithms that C2PA allows, outside a manifest: to try out a key before it is needed."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

# RFC 9053, section 2.1: each curve goes with one hash.
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def is_signature(key: PublicKeyTypes, signature: bytes, data: bytes) -> bool:
    """Whether the private half of `key` made `signature` over `data`, in the way that COSE wants it.

    ECDSA signatures may be raw (r||s) or DER; RSA ones are PSS with SHA-256, MGF1-SHA-256 and 32 bytes of salt.
    """
    try:
        match key:
            case ec.EllipticCurvePublicKey() if key.curve.name in _HASHES:
                key.verify(_der(signature, key), data, ec.ECDSA(_HASHES[key.curve.name]))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, data)
            case rsa.RSAPublicKey():
                key.verify(signature, data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _der(signature: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        return signature
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
