"""Tenants: who asks, under which policy, and how much."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardrails.errors import OptionError
from guardrails.policy.labelling import wanted_labels
from service.stores import Also, Database, Row, Transaction

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One customer of the service.

    Attributes:
        policy: name of the pack that it is bound to; "" for the service's default.
        policy_digest: SHA-256 that the pack must have; a pack of this name with another content is refused.
        jurisdiction: ISO 3166 code of where its pictures are asked for; "" applies the rules of all.
        labels: ids of jurisdiction profiles whose visible label all of its pictures get.
        requests_per_minute, images_per_day, concurrent_jobs: limits; 0 is none.
        webhook_url: where events are sent; "" for nowhere.
        webhook_secrets: sign them, the newest first; two while they are rotated.
    """

    id: str
    name: str
    created_at: float
    suspended: bool = False
    policy: str = ""
    policy_digest: str = ""
    jurisdiction: str = ""
    labels: tuple[str, ...] = ()
    requests_per_minute: int = 0
    images_per_day: int = 0
    concurrent_jobs: int = 0
    webhook_url: str = ""
    webhook_secrets: tuple[str, ...] = ()


# The fields that an administrator may change.
CHANGEABLE = (
    "name",
    "suspended",
    "policy",
    "policy_digest",
    "jurisdiction",
    "labels",
    "requests_per_minute",
    "images_per_day",
    "concurrent_jobs",
    "webhook_url",
    "webhook_secrets",
)

LOCAL = Tenant(id="local", name="everyone on this machine", created_at=0.0)


class Tenants:
    """The table of tenants and of what they used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, id: str, name: str = "", *, also: Also | None = None, **settings: Any) -> Tenant:
        """A new tenant; what `also` writes is part of the same transaction.

        Raises:
            OptionError: the id is taken or no plain name.
        """
        if not _NAME.fullmatch(id):
            raise OptionError(f"{id!r} is no id of a tenant", hint="small letters, digits and dashes")
        _check_fields(settings)
        with self._database.transaction() as transaction:
            added = transaction.run(
                "INSERT INTO tenants (id, name, created_at, suspended, policy, policy_digest, jurisdiction, labels,"
                " requests_per_minute, images_per_day, concurrent_jobs, webhook_url, webhook_secrets)"
                " VALUES (?, ?, ?, 0, '', '', '', '[]', 0, 0, 0, '', '[]') ON CONFLICT DO NOTHING",
                id,
                name or id,
                time.time(),
            )
            if not added:
                raise OptionError(f"there is a tenant {id} already", hint="choose another id")
            _set(transaction, id, settings)
            if also is not None:
                also(transaction)
        return self.get(id)

    def change(self, id: str, *, also: Also | None = None, **settings: Any) -> Tenant:
        """Set fields of a tenant; what `also` writes is part of the same transaction.

        Raises:
            OptionError: no such tenant, field, label, or jurisdiction.
        """
        _check_fields(settings)
        self.get(id)
        with self._database.transaction() as transaction:
            _set(transaction, id, settings)
            if also is not None:
                also(transaction)
        return self.get(id)

    def get(self, id: str) -> Tenant:
        """The tenant with this id.

        Raises:
            OptionError: there is none.
        """
        row = self._database.one("SELECT * FROM tenants WHERE id = ?", id)
        if row is not None:
            return _tenant(row)
        if id == LOCAL.id:
            return LOCAL
        raise OptionError(f"there is no tenant {id}", hint="see `guardrails admin tenant list`")

    def all(self) -> list[Tenant]:
        return [_tenant(row) for row in self._database.all("SELECT * FROM tenants ORDER BY id")]

    def images_on(self, id: str, day: str) -> int:
        """How many pictures a tenant asked for on a day (ISO 8601, UTC)."""
        row = self._database.one("SELECT images FROM usage WHERE tenant = ? AND day = ?", id, day)
        return 0 if row is None else int(row["images"])


def _check_fields(settings: Mapping[str, Any]) -> None:
    unknown = sorted(set(settings) - set(CHANGEABLE))
    if unknown:
        raise OptionError(f"a tenant has no field {unknown[0]}", hint=f"one of {', '.join(CHANGEABLE)}")
    wanted_labels(settings.get("jurisdiction", ""), settings.get("labels", ()))


def _set(transaction: Transaction, id: str, settings: Mapping[str, object]) -> None:
    columns = ", ".join(f"{name} = ?" for name in settings)
    if settings:
        # The names are checked ones.
        transaction.run(f"UPDATE tenants SET {columns} WHERE id = ?", *map(_stored, settings.values()), id)  # noqa: S608


def _stored(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return json.dumps(list(value)) if isinstance(value, tuple | list) else value


def _tenant(row: Row) -> Tenant:
    lists = {name: tuple(json.loads(row[name])) for name in ("labels", "webhook_secrets")}
    return Tenant(**{**row, **lists, "suspended": bool(row["suspended"])})
