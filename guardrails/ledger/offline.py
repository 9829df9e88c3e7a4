"""Check what a ledger hands out, with nothing but the standard library: copy this one file and run it.

::

    python offline.py --vkey log.vkey bundle.zip record-12.tlog-proof

A bundle (`guardrails ledger export`) is a zip archive::

    checkpoint           C2SP checkpoint, a signed note over the tree
    log.vkey             the key that signed it; take it from somewhere else when you can
    records.jsonl        {"index", "entry", "path"} a line: the leaf's text, and the hashes that lead to the root
    earlier-checkpoint   optional: an older checkpoint of the same log
    consistency.json     optional: the hashes that show that the older tree is a prefix of the newer one

Sources: RFC 6962 section 2.1 (hashes), RFC 9162 sections 2.1.3.2 and 2.1.4.2 (verification), RFC 8032 section 5.1.7
(Ed25519), C2SP signed-note, tlog-checkpoint and tlog-proof.

Checking a signature here takes milliseconds and is not constant-time: it handles public values only.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
SIGNATURE_MARK = "\u2014 "
ED25519 = b"\x01"
KEY_ID_BYTES = 4
EMPTY_ROOT = hashlib.sha256(b"").digest()

# Against archives that unpack to more than anyone meant to read.
_LARGEST_LINE = 16 << 20


class Invalid(Exception):
    """What was checked does not hold; the message says what."""


# ---------------------------------------------------------------------------------------------- Merkle trees


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def included(leaf: bytes, index: int, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.3.2: does the leaf hash stand at `index` of the tree with this root?

    1. The index must lie inside the tree.
    2. Set fn to the index and sn to size - 1: the positions of the leaf and of the last leaf, level by level.
    3. For each hash p of the path:
       a. sn = 0 means the path is too long: no.
       b. When fn is odd, or fn equals sn, p is on the left; then also climb past levels without a sibling.
       c. Otherwise p is on the right.
       d. Climb one level.
    4. All levels must be used up, and the computed root must be the given one.
    """
    if not 0 <= index < size:  # 1
        return False
    fn, sn, node = index, size - 1, leaf  # 2
    for p in path:  # 3
        if sn == 0:  # 3a
            return False
        if fn & 1 or fn == sn:  # 3b
            node = node_hash(p, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:  # 3c
            node = node_hash(node, p)
        fn, sn = fn >> 1, sn >> 1  # 3d
    return sn == 0 and node == root  # 4


def consistent(old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2: is the tree of `old_size` leaves a prefix of the tree of `size` leaves?

    1. The old tree must not be empty or larger; equal sizes need equal roots and an empty path.
    2. An empty path cannot connect different sizes. When old_size is a power of two, the path starts at the old root.
    3. Set fn to old_size - 1 and sn to size - 1; climb while fn is odd, to the top of the old tree's last peak.
    4. Both computed roots, fr and sr, start at the first hash of the path.
    5. For each further hash c of the path:
       a. sn = 0 means the path is too long: no.
       b. When fn is odd, or fn equals sn, c is on the left of both; then also climb past levels without a sibling.
       c. Otherwise c is on the right, and only the new tree has it.
       d. Climb one level.
    6. All levels must be used up, and both computed roots must be the given ones.
    """
    if not 0 < old_size <= size:  # 1
        return False
    if old_size == size:
        return old_root == root and not path
    if not path:  # 2
        return False
    if old_size.bit_count() == 1:
        path = (old_root, *path)
    fn, sn = old_size - 1, size - 1  # 3
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # 4
    for c in path[1:]:  # 5
        if sn == 0:  # 5a
            return False
        if fn & 1 or fn == sn:  # 5b
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:  # 5c
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1  # 5d
    return sn == 0 and fr == old_root and sr == root  # 6


# ------------------------------------------------------------------------------------------- Ed25519, RFC 8032

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)

_Point = tuple[int, int, int, int]
"""Extended coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, x * y = T/Z."""


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """RFC 8032 section 5.1.7, without cofactor: [s]B = R + [k]A.

    1. Public key and R must decode to points, s must be below the order of the group.
    2. k is SHA-512(R || A || message) modulo the order.
    3. Compare [s]B with R + [k]A.
    """
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = _decompress(public), _decompress(signature[:32])  # 1
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _L  # 2
    left, right = _multiply(s, _BASE), _add(r, _multiply(k, a))  # 3
    return not (left[0] * right[2] - right[0] * left[2]) % _P and not (left[1] * right[2] - right[1] * left[2]) % _P


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(scalar: int, point: _Point) -> _Point:
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point, scalar = _add(point, point), scalar >> 1
    return total


def _decompress(data: bytes) -> _Point | None:
    """RFC 8032 section 5.1.3; None when the bytes are no point."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_M1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _base_point() -> _Point:
    point = _decompress((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


_BASE = _base_point()


# ------------------------------------------------------------------------------------------- notes and keys


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes | None:
    """Strict base64, or None; a second spelling of the same bytes is no base64 here."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if to_base64(data) == text else None


def key_id(name: str, public: bytes) -> bytes:
    """SHA-256(name || 0x0A || type || key), the first four bytes (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:KEY_ID_BYTES]


def parse_vkey(text: str) -> tuple[str, bytes]:
    """Name and 32-byte Ed25519 key of "name+keyid+base64(type || key)"."""
    name, _, rest = text.strip().partition("+")
    stated, _, encoded = rest.partition("+")
    material = from_base64(encoded)
    if not name or material is None or len(material) != 33 or material[:1] != ED25519:
        raise Invalid("not an Ed25519 verifier key; the form is name+keyid+base64, see log.vkey")
    if key_id(name, material[1:]).hex() != stated:
        raise Invalid(f"the key id {stated!r} does not belong to this key; copy the whole line again")
    return name, material[1:]


Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> is it right?"""


def open_note(note: str, name: str, public: bytes, verify: Verify = ed25519_verify) -> str:
    """The body of a signed note.

    1. Split the note at its last empty line into body and signature lines.
    2. Skip signatures by other keys; their number does not matter.
    3. Every signature by this key must be right, and there must be one.
    """
    body, separator, signatures = note.rpartition("\n\n")  # 1
    if not separator or not signatures.endswith("\n"):
        raise Invalid("this is not a signed note")
    body += "\n"
    signed = False
    for line in signatures[:-1].split("\n"):
        signer, space, encoded = line.removeprefix(SIGNATURE_MARK).partition(" ")
        signature = from_base64(encoded)
        if not line.startswith(SIGNATURE_MARK) or not space or signature is None or len(signature) <= KEY_ID_BYTES:
            raise Invalid("the note has a malformed signature line")
        if (signer, signature[:KEY_ID_BYTES]) != (name, key_id(name, public)):  # 2
            continue
        if not verify(public, body.encode(), signature[KEY_ID_BYTES:]):  # 3
            raise Invalid(f"the signature by {name} is wrong")
        signed = True
    if not signed:
        raise Invalid(f"the note is not signed by {name}")
    return body


def parse_checkpoint(body: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint's body, which has exactly three lines (C2SP tlog-checkpoint)."""
    lines = body.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not is_decimal(lines[1]):
        raise Invalid("this is not a checkpoint of three lines")
    root = from_base64(lines[2])
    if root is None or len(root) != len(EMPTY_ROOT):
        raise Invalid("the checkpoint's root is not 32 bytes in base64")
    return lines[0], int(lines[1]), root


def is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


# ---------------------------------------------------------------------------------- proofs, receipts, bundles


class Auditor:
    """Checks files against one log's public key.

    Args:
        vkey: C2SP verifier key of the log.
    """

    def __init__(self, vkey: str) -> None:
        self.origin, self._public = parse_vkey(vkey)
        self._opened: dict[str, str] = {}

    def checkpoint(self, note: str) -> tuple[int, bytes]:
        """Size and root that this log signed."""
        if note not in self._opened:
            self._opened[note] = open_note(note, self.origin, self._public)
        origin, size, root = parse_checkpoint(self._opened[note])
        if origin != self.origin:
            raise Invalid(f"the checkpoint is of another log: {origin}")
        return size, root

    def proof(self, text: str, entry: bytes | None = None) -> str:
        """Check a .tlog-proof file.

        1. Header, optional extra line (the entry, when none is given), index, hashes, empty line, checkpoint.
        2. The checkpoint is signed.
        3. The entry's hash leads to the signed root.
        """
        head, separator, note = text.partition("\n\n")  # 1
        header, *lines = head.split("\n")
        if header != PROOF_HEADER or not separator:
            raise Invalid("not a tlog-proof")
        if lines and lines[0].startswith("extra "):
            extra = from_base64(lines.pop(0).removeprefix("extra "))
            entry = extra if entry is None else entry
        if entry is None:
            raise Invalid("the proof does not carry its record; give the record beside it")
        stated = lines.pop(0).removeprefix("index ") if lines and lines[0].startswith("index ") else ""
        path = [from_base64(line) for line in lines]
        if not is_decimal(stated) or not all(node is not None and len(node) == 32 for node in path):
            raise Invalid("a malformed tlog-proof")
        size, root = self.checkpoint(note)  # 2
        hashes = [node for node in path if node is not None]
        if not included(leaf_hash(entry), int(stated), size, root, hashes):  # 3
            raise Invalid(f"the record is not leaf {stated} of the signed tree of {size}")
        return f"record {_id_of(entry)} is leaf {stated} of the {size} that {self.origin} signed"

    def receipt(self, text: str) -> str:
        """Check a signed receipt; its lines are given back."""
        return ", ".join(open_note(text, self.origin, self._public).strip().split("\n"))

    def bundle(self, path: Path) -> str:
        """Check an exported bundle.

        1. Its checkpoint is signed.
        2. Every record's hash leads to the signed root, and no index comes twice.
        3. With an earlier checkpoint: it is signed, and the tree has only grown since.
        """
        with zipfile.ZipFile(path) as archive:
            size, root = self.checkpoint(_text(archive, "checkpoint"))  # 1
            seen: set[int] = set()
            for index, entry, hashes in _records(archive):  # 2
                if index in seen or not included(leaf_hash(entry), index, size, root, hashes):
                    raise Invalid(f"record {_id_of(entry)} is not leaf {index} of the signed tree of {size}")
                seen.add(index)
            if "earlier-checkpoint" not in archive.namelist():
                return f"{len(seen)} records of the {size} that {self.origin} signed"
            old_size, old_root = self.checkpoint(_text(archive, "earlier-checkpoint"))  # 3
            hashes = [_hash(node) for node in json.loads(_text(archive, "consistency.json"))]
            if not consistent(old_size, old_root, size, root, hashes):
                raise Invalid(f"the tree of {size} does not continue the one of {old_size} that was signed before")
            return f"{len(seen)} records of the {size} that {self.origin} signed, grown from {old_size}"

    def file(self, path: Path) -> str:
        """Check a bundle, a proof, a receipt or a checkpoint, whichever it is.

        Returns:
            What was shown, one line.

        Raises:
            Invalid: it does not hold.
        """
        try:
            if zipfile.is_zipfile(path):
                return self.bundle(path)
            text = path.read_text(encoding="utf-8")
            if text.startswith(PROOF_HEADER):
                return self.proof(text)
            if text.startswith("guardrails-receipt/"):
                return self.receipt(text)
            return f"{self.origin} signed a tree of {self.checkpoint(text)[0]}"
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
            raise Invalid(f"cannot be read: {error}") from error


def _records(archive: zipfile.ZipFile) -> Iterator[tuple[int, bytes, list[bytes]]]:
    with archive.open("records.jsonl") as lines:
        while line := lines.readline(_LARGEST_LINE):
            record = json.loads(line)
            if type(record["index"]) is not int:
                raise Invalid("an index is not a number")
            yield record["index"], record["entry"].encode(), [_hash(node) for node in record["path"]]


def _hash(text: str) -> bytes:
    data = from_base64(text)
    if data is None or len(data) != 32:
        raise Invalid("a hash is not 32 bytes in base64")
    return data


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        return file.read(_LARGEST_LINE).decode()


def _id_of(entry: bytes) -> str:
    record = json.loads(entry)
    return str(record.get("id")) if isinstance(record, dict) else "without id"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check bundles, proofs and receipts of a ledger, offline.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--vkey", required=True, help="the log's verifier key, or the file that holds it (log.vkey)")
    options = parser.parse_args()
    failed = 0
    try:
        vkey = Path(options.vkey).read_text(encoding="utf-8") if Path(options.vkey).is_file() else options.vkey
        auditor = Auditor(vkey)
    except (Invalid, OSError, ValueError) as error:
        print(f"INVALID  --vkey: {error}")
        return 2
    for path in options.files:
        try:
            print(f"OK       {path}: {auditor.file(path)}")
        except Invalid as error:
            failed += 1
            print(f"INVALID  {path}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
