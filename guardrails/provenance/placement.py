"""Where the manifest store lies in a file, found from headers alone: no pixel is read, whatever the file's size.

The C2PA Technical Specification, section "Embedding manifests into assets", says where each format keeps it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# A file with more parts than this is built to keep a reader busy.
_MAX_PARTS = 100_000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_GIF = (b"GIF87a", b"GIF89a")
_GIF_STORE = b"\x0bC2PA_GIF\x01\x00\x00"
_STORE_UUID = bytes.fromhex("6332706100110010800000AA00389B71")
# JUMBF in JPEG (ISO/IEC 19566-5, annex D): identifier, box instance, packet sequence.
_JPEG_BOX_HEADER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of one manifest store.

    Attributes:
        start, length: of the bytes that came with the store, its container included; without them the file is as it
            was before it was signed (but for the length in a WebP header). Its data hash leaves them out.
        pieces: (offset, length) of the store's own bytes, in order.
    """

    start: int
    length: int
    pieces: tuple[tuple[int, int], ...]


def locate(file: BinaryIO) -> Placement | None:
    """Find the manifest store in a PNG, JPEG, WebP or GIF; None when there is none, or in other formats.

    The file is read by seeking from header to header and left at no particular place. Damaged files give None.
    """
    file.seek(0)
    head = file.read(12)
    try:
        if head.startswith(_PNG):
            return _in_png(file)
        if head.startswith(_JPEG):
            return _in_jpeg(file)
        if head.startswith(b"RIFF") and head[8:] == b"WEBP":
            return _in_webp(file)
        if head.startswith(_GIF):
            return _in_gif(file)
    except struct.error:
        # The file ends in the middle of a header.
        return None
    return None


def read_store(file: BinaryIO, placement: Placement) -> bytes:
    """The bytes of the store."""
    parts = []
    for offset, length in placement.pieces:
        file.seek(offset)
        parts.append(file.read(length))
    return b"".join(parts)


def write_store(file: BinaryIO, placement: Placement, store: bytes) -> None:
    """Put a store of the same length into the place of the one that is there.

    Raises:
        ValueError: the length differs.
    """
    if len(store) != sum(length for _, length in placement.pieces):
        raise ValueError(f"the store has {len(store)} bytes, its place another length")
    begin = 0
    for offset, length in placement.pieces:
        file.seek(offset)
        file.write(store[begin : begin + length])
        begin += length
    file.seek(0)
    if file.read(len(_PNG)) == _PNG:
        _write_png_checksum(file, placement)


def _write_png_checksum(file: BinaryIO, placement: Placement) -> None:
    import zlib

    ((offset, length),) = placement.pieces
    file.seek(offset - 4)
    checksum = zlib.crc32(file.read(4 + length))
    file.seek(offset + length)
    file.write(struct.pack(">I", checksum))


def _in_png(file: BinaryIO) -> Placement | None:
    offset = len(_PNG)
    for _ in range(_MAX_PARTS):
        file.seek(offset)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"caBX":
            return _whole(file, offset, 12 + length, (offset + 8, length))
        if kind == b"IEND":
            break
        offset += 12 + length
    return None


def _in_webp(file: BinaryIO) -> Placement | None:
    offset = 12
    for _ in range(_MAX_PARTS):
        file.seek(offset)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"C2PA":
            return _whole(file, offset, 8 + length + length % 2, (offset + 8, length))
        offset += 8 + length + length % 2
    return None


def _whole(file: BinaryIO, start: int, length: int, piece: tuple[int, int]) -> Placement | None:
    """The placement of a store in one piece, unless the file ends before it does."""
    complete = start + length <= file.seek(0, os.SEEK_END)
    return Placement(start=start, length=length, pieces=(piece,)) if complete else None


def _in_jpeg(file: BinaryIO) -> Placement | None:
    start, end, instance = 0, 0, b""
    pieces: list[tuple[int, int]] = []
    for offset, size, head in _jpeg_segments(file):
        # Marker and length (4), "JP", box instance (2), packet sequence (4), then the box's own length and type.
        if head[:2] != b"\xff\xeb" or head[4:6] != b"JP" or size < 12 + _JPEG_BOX_HEADER:
            continue
        if not pieces:
            if head[16:20] != b"jumb" or head[28:44] != _STORE_UUID:
                continue
            start, instance = offset, head[6:8]
            pieces.append((offset + 12, size - 12))
        elif head[6:8] == instance and offset == end:
            # Every further packet repeats the box header.
            pieces.append((offset + 12 + _JPEG_BOX_HEADER, size - 12 - _JPEG_BOX_HEADER))
        else:
            continue
        end = offset + size
    return Placement(start=start, length=end - start, pieces=tuple(pieces)) if pieces else None


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Offset, size with marker, and the first 44 bytes of every segment before the pixels."""
    offset, end = 2, file.seek(0, os.SEEK_END)
    for _ in range(_MAX_PARTS):
        file.seek(offset)
        head = file.read(44)
        marker, length = struct.unpack_from(">HH", head)
        size = 2 + length
        # Start of scan or end of image: no marker segments follow that could hold metadata.
        if marker in (0xFFDA, 0xFFD9) or marker < 0xFF01 or length < 2 or offset + size > end:
            return
        yield offset, size, head
        offset += size


def _in_gif(file: BinaryIO) -> Placement | None:
    file.seek(10)
    (flags,) = struct.unpack("B", file.read(1))
    offset = 13 + _colour_table(flags)
    for _ in range(_MAX_PARTS):
        file.seek(offset)
        introducer = file.read(1)
        if introducer == b"\x21":
            (label,) = struct.unpack("B", file.read(1))
            is_store = label == 0xFF and file.read(len(_GIF_STORE)) == _GIF_STORE
            begin = offset + 2 + (len(_GIF_STORE) if is_store else 0)
            pieces, end = _gif_blocks(file, begin)
            if is_store:
                return Placement(start=offset, length=end - offset, pieces=tuple(pieces))
            offset = end
        elif introducer == b"\x2c":
            (flags,) = struct.unpack("8xB", file.read(9))
            # Behind the colour table lies one byte, the code size, then the pixels in blocks.
            _, offset = _gif_blocks(file, offset + 10 + _colour_table(flags) + 1)
        else:
            return None
    return None


def _gif_blocks(file: BinaryIO, offset: int) -> tuple[list[tuple[int, int]], int]:
    """The data of a chain of sub-blocks, and where the chain ends."""
    pieces: list[tuple[int, int]] = []
    while True:
        file.seek(offset)
        (length,) = struct.unpack("B", file.read(1))
        if length == 0:
            return pieces, offset + 1
        pieces.append((offset + 1, length))
        offset += 1 + length


def _colour_table(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0
