"""Reviews of what a policy holds back, and appeals against what it refused: people decide, and it is written down."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardrails.domain.records import RecordKind
from guardrails.errors import OptionError
from service.acts import Act, Acts
from service.jobs.model import Job
from service.jobs.outcomes import LISTED
from service.jobs.table import JobTable
from service.jobs.webhooks import enqueue_event
from service.stores import Database, Row, Transaction

# Two persons must agree before something that was held is released; one is enough to refuse it.
APPROVALS = 2
CLAIM_SECONDS = 900.0
APPEAL_SECONDS = 7 * 86400.0
LONGEST_TEXT = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a reviewer decided, and why.

    Attributes:
        release: True to release, False to refuse.
        category, rule: what it was about.
        reason: in the reviewer's own words.
    """

    release: bool
    category: str
    rule: str
    reason: str


class Reviews:
    """The queue of held requests."""

    def __init__(self, database: Database, table: JobTable, acts: Acts) -> None:
        self._database = database
        self._table = table
        self._acts = acts

    def waiting(self, limit: int = 100) -> list[Row]:
        """What waits for a decision, the oldest first."""
        rows = self._database.all("SELECT * FROM reviews WHERE status = 'open' ORDER BY created_at LIMIT ?", limit)
        return [{**row, "approvals": len(self._approvers(self._database, row["id"]))} for row in rows]

    def get(self, id: str) -> Row:
        """One review with its events.

        Raises:
            OptionError: there is none.
        """
        row = self._database.one("SELECT * FROM reviews WHERE id = ?", id)
        if row is None:
            raise OptionError("there is no such review", hint="see the queue")
        events = self._database.all("SELECT * FROM review_events WHERE review = ? ORDER BY id", id)
        return {**row, "findings": json.loads(row["findings"]), "events": events}

    def claim(self, id: str, person: str) -> Row:
        """Keep others from working on the same item for a while.

        Raises:
            OptionError: somebody else has it.
        """
        now = time.time()
        with self._database.transaction() as transaction:
            changed = transaction.run(
                "UPDATE reviews SET claimed_by = ?, claimed_until = ? WHERE id = ? AND status = 'open'"
                " AND (claimed_by = ? OR claimed_until < ?)",
                person,
                now + CLAIM_SECONDS,
                id,
                person,
                now,
            )
        row = self.get(id)
        if not changed and row["status"] == "open":
            raise OptionError(f"{row['claimed_by']} is at it", hint="take another one, or wait")
        return row

    def note(self, id: str, person: str, type: str) -> None:
        """Write down that a person did something, for example that they uncovered the picture."""
        with self._database.transaction() as transaction:
            _add_event(transaction, id, person, type)

    def decide(self, id: str, person: str, decision: Decision) -> str:
        """A reviewer's decision: a record of the ledger, then in force.

        Returns:
            "open" while another person is needed, else "released" or "refused".

        Raises:
            OptionError: decided already, no reason given, or this person has approved it before.
        """
        if not decision.reason.strip() or len(decision.reason) > LONGEST_TEXT:
            raise OptionError("a decision needs a reason", hint=f"write up to {LONGEST_TEXT} characters")
        with self._database.transaction() as transaction:
            row = transaction.one(
                f"SELECT * FROM reviews WHERE id = ? AND status = 'open'{self._database.locking}",  # noqa: S608
                id,
            )
            if row is None:
                raise OptionError("this review is decided already", hint="take another one")
            if row["claimed_by"] not in ("", person) and row["claimed_until"] > time.time():
                raise OptionError(f"{row['claimed_by']} is at it", hint="take another one, or wait")
            asked = transaction.one("SELECT api_key FROM jobs WHERE id = ?", row["job"])
            if asked is not None and asked["api_key"] == f"person:{person}":
                raise OptionError("nobody decides on their own request", hint="leave it to somebody else")
            if decision.release and row["stage"] == LISTED:
                raise OptionError("a picture on a hash list is never released", hint="write down what was done")
            if decision.release and person in self._approvers(transaction, id):
                raise OptionError("one person counts once", hint="a second person must look at it")
            _add_event(transaction, id, person, "release" if decision.release else "refuse", decision)
            approvers = self._approvers(transaction, id)
            status = "open"
            if not decision.release:
                status = "refused"
                self._table.reject(transaction, row["job"])
            elif len(approvers) >= APPROVALS:
                status = "released"
                self._release(transaction, row)
            # The prompt is not needed here once the decision has fallen.
            transaction.run(
                "UPDATE reviews SET status = ?, claimed_by = '', claimed_until = 0, decided_at = ?, prompt = ?"
                " WHERE id = ?",
                status,
                None if status == "open" else time.time(),
                row["prompt"] if status == "open" else "",
                id,
            )
            if status != "open":
                data = {"review_id": id, "job_id": row["job"], "outcome": status}
                enqueue_event(transaction, row["tenant"], "review.decided", data)
            self._acts.note(transaction, _decided(row, person, decision, status))
        return status

    def statistics(self) -> dict[str, Any]:
        """Items by status, seconds to a decision, and decisions by person and by rule."""
        rows = self._database.all("SELECT status, created_at, decided_at, findings FROM reviews")
        events = self._database.all("SELECT person, type FROM review_events WHERE type IN ('release', 'refuse')")
        by_rule: dict[str, list[int]] = {}
        for row in rows:
            for rule in {rule for entry in json.loads(row["findings"]) for rule in entry["rules"]}:
                counts = by_rule.setdefault(rule, [0, 0])
                counts[0] += row["status"] != "open"
                counts[1] += row["status"] == "released"
        seconds = sorted(row["decided_at"] - row["created_at"] for row in rows if row["decided_at"] is not None)
        return {
            "by_status": _counted(row["status"] for row in rows),
            "by_person": _counted(event["person"] for event in events),
            "overturned": {rule: {"decided": n, "released": k} for rule, (n, k) in sorted(by_rule.items())},
            "median_seconds": seconds[len(seconds) // 2] if seconds else None,
        }

    def _release(self, transaction: Transaction, row: Row) -> None:
        job = transaction.one("SELECT * FROM jobs WHERE id = ?", row["job"])
        if job is None:
            raise OptionError("the request is no longer kept", hint="ask the client to send it again")
        request = Job.from_row(job).request
        rules = {rule for entry in json.loads(row["findings"]) for rule in entry["rules"]}
        earlier = request.get("approval") or {}
        (first, *_) = json.loads(row["findings"])
        approval = {
            "review": row["id"],
            "rules": sorted({*earlier.get("rules", ()), *rules}),
            "pictures": sorted({*earlier.get("pictures", ()), *filter(None, [first.get("picture_sha256")])}),
            "seed": first.get("seed"),
        }
        if not self._table.resume(transaction, row["job"], {**request, "approval": approval}):
            raise OptionError("the request does not wait any more", hint="refuse it: the client has cancelled it")

    @staticmethod
    def _approvers(reader: Any, id: str) -> set[str]:
        rows = reader.all("SELECT person FROM review_events WHERE review = ? AND type = 'release'", id)
        return {row["person"] for row in rows}


class Appeals:
    """Threads between a tenant and the reviewers about one decision. Each message is a record of the ledger first."""

    def __init__(self, database: Database, acts: Acts) -> None:
        self._database = database
        self._acts = acts

    def open(self, decision: str, tenant: str, text: str) -> Row:
        """Begin an appeal, or go on with the one that is there.

        Raises:
            OptionError: no such decision of this tenant, or no text.
        """
        known = self._database.one("SELECT id FROM decisions WHERE id = ? AND tenant = ?", decision, tenant)
        if known is None:
            raise OptionError("there is no such decision", hint="use the decision_id of the refusal")
        # There is one appeal for each decision; after a crash the second try is to make the very same one.
        now, id = time.time(), f"apl_{hashlib.sha256(decision.encode()).hexdigest()[:24]}"
        with self._database.transaction() as transaction:
            is_new = transaction.run(
                "INSERT INTO appeals (id, decision, tenant, created_at, deadline, status, answered_at, answered_by)"
                " VALUES (?, ?, ?, ?, ?, 'open', NULL, '') ON CONFLICT DO NOTHING",
                id,
                decision,
                tenant,
                now,
                now + APPEAL_SECONDS,
            )
            row = transaction.one(f"SELECT * FROM appeals WHERE decision = ?{self._database.locking}", decision)  # noqa: S608
            assert row is not None
            self._add_message(transaction, row, f"tenant:{tenant}", text, "open" if is_new else "reply")
        return self.get(row["id"])

    def reply(self, id: str, author: str, text: str, *, tenant: str | None = None) -> Row:
        """Add to a thread; a tenant can also reopen a closed one by this."""
        self.get(id, tenant)
        with self._database.transaction() as transaction:
            row = self._locked(transaction, id)
            if tenant is not None:
                transaction.run("UPDATE appeals SET status = 'open' WHERE id = ? AND status <> 'open'", id)
            self._add_message(transaction, row, author, text, "reply")
        return self.get(id, tenant)

    def answer(self, id: str, person: str, outcome: str, text: str) -> Row:
        """Close an appeal: "upheld" leaves the refusal as it is, "overturned" says it was wrong.

        Raises:
            OptionError: another outcome, no text, or it is closed.
        """
        if outcome not in ("upheld", "overturned"):
            raise OptionError("an appeal is upheld or overturned", hint="choose one of them")
        self.get(id)
        with self._database.transaction() as transaction:
            row = self._locked(transaction, id)
            changed = transaction.run(
                "UPDATE appeals SET status = ?, answered_at = ?, answered_by = ? WHERE id = ? AND status = 'open'",
                outcome,
                time.time(),
                person,
                id,
            )
            if not changed:
                raise OptionError("this appeal is closed", hint="the tenant can reopen it with a reply")
            data = {"appeal_id": id, "decision_id": row["decision"], "outcome": outcome}
            enqueue_event(transaction, row["tenant"], "appeal.answered", data)
            self._add_message(transaction, row, f"person:{person}", text, outcome)
        return self.get(id)

    def get(self, id: str, tenant: str | None = None) -> Row:
        """One appeal with its thread.

        Raises:
            OptionError: there is none of this tenant.
        """
        row = self._database.one("SELECT * FROM appeals WHERE id = ?", id)
        if row is None or (tenant is not None and row["tenant"] != tenant):
            raise OptionError("there is no such appeal", hint="use the id that opening it gave")
        messages = self._database.all("SELECT * FROM appeal_messages WHERE appeal = ? ORDER BY seq", id)
        return {**row, "messages": messages}

    def waiting(self, limit: int = 100) -> list[Row]:
        """Open appeals, the nearest deadline first."""
        return self._database.all("SELECT * FROM appeals WHERE status = 'open' ORDER BY deadline LIMIT ?", limit)

    def statistics(self) -> dict[str, Any]:
        """Appeals by outcome, and by rule how often the refusal was overturned."""
        rows = self._database.all(
            "SELECT a.status AS status, a.created_at AS created_at, a.answered_at AS answered_at, d.rules AS rules"
            " FROM appeals a JOIN decisions d ON d.id = a.decision"
        )
        by_rule: dict[str, list[int]] = {}
        for row in rows:
            for rule in filter(None, row["rules"].split(",")):
                counts = by_rule.setdefault(rule, [0, 0])
                counts[0] += row["status"] in ("upheld", "overturned")
                counts[1] += row["status"] == "overturned"
        return {
            "by_status": _counted(row["status"] for row in rows),
            "overturned": {rule: {"answered": n, "overturned": k} for rule, (n, k) in sorted(by_rule.items())},
        }

    def _locked(self, transaction: Transaction, id: str) -> Row:
        """The appeal as it stands, which nobody else changes until the transaction ends."""
        row = transaction.one(f"SELECT * FROM appeals WHERE id = ?{self._database.locking}", id)  # noqa: S608
        if row is None:
            raise OptionError("there is no such appeal", hint="use the id that opening it gave")
        return row

    def _add_message(self, transaction: Transaction, appeal: Row, author: str, text: str, act: str) -> None:
        """The last thing in a transaction: what it writes to the ledger stays there."""
        _add_message(transaction, appeal["id"], author, text)
        facts = {"appeal": appeal["id"], "decision": appeal["decision"]}
        self._acts.note(
            transaction,
            Act(
                kind=RecordKind.APPEAL,
                name=f"appeal.{act}",
                actor=author,
                subject=appeal["decision"],
                facts=facts,
                words=text,
            ),
        )


def _decided(row: Row, person: str, decision: Decision, status: str) -> Act:
    """A decision as an act; only names that the policy gave stand in clear."""
    findings = json.loads(row["findings"])
    known = {
        "category": {name for entry in findings for name in entry["categories"]},
        "rule": {rule for entry in findings for rule in entry["rules"]},
    }
    chosen = {"category": decision.category, "rule": decision.rule}
    return Act(
        kind=RecordKind.REVIEW,
        name="review.release" if decision.release else "review.refuse",
        actor=f"person:{person}",
        subject=row["id"],
        facts={
            "decision": row["id"],
            "outcome": status,
            **{name: value for name, value in chosen.items() if value in known[name]},
        },
        words=decision.reason,
    )


def _add_event(transaction: Transaction, review: str, person: str, type: str, decision: Decision | None = None) -> None:
    transaction.run(
        "INSERT INTO review_events (review, at, person, type, category, rule, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
        review,
        time.time(),
        person,
        type,
        decision.category if decision else "",
        decision.rule if decision else "",
        decision.reason if decision else "",
    )


def _add_message(transaction: Transaction, appeal: str, author: str, text: str) -> None:
    if not text.strip() or len(text) > LONGEST_TEXT:
        raise OptionError("a message needs a text", hint=f"write up to {LONGEST_TEXT} characters")
    transaction.run(
        "INSERT INTO appeal_messages (appeal, seq, at, author, text)"
        " SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ? FROM appeal_messages WHERE appeal = ?",
        appeal,
        time.time(),
        author,
        text,
        appeal,
    )


def _counted(values: Any) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
