"""What administrators change, by command line; every act is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.access.audit import Audit
from service.access.keys import ApiKeys
from service.access.persons import Persons
from service.access.secrets import Secrets
from service.access.tenants import Tenants
from service.policies import Policies
from service.settings import Settings
from service.stores import open_database


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

    @classmethod
    def open(cls, settings: Settings, actor: str) -> Administration:
        database = open_database(settings)
        secrets = Secrets.load_or_create(settings.folder)
        return cls(
            settings=settings,
            actor=actor,
            tenants=Tenants(database),
            keys=ApiKeys(database, secrets),
            persons=Persons(database, secrets),
            audit=Audit(database),
        )

    def note(self, action: str, subject: str, details: Mapping[str, object] | None = None) -> None:
        self.audit.note(self.actor, action, subject, details)

    def digest_of(self, policy: str) -> str:
        """The digest of a pack that the settings name.

        Raises:
            OptionError: they do not.
        """
        return Policies(self.settings.policy_names).get(policy).digest
