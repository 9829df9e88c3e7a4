"""The key and the signer that options name: files given by hand, or the development keys of the installation."""

from __future__ import annotations

from pathlib import Path

from guardrails.errors import KeyMaterialError, OptionError
from guardrails.provenance.certificates import SigningKey, load_dev_key, load_key_files
from guardrails.provenance.signer import Signer
from guardrails.provenance.trust import TrustStore


def open_signer(folder: Path, chain: Path | None, key: Path | None, password_file: Path | None = None) -> Signer:
    """A signer with the key that `open_key` finds; development keys are judged by their own root.

    Raises:
        OptionError, KeyMaterialError: as `open_key`, and for certificates that are unfit to sign.
    """
    loaded = open_key(folder, chain, key, password_file)
    return Signer.dev(folder) if chain is None else Signer(loaded, TrustStore())


def open_key(folder: Path, chain: Path | None, key: Path | None, password_file: Path | None = None) -> SigningKey:
    """The key of `chain` and `key`, or the development key in `folder` when both are None; it is not judged here.

    Raises:
        OptionError: one of chain and key is missing.
        KeyMaterialError: the files are missing or unreadable; none are made here.
    """
    if chain is None and key is None:
        return load_dev_key(folder)
    if chain is None or key is None:
        raise OptionError("--chain and --key belong together", hint="give both, or neither for this installation's own")
    return load_key_files(chain, key, _read_password(password_file))


def _read_password(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise KeyMaterialError(
            f"cannot read the password file {path}: {error.strerror or error}", hint="check the path and permissions"
        ) from error
