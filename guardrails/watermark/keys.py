"""Secret keys: one master of 32 bytes; everything else is derived from it per epoch with HKDF-SHA256 (RFC 5869)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guardrails.errors import KeyMaterialError
from guardrails.files import stage, sync_folder
from guardrails.watermark.carrier import POOL, Carrier, KeyStream, Pool, make_carrier, make_pool
from guardrails.watermark.payload import EPOCH_BITS

KEY_BYTES = 32
KEY_FILE = "watermark.key"
EPOCH_FILE = "watermark.epoch"
# The detector tries the current epoch and this many before it; each one is counted in the p-value.
KEPT_EPOCHS = 3

_SALT = b"org.guardrails.watermark.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKeys:
    """What one epoch derives: the pool of carriers, the key of the payload check, the key that chooses a pilot."""

    epoch: int
    pool: Pool
    check_key: bytes
    choice_key: bytes

    def pilot_of(self, mark_id: str) -> int:
        """Index of the pilot that carries `mark_id`: a keyed hash, so that averaging images meets 64 pilots."""
        return hmac.digest(self.choice_key, mark_id.encode("ascii"), hashlib.sha256)[0] % POOL

    def carrier_of(self, mark_id: str) -> Carrier:
        """The carrier that `mark_id` is written with."""
        return self.pool.carriers[self.pilot_of(mark_id)]


class Keyring:
    """A master key and the epochs derived from it.

    Args:
        master: 32 secret bytes.
        current_epoch: the epoch that new marks use, 0..63.

    Raises:
        KeyMaterialError: the master has another size, or the epoch does not fit 6 bits.
    """

    def __init__(self, master: bytes, *, current_epoch: int = 0) -> None:
        if len(master) != KEY_BYTES:
            raise KeyMaterialError(
                f"a watermark master key has {KEY_BYTES} bytes, not {len(master)}",
                hint="restore the key file from its backup; a new key cannot read old marks",
            )
        if not 0 <= current_epoch < 1 << EPOCH_BITS:
            raise KeyMaterialError(f"watermark epoch {current_epoch} is not in 0..63", hint="start a new master key")
        self._master = master
        self.current_epoch = current_epoch

    def __repr__(self) -> str:
        """Never shows the master."""
        return f"Keyring(current_epoch={self.current_epoch})"

    @classmethod
    def load_or_create(cls, folder: Path) -> Keyring:
        """Read `watermark.key` (32 raw bytes) in `folder`, or create it with mode 0600.

        `watermark.epoch` beside it holds the current epoch as a decimal number; without that file it is 0.

        Raises:
            KeyMaterialError: a file cannot be read or has the wrong content.
            StorageError: the folder cannot be written.
        """
        path = folder / KEY_FILE
        if not path.exists():
            _create(path)
        return cls(_read(path), current_epoch=_read_epoch(folder / EPOCH_FILE))

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs that the detector tries, newest first."""
        return tuple(range(self.current_epoch, max(self.current_epoch - KEPT_EPOCHS, 0) - 1, -1))

    def keys(self, epoch: int) -> EpochKeys:
        """Everything derived for `epoch`; kept in memory after the first call."""
        return _derive_epoch(self._master, epoch)

    def derive(self, purpose: str) -> bytes:
        """A sub-key of 32 bytes for one purpose that is named nowhere else."""
        return _derive(self._master, purpose)


@functools.lru_cache(maxsize=8)
def _derive_epoch(master: bytes, epoch: int) -> EpochKeys:
    carriers = tuple(make_carrier(_stream(_derive(master, f"epoch {epoch} pilot {index}"))) for index in range(POOL))
    return EpochKeys(
        epoch=epoch,
        pool=make_pool(carriers),
        check_key=_derive(master, f"epoch {epoch} check"),
        choice_key=_derive(master, f"epoch {epoch} choice"),
    )


def _derive(master: bytes, purpose: str) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=_SALT, info=purpose.encode("ascii")).derive(master)


def _stream(key: bytes) -> KeyStream:
    """Expand a sub-key with ChaCha20; the nonce may be constant because each sub-key is used once."""
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    return KeyStream(encryptor.update(bytes(KeyStream.NEEDED)))


def _create(path: Path) -> None:
    """Publish a fresh key unless another process was first: a link fails where a rename would replace its key."""
    temporary = stage(path.parent, secrets.token_bytes(KEY_BYTES), mode=0o600)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyMaterialError(
            f"cannot read the watermark key {path}: {error.strerror or error}",
            hint="make the file readable for the account that runs this program (owner only, mode 0600)",
        ) from error


def _read_epoch(path: Path) -> int:
    if not path.exists():
        return 0
    text = _read(path).decode("ascii", "replace").strip()
    if not text.isdigit():
        raise KeyMaterialError(f"{path} holds {text[:20]!r}, not an epoch", hint="write a number from 0 to 63")
    return int(text)
