"""The private part of a record, while the ledger still keeps it."""

from __future__ import annotations

from typing import Any

from guardrails.ledger import Ledger


def kept(ledger: Ledger | None, record_id: str) -> dict[str, Any]:
    """What was kept beside a record: prompt, findings, the place of its evidence; {} once it is erased."""
    return {} if ledger is None else dict(ledger.payload(record_id) or {})
