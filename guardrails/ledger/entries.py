"""A record as the bytes that the log hashes, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass

from guardrails.domain.canonical import MAX_SAFE_INTEGER, canonical_json, to_plain
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import LedgerCorrupt

ENTRY_VERSION = 2

_quote = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
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
            record_id=record.id,
            kind=record.kind.value,
            created_at=record.created_at,
            mark_id=record.mark_id,
            manifest_id=record.manifest_id,
            image_sha256=record.image_sha256,
        )


def encode_entry(record: Record, payload_sha256: str = "") -> bytes:
    """Canonical JSON (RFC 8785) of the record, with the version of this form in "v".

    Args:
        payload_sha256: digest of the encrypted payload that is kept beside it, "" for none; so the log binds the
            payload, and shows nothing of it once it is erased.

    Raises:
        ValueError, TypeError: a fact has no JSON form.
    """
    return canonical_json({"v": ENTRY_VERSION, "payload": payload_sha256, **to_plain(record)})


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


def says(entry: bytes, names: Names) -> bool:
    """Does the entry say these names? Ten times as fast as decoding it, and as strict.

    The members of canonical JSON are sorted, and a quote inside a string is escaped. So the first `},"created_at":`
    ends the commitments, which hold strings only; and the last `,"payload":` stands before members that hold no other.
    """
    head = entry.partition(b'},"created_at":')[2]
    tail = entry.rpartition(b',"payload":')[0]
    return head.startswith(f'{_quote(names.created_at)},"facts":'.encode()) and tail.endswith(
        f',"id":{_quote(names.record_id)},"image_sha256":{_quote(names.image_sha256)},"kind":{_quote(names.kind)},'
        f'"manifest_id":{_quote(names.manifest_id)},"mark_id":{_quote(names.mark_id)}'.encode()
    )


def payload_digest(entry: bytes) -> str:
    """The digest of the payload that an entry names, without decoding the rest."""
    return entry.rpartition(b',"payload":"')[2].partition(b'"')[0].decode()


def _parse_integer(digits: str) -> int | float:
    # Canonical JSON writes the double 1e20 without point or exponent, and no integer of that size.
    number = int(digits)
    return number if abs(number) <= MAX_SAFE_INTEGER else float(number)


_READER = json.JSONDecoder(parse_int=_parse_integer)
