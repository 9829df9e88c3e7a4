"""Administrative acts: who did what to whom, kept for good."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from service.stores import Database, Row, Transaction


class Audit:
    """The table of acts; rows are only ever added."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, actor: str, action: str, subject: str, details: Mapping[str, object] | None = None) -> None:
        """Record one act, durably.

        Args:
            actor: "cli:<account>", "person:<name>" or "key:<id>".
            action: for example "key.rotate".
            details: no secrets and no prompts.
        """
        with self._database.transaction() as transaction:
            add_row(transaction, actor, action, subject, details or {})

    def newest(self, count: int = 100) -> list[Row]:
        rows = self._database.all("SELECT * FROM audit ORDER BY id DESC LIMIT ?", count)
        return [{**row, "details": json.loads(row["details"])} for row in rows]


def add_row(transaction: Transaction, actor: str, action: str, subject: str, details: Mapping[str, object]) -> None:
    """Record one act as a part of a transaction."""
    transaction.run(
        "INSERT INTO audit (at, actor, action, subject, details) VALUES (?, ?, ?, ?, ?)",
        time.time(),
        actor,
        action,
        subject,
        json.dumps(details, sort_keys=True, default=str),
    )
