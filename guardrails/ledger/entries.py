"""A record as the bytes that the log hashes, and back."""

from __future__ import annotations

import json

from guardrails.domain.canonical import MAX_SAFE_INTEGER, canonical_json, to_plain
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import LedgerCorrupt

ENTRY_VERSION = 1


def encode_entry(record: Record) -> bytes:
    """Canonical JSON (RFC 8785) of the record with the version of this form in "v".

    Raises:
        ValueError, TypeError: a fact has no JSON form.
    """
    return canonical_json({"v": ENTRY_VERSION, **to_plain(record)})


def decode_entry(entry: bytes) -> Record:
    """The record whose entry this is; `encode_entry` of the result gives the same bytes.

    Raises:
        LedgerCorrupt: not an entry of this version.
    """
    try:
        fields = _READER.decode(entry.decode())
        version = fields.pop("v")
        if version != ENTRY_VERSION:
            raise LedgerCorrupt(f"entry of version {version}, expected {ENTRY_VERSION}", hint="update this software")
        kind, policy = RecordKind(fields.pop("kind")), PolicyRef(**fields.pop("policy"))
        return Record(kind=kind, policy=policy, **fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerCorrupt(f"an entry is not a record: {error}", hint="run fsck on the ledger") from error


def _parse_integer(digits: str) -> int | float:
    # Canonical JSON writes the double 1e20 without point or exponent, and no integer of that size.
    number = int(digits)
    return number if abs(number) <= MAX_SAFE_INTEGER else float(number)


_READER = json.JSONDecoder(parse_int=_parse_integer)
