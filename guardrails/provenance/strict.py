"""Bytes that no signature and no hash covers: what a signer leaves there, and nothing else, passes.

The SDK calls a file trusted whatever stands in the padding of a signature, in its unprotected headers, in the headers
of JUMBF boxes or in a chunk's checksum. Nothing that such a byte holds can change the picture or what is claimed about
it; but a file that was altered there is not the file that was signed. Sources: ISO 19566-5 (JUMBF), RFC 9052 (COSE),
C2PA Technical Specification 2.4, "Digital Signatures".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from guardrails.provenance import containers

CONTAINER = "org.guardrails.strict.container"
BOXES = "org.guardrails.strict.boxes"
SIGNATURE = "org.guardrails.strict.signature"

_UUID_TAIL = bytes.fromhex("00110010800000aa00389b71")
_CONTENT_KINDS = frozenset(b"c2pa c2ma c2um c2cm c2md c2as c2cl c2cs c2vc c2db cbor json uuid bfdb bidb brob".split())
# Boxes with a name of their own; the others are named by what their signer put in.
_LABELS = {
    b"c2pa": {b"c2pa"},
    b"c2as": {b"c2pa.assertions"},
    b"c2cl": {b"c2pa.claim", b"c2pa.claim.v2"},
    b"c2cs": {b"c2pa.signature"},
    b"c2vc": {b"c2pa.credentials"},
    b"c2db": {b"c2pa.databoxes"},
}
_OTHER_UUIDS = frozenset(
    {
        bytes.fromhex("40cb0c32bb8a489da70b2ad6f47f4369"),  # embedded file
        bytes.fromhex("6579d6fbdba2446bb2ac1b82feeb89d1"),  # code stream
    }
)
_LABEL_ONLY, _LABEL_AND_SALT = 0x03, 0x13
_LEAVES = frozenset(b"cbor json bfdb bidb uuid jp2c brob".split())
_SALT_SIZES = (16, 32)
_DEPTH = 16

_TAG_SIGN1 = 18
# C2PA: padding, time-stamps of both versions, revocation answers; RFC 9360: certificates.
_UNPROTECTED = frozenset({"pad", "pad2", "sigTst", "sigTst2", "rVals", "x5chain", 33})


def findings(data: bytes) -> tuple[str, ...]:
    """Codes with a reason, "<code>: <what>", for each thing that is not as signers leave it; empty for good files."""
    try:
        store = containers.store_of(data)
    except containers.Malformed as error:
        return (f"{CONTAINER}: {error}",)
    try:
        return tuple(dict.fromkeys(_boxes(store, 0, len(store), 0)))
    except (struct.error, IndexError):
        return (f"{BOXES}: a box ends early",)


def _boxes(store: bytes, offset: int, end: int, depth: int) -> Iterator[str]:
    """Walk boxes; a superbox holds its description first."""
    if depth > _DEPTH:
        yield f"{BOXES}: nested deeper than {_DEPTH}"
        return
    while offset < end:
        size, kind = struct.unpack_from(">I4s", store, offset)
        if size < 8 or offset + size > end:
            yield f"{BOXES}: a box has an impossible size"
            return
        if kind == b"jumb":
            yield from _superbox(store, offset + 8, offset + size, depth)
        elif kind not in _LEAVES:
            yield f"{BOXES}: unknown kind {kind!r}"
        offset += size


def _superbox(store: bytes, offset: int, end: int, depth: int) -> Iterator[str]:
    size, kind = struct.unpack_from(">I4s", store, offset)
    body = store[offset + 8 : offset + size]
    if kind != b"jumd" or offset + size > end or len(body) < 18:
        yield f"{BOXES}: a box without description"
        return
    uuid, toggles = body[:16], body[16]
    if uuid not in _OTHER_UUIDS and (uuid[4:] != _UUID_TAIL or uuid[:4] not in _CONTENT_KINDS):
        yield f"{BOXES}: unknown content type {uuid.hex()}"
    label, terminator, rest = body[17:].partition(b"\0")
    if toggles not in (_LABEL_ONLY, _LABEL_AND_SALT) or not terminator or not label:
        yield f"{BOXES}: unexpected toggles or no label"
    elif uuid[4:] == _UUID_TAIL and label not in _LABELS.get(uuid[:4], {label}):
        yield f"{BOXES}: unexpected label {label!r}"
    elif (toggles == _LABEL_AND_SALT) is not _is_salt(rest) or (rest and toggles == _LABEL_ONLY):
        yield f"{BOXES}: unexpected bytes after the label {label!r}"
    content = offset + size
    if uuid == b"c2cs" + _UUID_TAIL:
        yield from _signature(store[content:end])
    yield from _boxes(store, content, end, depth + 1)


def _is_salt(box: bytes) -> bool:
    return len(box) - 8 in _SALT_SIZES and box[:8] == struct.pack(">I4s", len(box), b"c2sh")


def _signature(box: bytes) -> Iterator[str]:
    import cbor2

    try:
        value: Any = cbor2.loads(box[8:])
        protected, unprotected, payload, _ = value.value
        is_sign1 = value.tag == _TAG_SIGN1 and isinstance(protected, bytes)
    except Exception:  # whatever hostile CBOR makes the decoder raise
        yield f"{SIGNATURE}: not a COSE_Sign1 structure"
        return
    if not is_sign1 or payload is not None or not isinstance(unprotected, Mapping):
        yield f"{SIGNATURE}: not a COSE_Sign1 structure with detached payload"
        return
    for name, header in unprotected.items():
        if name not in _UNPROTECTED:
            yield f"{SIGNATURE}: unknown unprotected header {name!r}"
        elif name in ("pad", "pad2") and (not isinstance(header, bytes) or any(header)):
            yield f"{SIGNATURE}: the padding is filled with something"
