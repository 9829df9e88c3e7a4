"""Put a kept manifest store back into the file that it was cut out of, bit for bit."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from guardrails.errors import RepositoryError
from guardrails.provenance.repository.entries import Entry

_BLOCK = 1 << 20


def attach(stripped: BinaryIO, entry: Entry, target: BinaryIO) -> None:
    """Write the signed file again, in pieces.

    Args:
        stripped: the file without its store; its `rest_digest` is the entry's.
        target: what to write to, from its current position on.

    Raises:
        RepositoryError: the result is not the signed file; what was written is to be thrown away.
    """
    if entry.start is None:
        raise RepositoryError("it is not known where in the file this manifest belongs", hint="use it as a sidecar")
    digest = hashlib.sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        target.write(data)

    stripped.seek(0)
    head = stripped.read(min(12, entry.start))
    if head.startswith(b"RIFF"):
        length = int.from_bytes(head[4:8], "little") + len(entry.container)
        head = head[:4] + length.to_bytes(4, "little") + head[8:]
    write(head)
    left = entry.start - len(head)
    while left > 0 and (block := stripped.read(min(_BLOCK, left))):
        write(block)
        left -= len(block)
    write(entry.container)
    while block := stripped.read(_BLOCK):
        write(block)
    if digest.digest() != entry.file_sha256:
        raise RepositoryError(
            "the file is not the one that this manifest was cut out of", hint="use the manifest as a sidecar"
        )
