"""Putting a time-stamp beside a claim signature that is there already.

The token lies in the unprotected headers of the COSE signature (`sigTst2`, C2PA Technical Specification, section
"Time-stamps"), which no hash of the manifest covers; the SDK leaves zeros there, and the token takes their place byte
for byte. So nothing else in the file moves, and signature, claim and picture stay what they were.

1. Find the active manifest's signature box: the last manifest of the store is the active one.
2. Take the COSE structure apart: protected headers, unprotected headers, signature.
3. Ask for a token over the countersignature structure (RFC 9338) of protected headers and signature.
4. Write the token in front of the padding, and cut the padding by as much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from guardrails.errors import SigningError, TimeStampError
from guardrails.files import publish, stage_copy, sync
from guardrails.provenance.boxes import CBOR, SUPERBOX, active_manifest, boxes, label
from guardrails.provenance.placement import Placement, locate, read_store, write_store
from guardrails.provenance.timestamps import Stamper, TimeStamp, verify_token

_SIGNATURE_LABEL = "c2pa.signature"
_PAD = b"\x63pad"
_BLOCK = 1 << 20
# Enough of a store to tell it from chance, its first manifest's random label included.
_PROBE = 256


class NoRoomError(Exception):
    """The padding is shorter than the token."""


class Stamping:
    """Signs through a function, then adds a time-stamp, and asks for a larger padding once tokens turn out to need it.

    Args:
        stamper: its tokens are put into the files.
    """

    def __init__(self, stamper: Stamper) -> None:
        self._stamper = stamper
        self._spacious = False

    def sign(self, target: BinaryIO, sign: Callable[[bool], bytes]) -> bytes:
        """Have a file signed, then stamp it in place.

        Args:
            target: open for reading and writing; what it holds is replaced.
            sign: writes a signed file to `target` and returns its manifest store; told whether to leave room for a
                token of any size.

        Returns:
            The manifest store, as it is in the file.

        Raises:
            SigningError, TimeStampError: nothing was signed, or there is no token.
        """
        target.seek(0)
        target.truncate()
        store = sign(self._spacious)
        try:
            return stamp_file(target, store, self._stamper)
        except NoRoomError:
            if self._spacious:
                raise TimeStampError(
                    "the authority's token is too large for the signature's padding",
                    hint="use an authority whose certificate chain is shorter",
                ) from None
            self._spacious = True
            return self.sign(target, sign)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """Positions in the store, and what the token certifies.

    Attributes:
        headers: begin of the unprotected headers' map.
        pad, end: begin and end of the padding's map entry.
        protected, signature: their bytes.
    """

    headers: int
    pad: int
    end: int
    protected: bytes
    signature: bytes


def stamp_file(file: BinaryIO, store: bytes, stamper: Stamper) -> bytes:
    """Add a time-stamp to the active manifest of a signed file, in place.

    Args:
        file: open for reading and writing.
        store: its manifest store, as the SDK returned it.

    Returns:
        The store as it is now in the file.

    Raises:
        NoRoomError: the padding is too short; the file is unchanged.
        TimeStampError: no token was to be had; the file is unchanged.
        SigningError: the store is not of the expected form, or is not found in the file.
    """
    placement = locate(file) or _search(file, store)
    if read_store(file, placement) != store:
        raise _odd("the file holds another manifest store")
    signature = _find_signature(store)
    token = stamper.stamp(_countersigned(signature))
    stamped = _insert(store, signature, token)
    write_store(file, placement, stamped)
    return stamped


def stamp_path(source: Path, target: Path, stamper: Stamper) -> TimeStamp:
    """Add a time-stamp to a signed PNG, JPEG, WebP or GIF that has none; `target` appears whole or not at all.

    Returns:
        What the token proves.

    Raises:
        ImageError: the file cannot be read.
        SigningError: it holds no manifest store, or its signature is stamped already or leaves too little room.
        TimeStampError: no token was to be had.
        StorageError: `target` cannot be written.
    """
    staged = stage_copy(source, target.parent)
    try:
        with staged.open("r+b") as file:
            placement = locate(file)
            if placement is None:
                raise SigningError(f"{source} holds no manifest that can be stamped", hint="sign it first")
            keeper = _Keeper(stamper)
            stamp_file(file, read_store(file, placement), keeper)
            sync(file)
        publish(staged, target)
    except NoRoomError:
        raise SigningError(
            f"the signature in {source} leaves too little room for the token",
            hint="stamp with an own authority (`guardrails tsa init`), or sign anew with time-stamps",
        ) from None
    finally:
        staged.unlink(missing_ok=True)
    return verify_token(keeper.token, keeper.message)


class _Keeper:
    """Remembers the token that passes through."""

    def __init__(self, stamper: Stamper) -> None:
        self._stamper = stamper
        self.message = self.token = b""

    def stamp(self, message: bytes) -> bytes:
        self.message = message
        self.token = self._stamper.stamp(message)
        return self.token


def _search(file: BinaryIO, store: bytes) -> Placement:
    """The place in formats that keep the store in one piece and whose containers are not known here."""
    begin, window = 0, b""
    file.seek(0)
    while block := file.read(_BLOCK):
        window += block
        offset = window.find(store[:_PROBE])
        if offset >= 0:
            return Placement(start=begin + offset, length=len(store), pieces=((begin + offset, len(store)),))
        begin += len(window) - _PROBE + 1
        window = window[1 - _PROBE :]
    raise _odd("its manifest store does not lie in the file in one piece")


def _find_signature(store: bytes) -> _Signature:
    try:
        return _search_signature(store)
    except (IndexError, ValueError) as error:
        raise _odd("its manifest store is damaged") from error


def _search_signature(store: bytes) -> _Signature:
    # 1.
    for kind, begin, end in boxes(store, *active_manifest(store)):
        if kind == SUPERBOX and label(store, begin, end) == _SIGNATURE_LABEL:
            for content, first, last in boxes(store, begin, end):
                if content == CBOR:
                    return _take_apart(store, first, last)
    raise _odd("the active manifest has no signature")


def _take_apart(store: bytes, begin: int, end: int) -> _Signature:
    # 2. Tag 18 (COSE_Sign1) over an array of four.
    if store[begin : begin + 2] != b"\xd2\x84":
        raise _odd("its signature is no COSE_Sign1")
    protected_begin, protected_end = _bytes_at(store, begin + 2)
    headers = protected_end
    count = store[headers] - 0xA0
    if count != 1 or store[headers + 1 : headers + 5] != _PAD:
        raise _odd("its signature has other unprotected headers than padding, for example a time-stamp already")
    pad_begin, pad_end = _bytes_at(store, headers + 5)
    if any(store[pad_begin:pad_end]) or store[pad_end] != 0xF6:
        raise _odd("its padding is not zero, or its payload is not detached")
    signature_begin, signature_end = _bytes_at(store, pad_end + 1)
    if signature_end != end:
        raise _odd("its signature box has another length than its content")
    return _Signature(
        headers=headers,
        pad=headers + 1,
        end=pad_end,
        protected=store[protected_begin:protected_end],
        signature=store[signature_begin:signature_end],
    )


def _countersigned(signature: _Signature) -> bytes:
    """What a version 2 time-stamp certifies: the signature, itself as a byte string, under the protected headers."""
    payload = _byte_string(_byte_string(signature.signature))
    return b"\x84" + b"\x70CounterSignature" + _byte_string(signature.protected) + b"\x40" + payload


def _insert(store: bytes, signature: _Signature, token: bytes) -> bytes:
    # 4.
    entry = b"\x67sigTst2\xa1\x69tstTokens\x81\xa1\x63val" + _byte_string(token)
    left = signature.end - signature.pad - len(entry)
    headers = b"\xa2" + entry + _padding(left)
    return store[: signature.headers] + headers + store[signature.end :]


def _padding(length: int) -> bytes:
    """A map entry of zeros that takes exactly so many bytes."""
    for header in (1, 2, 3):
        size = length - len(_PAD) - header
        if size >= 0:
            entry = _PAD + _byte_string(bytes(size))
            if len(entry) == length:
                return entry
    raise NoRoomError


def _byte_string(value: bytes) -> bytes:
    """CBOR major type 2 with the shortest length (RFC 8949, section 3)."""
    size = len(value)
    if size < 24:
        return bytes([0x40 + size]) + value
    if size < 0x100:
        return b"\x58" + bytes([size]) + value
    if size < 0x10000:
        return b"\x59" + size.to_bytes(2, "big") + value
    return b"\x5a" + size.to_bytes(4, "big") + value


def _bytes_at(data: bytes, at: int) -> tuple[int, int]:
    """Begin and end of the content of the CBOR byte string that starts at a position."""
    widths = {0x58: 1, 0x59: 2, 0x5A: 4}
    initial = data[at]
    if 0x40 <= initial < 0x58:
        return at + 1, at + 1 + initial - 0x40
    if initial not in widths:
        raise _odd("there is no byte string where its signature should have one")
    begin = at + 1 + widths[initial]
    return begin, begin + int.from_bytes(data[at + 1 : begin], "big")


def _odd(why: str) -> SigningError:
    return SigningError(
        f"the signed file cannot be time-stamped: {why}",
        hint="sign without time-stamps, and report the version of the C2PA SDK",
    )
