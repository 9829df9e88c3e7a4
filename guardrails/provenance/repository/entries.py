"""One kept manifest: the store itself, where it lay, and everything it can be found by.

Files are read in pieces: of a file of any size only the manifest store is held in memory.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import BinaryIO

from guardrails.errors import RepositoryError
from guardrails.provenance.boxes import with_active_alone
from guardrails.provenance.placement import Placement, locate

_BLOCK = 1 << 20
# A store holds manifests, thumbnails and ancestors; a larger one is built to fill the disk.
MAX_STORE_BYTES = 64 * 2**20
# Length of a RIFF file, which changes with the store and says nothing else.
_RIFF_LENGTH = (4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """What a picture looks like.

    Attributes:
        iscc: 8 bytes, ISCC Image-Code of ISO 24138 without its header; b"" when unknown.
        pdq: 32 bytes, PDQ; b"" when unknown, or when the picture has too little detail for it.
    """

    iscc: bytes = b""
    pdq: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One kept manifest.

    Attributes:
        manifest_id: label of the active manifest, "urn:c2pa:<uuid>".
        mark_id: 16 hexadecimal digits of the watermark that it is bound to; "" for none.
        container: the bytes that came into the file with the store, its packaging included.
        pieces: (offset, length) of the store's own bytes in `container`.
        start: where in the file `container` began; None where that is not known, so that it cannot be put back.
        rest_sha256: of the file without `container`, see `rest_digest`; b"" where `start` is None.
        file_sha256: of the whole signed file; b"" where `start` is None.
        added_at: RFC 3339 UTC; set by the repository.
    """

    manifest_id: str
    mark_id: str
    fingerprints: Fingerprints
    container: bytes
    pieces: tuple[tuple[int, int], ...]
    start: int | None = None
    rest_sha256: bytes = b""
    file_sha256: bytes = b""
    added_at: str = ""

    @property
    def store(self) -> bytes:
        """The manifest store (media type application/c2pa)."""
        return b"".join(self.container[offset : offset + length] for offset, length in self.pieces)

    @property
    def active_store(self) -> bytes:
        """A manifest store that holds the active manifest alone, without those of its ancestors.

        Raises:
            RepositoryError: the kept store is damaged.
        """
        try:
            return with_active_alone(self.store)
        except ValueError as error:
            raise RepositoryError(
                f"the manifest kept as {self.manifest_id} is damaged: {error}", hint="restore it from a backup"
            ) from error


def to_entry(
    file: BinaryIO, *, manifest_id: str, mark_id: str, fingerprints: Fingerprints, store: bytes | None = None
) -> Entry:
    """What is to be kept of a signed file.

    Args:
        file: open for reading.
        store: its manifest store, for formats whose containers are not known here; without it such files are refused.

    Raises:
        RepositoryError: no store is found in the file, or it is too large to be kept.
    """
    placement = locate(file)
    if placement is None:
        if store is None:
            raise RepositoryError(
                "no manifest store was found in the file", hint="keep manifests of PNG, JPEG, WebP or GIF files"
            )
        _refuse_large(len(store))
        return Entry(
            manifest_id=manifest_id,
            mark_id=mark_id,
            fingerprints=fingerprints,
            container=store,
            pieces=((0, len(store)),),
        )
    _refuse_large(placement.length)
    file.seek(placement.start)
    container = file.read(placement.length)
    return Entry(
        manifest_id=manifest_id,
        mark_id=mark_id,
        fingerprints=fingerprints,
        container=container,
        pieces=tuple((offset - placement.start, length) for offset, length in placement.pieces),
        start=placement.start,
        rest_sha256=rest_digest(file, placement),
        file_sha256=_whole_digest(file),
    )


def rest_digest(file: BinaryIO, placement: Placement | None = None) -> bytes:
    """SHA-256 of a file without its manifest store; of a file that has none, of all its bytes.

    Equal before and after a store is cut out cleanly: the length in a WebP header counts as zeros.

    Args:
        placement: of the store in the file.
    """
    size = file.seek(0, os.SEEK_END)
    begin, end = (placement.start, placement.start + placement.length) if placement else (size, size)
    digest, position = hashlib.sha256(), 0
    file.seek(0)
    head = file.read(12)
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        digest.update(head[: _RIFF_LENGTH[0]] + bytes(4) + head[_RIFF_LENGTH[1] :])
        position = len(head)
    _update(digest, file, position, begin)
    _update(digest, file, end, size)
    return digest.digest()


def _whole_digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    _update(digest, file, 0, file.seek(0, os.SEEK_END))
    return digest.digest()


def _update(digest: hashlib._Hash, file: BinaryIO, begin: int, end: int) -> None:
    file.seek(begin)
    left = end - begin
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)


def _refuse_large(size: int) -> None:
    if size > MAX_STORE_BYTES:
        raise RepositoryError(
            f"a manifest store of {size} bytes is not kept", hint=f"at most {MAX_STORE_BYTES} bytes are"
        )
