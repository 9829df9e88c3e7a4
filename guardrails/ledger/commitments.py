"""Salted digests: a record can bind a prompt without holding it.

The salt lives in the erasable payload. While it is there, the value can be shown to be the one recorded; once it is
erased, the digest says nothing, not even to someone who guesses the value.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

_SALT_BYTES = 32


def commit(field: str, value: str) -> tuple[str, str]:
    """Commit to a private value.

    Args:
        field: what the value is, for example "prompt"; part of the hashed domain, so that equal values of two
            fields cannot be exchanged.
        value: any text.

    Returns:
        (digest, salt), both lower-case hexadecimal of 32 bytes.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    return _digest(field, value, salt), salt.hex()


def opens(field: str, value: str, salt: str, digest: str) -> bool:
    """True when `value` is what `digest` was made of."""
    return hmac.compare_digest(_digest(field, value, bytes.fromhex(salt)), digest)


def _digest(field: str, value: str, salt: bytes) -> str:
    domain = f"guardrails.commitment.v1/{field}\0".encode()
    return hashlib.sha256(domain + salt + value.encode()).hexdigest()
