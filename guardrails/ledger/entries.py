"""A record as the bytes that the log hashes, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple

from guardrails.domain.canonical import MAX_SAFE_INTEGER, canonical_json
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import LedgerCorrupt

ENTRY_VERSION = 2

_FIELDS = tuple(field.name for field in dataclasses.fields(Record))


class Names(NamedTuple):
    """What a record is found by; the store keeps these beside the entry that says them."""

    record_id: str
    kind: str
    created_at: str
    mark_id: str
    manifest_id: str
    image_sha256: str

    @classmethod
    def of(cls, record: Record) -> Names:
        return cls(
            record.id, record.kind.value, record.created_at, record.mark_id, record.manifest_id, record.image_sha256
        )


def encode_entry(record: Record, payload_sha256: str = "") -> bytes:
    """Canonical JSON (RFC 8785) of the record, with the version of this form in "v".

    Args:
        payload_sha256: digest of the encrypted payload that is kept beside it, "" for none; so the log binds the
            payload, and shows nothing of it once it is erased.

    Raises:
        ValueError, TypeError: a fact has no JSON form.
    """
    fields = {name: getattr(record, name) for name in _FIELDS}
    return canonical_json({"v": ENTRY_VERSION, "payload": payload_sha256, **fields})


def decode_entry(entry: bytes) -> tuple[Record, str]:
    """The record and the payload's digest; `encode_entry` of both gives the same bytes.

    Raises:
        LedgerCorrupt: not an entry of this version.
    """
    try:
        fields = _READER.decode(entry.decode())
        version, payload_sha256 = fields.pop("v"), fields.pop("payload")
        if version != ENTRY_VERSION:
            raise LedgerCorrupt(f"entry of version {version}, expected {ENTRY_VERSION}", hint="update this software")
        kind, policy = RecordKind(fields.pop("kind")), PolicyRef(**fields.pop("policy"))
        return Record(kind=kind, policy=policy, **fields), payload_sha256
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerCorrupt(f"an entry is not a record: {error}", hint="run fsck on the ledger") from error


def named_payload(entry: bytes, names: Sequence[str]) -> str | None:
    """The payload's digest, or None when the entry does not say these names.

    The same as decoding the entry, in a fraction of the time where no name needs an escape and no `}` or `{` stands in
    a commitment or in the policy: the members of canonical JSON are sorted, so the names stand between the commitments,
    the facts and the policy in one order, and no quote in them can be part of a string.

    Args:
        names: in the order of `Names`.

    Raises:
        LedgerCorrupt: not an entry of this version.
    """
    record_id, kind, created_at, mark_id, manifest_id, image_sha256 = names
    text, end = "".join(names), entry.rfind(b"{") - len(_POLICY)
    if (
        '"' not in text
        and "\\" not in text
        and entry.startswith(_POLICY, end)
        and entry.startswith(f'}},"created_at":"{created_at}","facts":'.encode(), entry.find(b"}"))
    ):
        said = (
            f',"id":"{record_id}","image_sha256":"{image_sha256}","kind":"{kind}"'
            f',"manifest_id":"{manifest_id}","mark_id":"{mark_id}","payload":"'
        ).encode()
        if entry.endswith(said, 0, end):
            return ""
        if entry.endswith(said, 0, end - _DIGEST_LENGTH):
            return entry[end - _DIGEST_LENGTH : end].decode()
    record, payload_sha256 = decode_entry(entry)
    return payload_sha256 if Names.of(record) == tuple(names) else None


_POLICY = b'","policy":'
_DIGEST_LENGTH = 64


def _parse_integer(digits: str) -> int | float:
    # Canonical JSON writes the double 1e20 without point or exponent, and no integer of that size.
    number = int(digits)
    return number if abs(number) <= MAX_SAFE_INTEGER else float(number)


_READER = json.JSONDecoder(parse_int=_parse_integer)
