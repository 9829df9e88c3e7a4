"""A private key as a function that signs."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from guardrails.errors import KeyMaterialError
from guardrails.provenance.certificates import SigningKey

_CURVE_HASHES: dict[str, hashes.HashAlgorithm] = {
    "es256": hashes.SHA256(),
    "es384": hashes.SHA384(),
    "es512": hashes.SHA512(),
}


def raw_signer(key: SigningKey) -> Callable[[bytes], bytes]:
    """The function that signs as COSE wants it (RFC 9053, section 2): ECDSA as r and s of fixed length.

    Raises:
        KeyMaterialError: the key is of a kind that no C2PA algorithm uses.
    """
    private = serialization.load_pem_private_key(key.key_pem, None)
    match private:
        case ec.EllipticCurvePrivateKey() if key.algorithm in _CURVE_HASHES:
            size, algorithm = (private.key_size + 7) // 8, ec.ECDSA(_CURVE_HASHES[key.algorithm])

            def sign_on_curve(data: bytes) -> bytes:
                r, s = decode_dss_signature(private.sign(data, algorithm))
                return r.to_bytes(size, "big") + s.to_bytes(size, "big")

            return sign_on_curve
        case ed25519.Ed25519PrivateKey():
            return private.sign
        case rsa.RSAPrivateKey():
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            return lambda data: private.sign(data, scheme, hashes.SHA256())
        case _:
            raise KeyMaterialError(f"{key.source} cannot sign manifests", hint="use an ECDSA, Ed25519 or RSA key")
