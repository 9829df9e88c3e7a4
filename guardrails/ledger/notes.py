"""Signed notes and checkpoints as C2SP specifies them (signed-note, tlog-checkpoint), and the log's Ed25519 key.

A checkpoint's body is three lines: origin, size, base64 of the root. A signed note is a body, an empty line, and one
line per signature: an em dash, the key's name, and base64 of a 4-byte key id followed by the signature. The formats are
read by `offline.py`; here signatures are checked by the `cryptography` library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from guardrails.errors import KeyMaterialError, LedgerCorrupt
from guardrails.files import create_once, write_atomically
from guardrails.ledger import offline

KEY_FILE = "log.key"
VKEY_FILE = "log.vkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a log: what a log signs, and what everyone else compares.

    Attributes:
        origin: the log's name, a URL without scheme.
        size: number of leaves.
        root: 32-byte Merkle tree hash.
    """

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{offline.to_base64(self.root)}\n"

    @classmethod
    def parse(cls, body: str) -> Checkpoint:
        """Read a body of exactly three lines.

        Raises:
            LedgerCorrupt: anything else.
        """
        try:
            origin, size, root = offline.parse_checkpoint(body)
        except offline.Invalid as error:
            raise LedgerCorrupt(str(error), hint="get the checkpoint again from the log") from error
        return cls(origin=origin, size=size, root=root)


class NoteVerifier:
    """A public key that checks notes; its text form is the C2SP verifier key ("vkey")."""

    def __init__(self, name: str, key: Ed25519PublicKey) -> None:
        if not name or "+" in name or any(character.isspace() for character in name):
            raise KeyMaterialError(f"{name!r} cannot name a key", hint="use a name without spaces and plus signs")
        self.name = name
        self._key = key

    @classmethod
    def from_vkey(cls, text: str) -> NoteVerifier:
        """Read "name+keyid+base64(type || key)".

        Raises:
            KeyMaterialError: another form, another key type, or a key id that does not belong to the key.
        """
        try:
            name, raw = offline.parse_vkey(text)
        except offline.Invalid as error:
            raise KeyMaterialError(str(error), hint="copy the whole line of log.vkey again") from error
        return cls(name, Ed25519PublicKey.from_public_bytes(raw))

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{offline.to_base64(offline.ED25519 + self._raw)}"

    @property
    def key_id(self) -> bytes:
        return offline.key_id(self.name, self._raw)

    @property
    def _raw(self) -> bytes:
        return self._key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def verify(self, note: str) -> str:
        """The body of a note that this key signed.

        Raises:
            LedgerCorrupt: malformed, not signed by this key, or a signature by this key that is wrong.
        """
        try:
            return offline.open_note(note, self.name, self._raw, self._is_right)
        except offline.Invalid as error:
            raise LedgerCorrupt(
                str(error), hint="compare with a copy of the checkpoint, and log.vkey with a copy of the key"
            ) from error

    def _is_right(self, public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class NoteSigner(Protocol):
    """Whatever signs for a log: its key, or a process of its own that holds it."""

    @property
    def verifier(self) -> NoteVerifier:
        """The public key, under the log's name."""

    def sign(self, body: str) -> str:
        """A signed note over `body`, which must end with a newline."""


class LogKey:
    """The private key that signs a log's checkpoints."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self._verifier = NoteVerifier(origin, key.public_key())
        self._key_id = self._verifier.key_id
        self._key = key

    @property
    def verifier(self) -> NoteVerifier:
        return self._verifier

    @classmethod
    def load_or_create(cls, folder: Path, origin: str) -> LogKey:
        """The key in `folder`, made on first use: `log.key` (PKCS#8 PEM, mode 0600), and `log.vkey` beside it.

        Safe when several processes call it at once: all get the same key.

        Raises:
            KeyMaterialError: the file is no Ed25519 key, or `log.vkey` shows that the log had another key or name.
            StorageError: the folder cannot be written.
        """
        path, public_path = folder / KEY_FILE, folder / VKEY_FILE
        if public_path.exists() and not path.exists():
            # A second key could not continue what the first one signed.
            raise KeyMaterialError(f"{path} is missing", hint="restore the log's key from its backup")
        create_once(path, _new_key)
        log_key = cls(origin, _load_key(path))
        if not public_path.exists():
            write_atomically(public_path, (log_key.verifier.vkey + "\n").encode())
        elif public_path.read_text(encoding="utf-8").strip() != log_key.verifier.vkey:
            raise KeyMaterialError(
                f"{public_path} does not belong to {path} and origin {origin!r}", hint="restore both from one backup"
            )
        return log_key

    def sign(self, body: str) -> str:
        """A signed note over `body`, which must end with a newline."""
        if not body.endswith("\n"):
            raise ValueError("the body of a note ends with a newline")
        signature = offline.to_base64(self._key_id + self._key.sign(body.encode()))
        return f"{body}\n{offline.SIGNATURE_MARK}{self.verifier.name} {signature}\n"


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError(f"cannot load {path}: {error}", hint="restore the log's key from its backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyMaterialError(f"{path} is not an Ed25519 key", hint="restore the log's key from its backup")
    return key


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
