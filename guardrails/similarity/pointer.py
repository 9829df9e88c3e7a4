"""`CURRENT`: the one file that says what an index consists of; replaced by renaming, never changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardrails.errors import IndexFormatError
from guardrails.files import write_atomically
from guardrails.imaging.decoding import CANONICAL_DECODE
from guardrails.similarity.fingerprints import FRONT_END
from guardrails.similarity.hashes import HASH_BYTES, KEYPOINT128, PDQ256, SYM256
from guardrails.similarity.keypoints import PROCEDURE

POINTER = "CURRENT"
FORMAT = 2
_HINT = "restore the index folder from a copy, or build it again with this version"
_FRONT_ENDS = {PDQ256: FRONT_END, SYM256: FRONT_END, KEYPOINT128: PROCEDURE}
_NAME = re.compile(r"(segment-[0-9a-f]{16}|journal-[0-9]{1,18}\.log)\Z")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What an index consists of.

    Attributes:
        algorithm: one of `hashes.HASH_BYTES`.
        segments: name and digest of each, oldest first.
        journal: name of the file with the changes since.
        settings: of the bank that the index is, see `banks`.
    """

    algorithm: str
    segments: tuple[tuple[str, str], ...]
    journal: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def procedures(self) -> dict[str, str]:
        """What must be the same when building and when asking, for codes to be comparable."""
        return {"decode": CANONICAL_DECODE, "front_end": _FRONT_ENDS.get(self.algorithm, self.algorithm)}

    def write(self, folder: Path) -> None:
        """Make this the index's state, durably.

        Raises:
            StorageError: the folder cannot be written; then the old state stands.
        """
        body = self._body()
        write_atomically(folder / POINTER, _text(body | {"sha256": _checksum(body)}))

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "hash": self.algorithm,
            **self.procedures,
            "segments": [list(segment) for segment in self.segments],
            "journal": self.journal,
            "settings": dict(self.settings),
        }


def read_pointer(folder: Path) -> Pointer:
    """Read and check the pointer of an index.

    Raises:
        IndexFormatError: missing, damaged, of another format, or for codes made by other procedures.
    """
    path = folder / POINTER
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IndexFormatError(f"cannot read the index {path}: {error}", hint=_HINT) from error
    if not isinstance(body, dict) or body.pop("sha256", None) != _checksum(body):
        raise IndexFormatError(f"{path} is damaged", hint=_HINT)
    if body.get("format") != FORMAT:
        raise IndexFormatError(f"{folder} has index format {body.get('format')!r}, not {FORMAT}", hint=_HINT)
    try:
        pointer = Pointer(
            algorithm=str(body["hash"]),
            segments=tuple((str(name), str(digest)) for name, digest in body["segments"]),
            journal=str(body["journal"]),
            settings=dict(body["settings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IndexFormatError(f"{path} lacks {error}", hint=_HINT) from error
    names = [name for name, _ in pointer.segments] + [pointer.journal]
    if pointer.algorithm not in HASH_BYTES or not all(_NAME.match(name) for name in names):
        raise IndexFormatError(f"{path} names what no index has", hint=_HINT)
    made_by = {name: body.get(name) for name in pointer.procedures}
    if made_by != pointer.procedures:
        raise IndexFormatError(f"{folder} was hashed by other procedures: {made_by}", hint=_HINT)
    return pointer


def _text(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(body)).hexdigest()
