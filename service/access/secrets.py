"""The pepper of an installation, and the keys that are derived from it, one for each purpose."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guardrails.errors import KeyMaterialError
from guardrails.files import stage

VARIABLE = "GUARDRAILS_SERVICE_PEPPER"
FILE = "pepper"
_BYTES = 32


class Secrets:
    """Message authentication under keys that never leave this object.

    Args:
        pepper: at least 32 bytes, the same on every machine of an installation.
    """

    def __init__(self, pepper: bytes) -> None:
        if len(pepper) < _BYTES:
            raise KeyMaterialError("the pepper is too short", hint=f"give at least {_BYTES} random bytes")
        self._pepper = pepper
        self._keys: dict[str, bytes] = {}

    @classmethod
    def load_or_create(cls, folder: Path) -> Secrets:
        """From the environment (hexadecimal), else from a file that is made when it is not there.

        Raises:
            KeyMaterialError: it cannot be read or is open to other accounts.
        """
        written = os.environ.get(VARIABLE)
        if written is not None:
            try:
                return cls(bytes.fromhex(written))
            except ValueError as error:
                raise KeyMaterialError(f"{VARIABLE} is not hexadecimal", hint="write 64 hexadecimal digits") from error
        path = folder / FILE
        if not path.exists():
            staged = stage(folder, secrets.token_bytes(_BYTES), mode=0o600)
            try:
                # Two processes may start at once: a link fails where a name exists, a rename would replace it.
                os.link(staged, path)
            except FileExistsError:
                pass
            finally:
                staged.unlink()
        if path.stat().st_mode & 0o077:
            raise KeyMaterialError(f"{path} can be read by other accounts", hint=f"chmod 600 {path}")
        return cls(path.read_bytes())

    def mac(self, purpose: str, *parts: str) -> str:
        """HMAC-SHA-256 over the parts, hexadecimal; parts cannot run into each other."""
        key = self._keys.get(purpose)
        if key is None:
            derive = HKDF(
                algorithm=hashes.SHA256(), length=32, salt=None, info=f"guardrails.service/{purpose}".encode()
            )
            key = self._keys[purpose] = derive.derive(self._pepper)
        encoded = [part.encode(errors="surrogatepass") for part in parts]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.new(key, message, hashlib.sha256).hexdigest()

    def fits(self, mac: str, purpose: str, *parts: str) -> bool:
        """Whether `mac` is that of the parts; in constant time."""
        # Bytes, because what a stranger sends need not be ASCII.
        return hmac.compare_digest(mac.encode(errors="replace"), self.mac(purpose, *parts).encode())
