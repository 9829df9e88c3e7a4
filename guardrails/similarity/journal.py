"""Changes to an index since its last segment: an append-only file of lines, each with its checksum.

A line is the CRC-32 of its document in eight hexadecimal digits, a space, one JSON document, and a newline. What a
dead writer left half-written at the end is not read, and cut off by the next writer; damage elsewhere is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any
from zlib import crc32

from guardrails.errors import IndexFormatError, StorageError

Change = dict[str, Any]


def format_changes(changes: Iterable[Change]) -> bytes:
    """The lines of some changes."""
    lines = []
    for change in changes:
        document = json.dumps(change, separators=(",", ":"), sort_keys=True).encode("utf-8")
        lines.append(b"%08x %s\n" % (crc32(document), document))
    return b"".join(lines)


def read_changes(path: Path, offset: int) -> tuple[list[Change], int]:
    """The whole changes from `offset` on, and the offset behind them.

    Raises:
        IndexFormatError: the file is missing, shorter than `offset`, or damaged before its last line.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            if file.tell() < offset:
                raise IndexFormatError(f"{path} has been cut short", hint="restore the index folder from a copy")
            file.seek(offset)
            data = file.read()
    except OSError as error:
        raise IndexFormatError(f"cannot read {path}: {error}", hint="restore the index folder from a copy") from error
    changes = []
    lines = data.split(b"\n")
    # What follows the last newline is not finished yet.
    for number, line in enumerate(lines[:-1]):
        change = _parse(line)
        if change is None:
            if number < len(lines) - 2 or lines[-1]:
                raise IndexFormatError(
                    f"{path} is damaged at byte {offset}", hint="restore the index folder from a copy"
                )
            break
        changes.append(change)
        offset += len(line) + 1
    return changes, offset


def append_changes(path: Path, offset: int, changes: Iterable[Change]) -> int:
    """Write changes durably behind `offset`; what stands there was never finished.

    The caller holds the index's lock.

    Returns:
        The offset behind them.

    Raises:
        StorageError: the disk is full or the file cannot be written; then nothing was added.
    """
    data = format_changes(changes)
    try:
        # Without a buffer, which would be written once more after an error.
        with path.open("r+b", buffering=0) as file:
            file.truncate(offset)
            try:
                # Room first: a full disk shows while there is nothing that a reader would take for a change.
                _write(file, offset, bytes(len(data)))
                _write(file, offset, data)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(offset)
                raise
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}", hint="check that the folder is writable and has room"
        ) from error
    return offset + len(data)


def _write(file: FileIO, offset: int, data: bytes) -> None:
    """All of it: one call may write less."""
    file.seek(offset)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _parse(line: bytes) -> Change | None:
    checksum, _, document = line.partition(b" ")
    if checksum != b"%08x" % crc32(document):
        return None
    try:
        change = json.loads(document)
    except ValueError:
        return None
    return change if isinstance(change, dict) else None
