"""The boxes of a manifest store (JUMBF, ISO/IEC 19566-5), as far as its outline is needed."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SUPERBOX, DESCRIPTION, CBOR = b"jumb", b"jumd", b"cbor"

_HEADER = 8


def boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the content of every box in a range.

    Raises:
        ValueError: a box has an impossible length.
    """
    while begin < end:
        if end - begin < _HEADER:
            raise ValueError("a box of the manifest store ends early")
        length, kind = struct.unpack_from(">I4s", data, begin)
        if length < _HEADER or begin + length > end:
            raise ValueError("a box of the manifest store has an impossible length")
        yield kind, begin + _HEADER, begin + length
        begin += length


def label(data: bytes, begin: int, end: int) -> str:
    """The label of the superbox with this content, or ""."""
    for kind, inner, stop in boxes(data, begin, end):
        if kind == DESCRIPTION:
            # Behind the type (16 bytes) and the toggles, up to the first zero.
            return data[inner + 17 : stop].partition(b"\0")[0].decode("utf-8", "replace")
    return ""


def active_manifest(store: bytes) -> tuple[int, int]:
    """Begin and end of the content of the active manifest: the last one in the store.

    Raises:
        ValueError: the store is not one superbox with manifests in it.
    """
    whole = list(boxes(store, 0, len(store)))
    if len(whole) != 1 or whole[0][0] != SUPERBOX:
        raise ValueError("the manifest store is not one box")
    manifests = [(begin, end) for kind, begin, end in boxes(store, *whole[0][1:]) if kind == SUPERBOX]
    if not manifests:
        raise ValueError("the manifest store holds no manifest")
    return manifests[-1]


def with_active_alone(store: bytes) -> bytes:
    """A store that holds the active manifest and none of its ancestors'.

    Raises:
        ValueError: see `active_manifest`.
    """
    begin, end = active_manifest(store)
    _, first, last = next(iter(boxes(store, 0, len(store))))
    description = next((a, b) for kind, a, b in boxes(store, first, last) if kind == DESCRIPTION)
    body = store[description[0] - _HEADER : description[1]] + store[begin - _HEADER : end]
    return struct.pack(">I4s", _HEADER + len(body), SUPERBOX) + body
