"""Which packs decide and which key signs: a record of the ledger whenever that is not what it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from guardrails.domain.records import RecordKind
from service.acts import Act, Acts
from service.policies import Policies
from service.stores import Database

_ACTOR = "service"


def note_standing(database: Database, acts: Acts, policies: Policies, chain: bytes) -> None:
    """Record what changed since it was recorded last; to be called before anything is decided or signed by it.

    Args:
        chain: PEM certificates of the key that signs, leaf first.
    """
    for act in _standing(policies, chain):
        # Several processes start at once: what one has recorded, the next one finds.
        with database.transaction() as transaction:
            last = transaction.one(
                "SELECT details FROM audit WHERE action = ? AND subject = ? ORDER BY id DESC LIMIT 1",
                act.name,
                act.subject,
            )
            known = {} if last is None else json.loads(last["details"])
            if act.facts != {name: known.get(name) for name in act.facts}:
                acts.note(transaction, act)


def _standing(policies: Policies, chain: bytes) -> Iterator[Act]:
    for name, policy in policies.all.items():
        yield Act(
            kind=RecordKind.POLICY_CHANGE,
            name="policy.active",
            actor=_ACTOR,
            subject=name,
            facts={"policy": policy.ref.id, "policy_version": policy.ref.version, "policy_digest": policy.digest},
            policy=policy.ref,
        )
    digest = hashlib.sha256(chain).hexdigest()
    yield Act(
        kind=RecordKind.KEY_CHANGE,
        name="key.active",
        actor=_ACTOR,
        subject="signing",
        facts={"certificates_sha256": digest},
    )
