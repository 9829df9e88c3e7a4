"""What people do, as records of the ledger: decisions on reviews, appeals, takedowns, changes of policies and of keys,
and other acts of administrators.

1. An act is checked inside the transaction by which it takes effect.
2. It becomes a record of the ledger, durable at once. Who acted, on what, and their words stand in it as salted
   commitments; they themselves are in its encrypted part, which can be erased.
3. A row of `audit`, which names the record, becomes durable together with the effect.

A crash between 2 and 3 leaves the record of an act that did not take effect, and that no row of `audit` names. Whoever
does the same again finds this record, by an id that only this installation can compute, and adds no second one.
"""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from guardrails.domain.canonical import Json, canonical_json
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import LedgerError
from guardrails.ledger import Ledger, commit
from service.access.audit import add_row
from service.access.secrets import Secrets
from service.settings import Settings
from service.stores import Transaction, open_ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that somebody does.

    Attributes:
        name: for example "review.release".
        actor: "person:<name>", "tenant:<id>", "key:<id>", "cli:<account>" or "service".
        subject: what it is done to; it and `details` are for the search and stand in no record in clear.
        facts: what everyone may read in the log: ids of records, outcomes, digests.
        words: of the actor; kept in the record's encrypted part alone.
        policy: in force; the installation's default when omitted.
    """

    kind: RecordKind
    name: str
    actor: str
    subject: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    words: str = ""
    policy: PolicyRef | None = None


class Acts:
    """Writes acts down; threads may share one.

    Args:
        policy: tells the installation's default policy.
    """

    def __init__(self, settings: Settings, secrets: Secrets, policy: Callable[[], PolicyRef]) -> None:
        self._settings = settings
        self._secrets = secrets
        self._policy = policy
        self._ledger: Ledger | None = None
        self._opening = threading.Lock()

    def note(self, transaction: Transaction, act: Act) -> None:
        """Record an act, as the last thing before the transaction ends by which it takes effect.

        Raises:
            LedgerError, StorageError: it cannot be recorded, and so it must not take effect.
        """
        row = transaction.one("SELECT COUNT(*) AS n FROM audit WHERE action = ? AND subject = ?", act.name, act.subject)
        record = self._record(act, earlier=0 if row is None else int(row["n"]))
        details = {**act.facts, **act.details, "record": record}
        add_row(transaction, act.actor, act.name, act.subject, details)

    def _record(self, act: Act, *, earlier: int) -> str:
        """The id of the act's record, which is in the ledger when this returns.

        Args:
            earlier: how often the same was done to the same before; equal acts after each other are several.
        """
        private = {"actor": act.actor, "subject": act.subject, "words": act.words, "details": _text(act.details)}
        told = [act.name, str(earlier), _text(act.facts), *itertools.chain(*private.items())]
        mac = bytes.fromhex(self._secrets.mac("act", *told))
        id, ledger = str(uuid.UUID(bytes=mac[:16], version=4)), self._opened()
        if not ledger.holds(id):
            sealed = {name: commit(name, value) for name, value in private.items() if value}
            record = Record(
                id=id,
                kind=act.kind,
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                policy=act.policy or self._policy(),
                commitments={name: digest for name, (digest, _) in sealed.items()},
                facts={"act": act.name, "by": act.actor.partition(":")[0], **act.facts},
            )
            payload = {"act": private, "salts": {name: salt for name, (_, salt) in sealed.items()}}
            try:
                ledger.append(record, payload)
            except LedgerError:
                # Another process may have done the same a moment ago.
                if not ledger.holds(id):
                    raise
        return id

    def _opened(self) -> Ledger:
        with self._opening:
            if self._ledger is None:
                self._ledger = open_ledger(self._settings)
            return self._ledger


def _text(values: Mapping[str, object]) -> str:
    return canonical_json(json.loads(json.dumps(values, default=str))).decode() if values else ""
