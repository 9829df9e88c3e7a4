"""Signed receipts: what a log owes for a record that is durable and waits for its place.

A receipt is a signed note (C2SP signed-note) by the log's key. Its first line keeps it apart from a checkpoint, which
starts with the log's name and has three lines::

    guardrails-receipt/v1
    origin guardrails.local/log
    record 6f0c7b0e-...
    leaf <base64 of the leaf hash>
    issued 2026-11-24T08:00:00.000Z
    max-merge-delay 5

Whoever holds one can show, after that delay, that the log has broken its word; compare RFC 6962 section 3.2.
"""

from __future__ import annotations

from datetime import UTC, datetime

from guardrails.domain.records import Receipt
from guardrails.errors import LedgerCorrupt
from guardrails.ledger.notes import NoteSigner, NoteVerifier
from guardrails.ledger.offline import from_base64, is_decimal, to_base64

HEADER = "guardrails-receipt/v1"
_NAMES = ("origin", "record", "leaf", "issued", "max-merge-delay")


def now() -> str:
    """RFC 3339 UTC with milliseconds, as records and receipts write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def issue_receipt(
    signer: NoteSigner, record_id: str, leaf: bytes, *, index: int | None, checkpoint: str, max_merge_delay: int
) -> Receipt:
    """Promise, from now on, that the record with this leaf hash stands in the tree within `max_merge_delay` seconds."""
    issued_at = now()
    values = (signer.verifier.name, record_id, to_base64(leaf), issued_at, str(max_merge_delay))
    lines = (HEADER, *(f"{name} {value}" for name, value in zip(_NAMES, values, strict=True)))
    return Receipt(
        record_id=record_id,
        leaf_hash=leaf,
        issued_at=issued_at,
        max_merge_delay=max_merge_delay,
        note=signer.sign("\n".join(lines) + "\n"),
        index=index,
        checkpoint=checkpoint,
    )


def read_receipt(note: str, verifier: NoteVerifier) -> Receipt:
    """The receipt in a note, its signature checked.

    Raises:
        LedgerCorrupt: not a receipt, or not signed by this log.
    """
    header, *lines = verifier.verify(note).rstrip("\n").split("\n")
    names, values = [line.partition(" ")[0] for line in lines], [line.partition(" ")[2] for line in lines]
    if header != HEADER or tuple(names) != _NAMES:
        raise LedgerCorrupt("this is not a receipt", hint="the first line of a receipt is " + HEADER)
    origin, record_id, encoded, issued_at, delay = values
    leaf = from_base64(encoded)
    if origin != verifier.name or leaf is None or len(leaf) != 32 or not is_decimal(delay):
        raise LedgerCorrupt("the receipt is malformed", hint="get the receipt again from the log")
    return Receipt(record_id=record_id, leaf_hash=leaf, issued_at=issued_at, max_merge_delay=int(delay), note=note)
