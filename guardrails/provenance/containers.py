"""Where the manifest store lies in a file, and what the container must look like around it.

Read for the strict mode only, which looks at bytes that no hash covers. Rules of the C2PA Technical Specification,
appendix A ("Embedding manifests"), and of each container's own specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
# Version and flags, the purpose, and the offset of a first Merkle box, which a whole file does not have.
_BOX_PREFACE = b"\0\0\0\0manifest\0" + bytes(8)
_GIF_EXTENSION = b"\x21\xff\x0bC2PA_GIF\x01\x00\x00"
_TIFF_TAG, _TIFF_UNDEFINED = 0xCD41, 7
# Registered brands (mp4ra.org) of still pictures and what is built on them.
_BRANDS = frozenset(
    b"avif avis avio MA1A MA1B mif1 mif2 miaf miah msf1 heic heix heim heis hevc hevx hevm hevs pred tmap unif iso8 "
    b"iso9 isom jpeg crx MiHA MiHB MiHE MiPr".split()
)
# An APP11 segment: identifier "JP", box instance, packet number, then the box header that every packet repeats.
_JPEG_PACKET = struct.Struct(">2sHI8s")


class Malformed(Exception):
    """The container is not as its specification says; the message says where."""


def store_of(data: bytes) -> bytes:
    """The bytes of the manifest store, with everything on the way to it checked.

    Raises:
        Malformed: the container or the place of the store is not as it has to be, or the format is not known here.
    """
    try:
        stores = list(_reader(data)(data))
    except (struct.error, IndexError, zlib.error) as error:
        raise Malformed("the container ends early") from error
    if len(stores) != 1:
        raise Malformed(f"there are {len(stores)} manifest stores")
    return stores[0]


def _reader(data: bytes) -> Callable[[bytes], Iterator[bytes]]:
    if data.startswith(_PNG_MAGIC):
        return _png
    if data.startswith(_JPEG_MAGIC):
        return _jpeg
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp
    if data[4:8] == b"ftyp":
        return _bmff
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif
    raise Malformed("the format is not known")


def _png(data: bytes) -> Iterator[bytes]:
    offset = len(_PNG_MAGIC)
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + size
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(data[offset + 4 : end]):
            raise Malformed(f"the checksum of the PNG chunk {kind!r} is wrong")
        if kind == b"caBX":
            yield data[offset + 8 : end]
        offset = end + 4


def _jpeg(data: bytes) -> Iterator[bytes]:
    stores: dict[int, list[tuple[int, bytes, bytes]]] = {}
    offset = 2
    while data[offset] == 0xFF and data[offset + 1] != 0xDA:
        marker, size = struct.unpack_from(">xBH", data, offset)
        segment = data[offset + 4 : offset + 2 + size]
        if marker == 0xEB and segment[:2] == b"JP":
            _, instance, number, header = _JPEG_PACKET.unpack_from(segment)
            stores.setdefault(instance, []).append((number, header, segment[_JPEG_PACKET.size :]))
        offset += 2 + size
    for packets in stores.values():
        numbers, headers, parts = zip(*packets, strict=True)
        if parts[0][8:12] != b"c2pa":
            continue
        if list(numbers) != list(range(1, len(numbers) + 1)) or len(set(headers)) != 1:
            raise Malformed("the JPEG segments of the manifest store are not in sequence")
        yield headers[0] + b"".join(parts)


def _webp(data: bytes) -> Iterator[bytes]:
    if struct.unpack_from("<I", data, 4)[0] != len(data) - 8:
        raise Malformed("the RIFF size is not that of the file")
    offset = 12
    while offset < len(data):
        kind, size = struct.unpack_from("<4sI", data, offset)
        end = offset + 8 + size
        if kind == b"C2PA":
            yield data[offset + 8 : end]
        if size % 2 and data[end] != 0:
            raise Malformed(f"the RIFF chunk {kind!r} is padded with something")
        offset = end + size % 2


def _bmff(data: bytes) -> Iterator[bytes]:
    brands = data[8 : struct.unpack_from(">I", data)[0]]
    names = {brands[i : i + 4] for i in (0, *range(8, len(brands), 4))}
    if not names <= _BRANDS or brands[4:8] != bytes(4):
        raise Malformed("the file type box names an unknown brand")
    offset = 0
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, offset + 8)[0], 16
        end = len(data) if size == 0 else offset + size
        if end <= offset or end > len(data):
            raise Malformed(f"the box {kind!r} has an impossible size")
        body = data[offset + head : end]
        if kind == b"uuid" and body[:16] == _C2PA_BOX:
            if not body.startswith(_BOX_PREFACE, 16):
                raise Malformed("the box of the manifest store has unexpected flags or purpose")
            yield body[16 + len(_BOX_PREFACE) :]
        elif kind in (b"free", b"skip") and any(body):
            raise Malformed(f"the box {kind!r} is filled with something")
        offset = end


def _tiff(data: bytes) -> Iterator[bytes]:
    order = "<" if data[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(order + "I", data, 4)
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        (count,) = struct.unpack_from(order + "H", data, offset)
        for number in range(count):
            tag, kind, size, value = struct.unpack_from(order + "HHII", data, offset + 2 + 12 * number)
            if tag == _TIFF_TAG:
                if kind != _TIFF_UNDEFINED or value + size > len(data):
                    raise Malformed("the TIFF tag of the manifest store has another type or leads out of the file")
                yield data[value : value + size]
        (offset,) = struct.unpack_from(order + "I", data, offset + 2 + 12 * count)


def _gif(data: bytes) -> Iterator[bytes]:
    offset = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    # A store lies before the first picture (0x2C).
    while data[offset] == 0x21:
        is_store = data.startswith(_GIF_EXTENSION, offset)
        offset += 2
        blocks = []
        while data[offset]:
            blocks.append(data[offset + 1 : offset + 1 + data[offset]])
            offset += 1 + data[offset]
        offset += 1
        if is_store:
            if any(len(block) != 255 for block in blocks[1:-1]):
                raise Malformed("the GIF blocks of the manifest store are cut in an unusual way")
            yield b"".join(blocks[1:])
