"""Payloads under lock: each record's private part is encrypted under a key of its own, which erasure destroys.

A fresh 256-bit key encrypts one payload (AES-256-GCM, NIST SP 800-38D) and is itself encrypted ("wrapped") under the
installation's payload key, which lies outside the database. So a copy of the database alone reads nothing, and a
record whose wrapped key is gone is unreadable even with the payload key.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guardrails.errors import KeyMaterialError, LedgerCorrupt
from guardrails.files import create_once

PAYLOAD_KEY_FILE = "payload.key"

_KEY_BYTES = 32
_NONCE_BYTES = 12
# A record's key encrypts one message only, so its nonce may be constant.
_ONLY_NONCE = bytes(_NONCE_BYTES)


class SealedPayload(NamedTuple):
    """An encrypted payload.

    Attributes:
        wrapped_key: nonce and ciphertext of the record's key under the payload key.
        data: ciphertext of the payload under the record's key.
    """

    wrapped_key: bytes
    data: bytes

    @property
    def sha256(self) -> str:
        """What the record's entry names; of the ciphertext, so that it says nothing about the words."""
        return payload_digest(self.data)


def payload_digest(data: bytes) -> str:
    """SHA-256 of an encrypted payload, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class PayloadKey:
    """The key that wraps every record's own.

    Up to 2**32 records may be sealed under one key: their nonces are drawn at random (NIST SP 800-38D, section 8.3).
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def load_or_create(cls, folder: Path) -> PayloadKey:
        """The key in `folder`, made on first use: 64 hexadecimal digits in `payload.key`, mode 0600.

        Raises:
            KeyMaterialError: the file is no such key.
            StorageError: the folder cannot be written.
        """
        create_once(folder / PAYLOAD_KEY_FILE, lambda: (os.urandom(_KEY_BYTES).hex() + "\n").encode())
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> PayloadKey:
        """The key in `folder`.

        Raises:
            KeyMaterialError: there is none, it cannot be read, or it is no such key.
        """
        path = folder / PAYLOAD_KEY_FILE
        try:
            key = bytes.fromhex(path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise KeyMaterialError(f"cannot load {path}: {error}", hint="restore it from its backup") from error
        if len(key) != _KEY_BYTES:
            raise KeyMaterialError(f"{path} is not a key of {_KEY_BYTES} bytes", hint="restore it from its backup")
        return cls(key)

    def seal(self, record_id: str, payload: bytes) -> SealedPayload:
        """Encrypt the payload of a record under a fresh key."""
        key, nonce, bound = AESGCM.generate_key(256), os.urandom(_NONCE_BYTES), record_id.encode()
        return SealedPayload(
            wrapped_key=nonce + self._cipher.encrypt(nonce, key, bound),
            data=AESGCM(key).encrypt(_ONLY_NONCE, payload, bound),
        )

    def open(self, record_id: str, sealed: SealedPayload) -> bytes:
        """Decrypt the payload of a record.

        Raises:
            LedgerCorrupt: it was changed, is another record's, or was sealed under another payload key.
        """
        nonce, wrapped, bound = sealed.wrapped_key[:_NONCE_BYTES], sealed.wrapped_key[_NONCE_BYTES:], record_id.encode()
        try:
            key = self._cipher.decrypt(nonce, wrapped, bound)
            return AESGCM(key).decrypt(_ONLY_NONCE, sealed.data, bound)
        except (InvalidTag, ValueError) as error:
            raise LedgerCorrupt(
                f"the payload of record {record_id} cannot be decrypted",
                hint="it was changed, or payload.key is not the one it was sealed under",
            ) from error
