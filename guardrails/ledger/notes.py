"""Signed notes and checkpoints as C2SP specifies them (signed-note, tlog-checkpoint), and the log's Ed25519 key.

A checkpoint's body is three lines: origin, size, base64 of the root. A signed note is a body, an empty line, and one
line per signature: an em dash, the key's name, and base64 of a 4-byte key id followed by the signature.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from guardrails.errors import KeyMaterialError, LedgerCorrupt, StorageError
from guardrails.files import stage, sync_folder, write_atomically

KEY_FILE = "log.key"
VKEY_FILE = "log.vkey"

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_SIGNATURE_MARK = "\u2014 "


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
        return f"{self.origin}\n{self.size}\n{_to_base64(self.root)}\n"

    @classmethod
    def parse(cls, body: str) -> Checkpoint:
        """Read a body of exactly three lines.

        Raises:
            LedgerCorrupt: anything else.
        """
        lines = body.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _is_decimal(lines[1]):
            raise LedgerCorrupt("this is not a checkpoint of three lines", hint="get the checkpoint again from the log")
        root = _from_base64(lines[2])
        if root is None or len(root) != hashlib.sha256().digest_size:
            raise LedgerCorrupt("the checkpoint's root is not 32 bytes in base64", hint="get the checkpoint again")
        return cls(origin=lines[0], size=int(lines[1]), root=root)


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
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _from_base64(encoded)
        if material is None or len(material) != 33 or material[:1] != _ED25519:
            raise KeyMaterialError("not an Ed25519 verifier key", hint="the form is name+keyid+base64, see log.vkey")
        verifier = cls(name, Ed25519PublicKey.from_public_bytes(material[1:]))
        if verifier.key_id.hex() != key_id:
            raise KeyMaterialError(
                f"the key id {key_id!r} does not belong to this key", hint="copy the whole line again"
            )
        return verifier

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_to_base64(_ED25519 + self._raw)}"

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || key), the first four bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self._raw).digest()[:_KEY_ID_BYTES]

    @property
    def _raw(self) -> bytes:
        return self._key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def verify(self, note: str) -> str:
        """The body of a note that this key signed.

        1. Split the note at its last empty line into body and signature lines.
        2. Skip signatures by other keys; their number does not matter.
        3. Every signature by this key must be right, and there must be one.

        Raises:
            LedgerCorrupt: malformed, not signed by this key, or a signature by this key that is wrong.
        """
        body, separator, signatures = note.rpartition("\n\n")  # 1
        if not separator or not signatures.endswith("\n"):
            raise LedgerCorrupt("this is not a signed note", hint="get the checkpoint again from the log")
        body += "\n"
        signed = False
        for line in signatures[:-1].split("\n"):
            if not line.startswith(_SIGNATURE_MARK):
                raise LedgerCorrupt("the note has a malformed signature line", hint="get the checkpoint again")
            name, _, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
            signature = _from_base64(encoded)
            if signature is None or len(signature) <= _KEY_ID_BYTES:
                raise LedgerCorrupt("the note has a malformed signature", hint="get the checkpoint again")
            if (name, signature[:_KEY_ID_BYTES]) != (self.name, self.key_id):  # 2
                continue
            self._check(body, signature[_KEY_ID_BYTES:])  # 3
            signed = True
        if not signed:
            raise LedgerCorrupt(
                f"the note is not signed by {self.name}", hint="check that log.vkey belongs to this log"
            )
        return body

    def _check(self, body: str, signature: bytes) -> None:
        try:
            self._key.verify(signature, body.encode())
        except InvalidSignature:
            raise LedgerCorrupt(
                f"the signature by {self.name} is wrong",
                hint="the checkpoint or the key was changed; compare with a copy",
            ) from None


class LogKey:
    """The private key that signs a log's checkpoints."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self.verifier = NoteVerifier(origin, key.public_key())
        self._key = key

    @classmethod
    def load_or_create(cls, folder: Path, origin: str) -> LogKey:
        """The key in `folder`, made on first use: `log.key` (PKCS#8 PEM, mode 0600), and `log.vkey` beside it.

        Safe when several processes call it at once: all get the same key.

        Raises:
            KeyMaterialError: the file is no Ed25519 key, or `log.vkey` shows that the log had another key or name.
            StorageError: the folder cannot be written.
        """
        path, public_path = folder / KEY_FILE, folder / VKEY_FILE
        if not path.exists():
            if public_path.exists():
                # A second key could not continue what the first one signed.
                raise KeyMaterialError(f"{path} is missing", hint="restore the log's key from its backup")
            _write_new_key(path)
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
        signature = _to_base64(self.verifier.key_id + self._key.sign(body.encode()))
        return f"{body}\n{_SIGNATURE_MARK}{self.verifier.name} {signature}\n"


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError(f"cannot load {path}: {error}", hint="restore the log's key from its backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyMaterialError(f"{path} is not an Ed25519 key", hint="restore the log's key from its backup")
    return key


def _write_new_key(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    staged = stage(path.parent, pem, mode=0o600)
    try:
        # A link, unlike a rename, never replaces the key that another process made a moment ago.
        with contextlib.suppress(FileExistsError):
            os.link(staged, path)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror or error}", hint="choose another folder") from error
    finally:
        staged.unlink()
    sync_folder(path.parent)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes | None:
    """Strict base64, or None; a second spelling of the same bytes is no base64 here."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _to_base64(data) == text else None


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")
