"""What administrators change, by command line; every act is a record of the ledger before it takes effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guardrails.domain.records import RecordKind
from service.access.audit import Audit
from service.access.keys import ApiKeys
from service.access.persons import Persons
from service.access.secrets import Secrets
from service.access.tenants import Tenants
from service.acts import Act, Acts
from service.policies import Policies
from service.settings import Settings
from service.stores import Also, open_database
from service.takedowns import Takedowns

# Of the details of an act, what says nothing about a person.
_PUBLIC = ("policy", "policy_digest", "new_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """The tables that hold tenants, keys and accounts.

    Attributes:
        actor: who acts, for the record.
    """

    settings: Settings
    actor: str
    tenants: Tenants
    keys: ApiKeys
    persons: Persons
    audit: Audit
    acts: Acts
    takedowns: Takedowns

    @classmethod
    def open(cls, settings: Settings, actor: str) -> Administration:
        database = open_database(settings)
        secrets = Secrets.load_or_create(settings.folder)
        acts = Acts(settings, secrets, lambda: Policies(settings.policy_names).get().ref)
        return cls(
            settings=settings,
            actor=actor,
            tenants=Tenants(database),
            keys=ApiKeys(database, secrets),
            persons=Persons(database, secrets),
            audit=Audit(database),
            acts=acts,
            takedowns=Takedowns(database, acts, settings.assets),
        )

    def noting(self, action: str, subject: str, details: Mapping[str, object] | None = None) -> Also:
        """Writes an act down, as the last part of the transaction by which it takes effect.

        Args:
            action: for example "tenant.set".
            details: no secrets; policies and the ids of keys stand in the log in clear.
        """
        given = dict(details or {})
        facts = {name: str(given.pop(name)) for name in _PUBLIC if name in given}
        kind = RecordKind.POLICY_CHANGE if "policy" in facts else RecordKind.ADMINISTRATION
        if action.startswith("key."):
            kind, facts = RecordKind.KEY_CHANGE, {"key": subject, **facts}
        act = Act(kind=kind, name=action, actor=self.actor, subject=subject, facts=facts, details=given)
        return lambda transaction: self.acts.note(transaction, act)

    def digest_of(self, policy: str) -> str:
        """The digest of a pack that the settings name.

        Raises:
            OptionError: they do not.
        """
        return Policies(self.settings.policy_names).get(policy).digest
