"""API keys: shown once, kept as a keyed digest, found by a public prefix."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from guardrails.errors import OptionError
from service.access.secrets import Secrets
from service.stores import Also, Database, Row, Transaction

SCOPES = ("generate", "moderate", "verify", "review", "admin", "report")
PREFIX = "sk-"
_PURPOSE = "api-key"
_ID_DIGITS = 12
# A leaked key that expires at once would stop a client in the middle of its work.
ROTATION_OVERLAP = 86400.0
_LAST_USE_GRAIN = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of a key.

    Attributes:
        id: its public beginning; stands in records and logs.
        expires_at: None is never; in the past is revoked.
    """

    id: str
    tenant: str
    name: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None
    last_used_at: float | None

    def is_good(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


class ApiKeys:
    """The table of keys."""

    def __init__(self, database: Database, secrets_: Secrets) -> None:
        self._database = database
        self._secrets = secrets_

    def create(
        self,
        tenant: str,
        scopes: tuple[str, ...],
        *,
        name: str = "",
        days: float | None = None,
        id: str = "",
        also: Also | None = None,
    ) -> tuple[str, ApiKey]:
        """A new key and what is kept of it; the key itself cannot be had again.

        Args:
            id: from `new_id`, for whoever has to name it before it is there.
            also: what it writes is part of the same transaction.

        Raises:
            OptionError: an unknown scope.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise OptionError(f"no such scope: {', '.join(unknown) or 'none given'}", hint=f"of {', '.join(SCOPES)}")
        with self._database.transaction() as transaction:
            id = id or self.new_id()
            written = self._add(transaction, id, tenant, scopes, name, days)
            if also is not None:
                also(transaction)
        return written, self.get(id)

    @staticmethod
    def new_id() -> str:
        """An id for a key that is not there yet."""
        return secrets.token_hex(_ID_DIGITS // 2)

    def get(self, id: str) -> ApiKey:
        """Raises OptionError when there is no such key."""
        row = self._database.one("SELECT * FROM api_keys WHERE id = ?", id)
        if row is None:
            raise OptionError(f"there is no key {id}", hint="see `guardrails admin key list`")
        return _key(row)

    def all(self, tenant: str = "") -> list[ApiKey]:
        rows = self._database.all("SELECT * FROM api_keys ORDER BY tenant, created_at")
        return [_key(row) for row in rows if not tenant or row["tenant"] == tenant]

    def find(self, written: str) -> ApiKey | None:
        """The key that a client showed; None when it is none of ours, or is no longer good."""
        id = written.removeprefix(PREFIX)[:_ID_DIGITS]
        row = self._database.one("SELECT * FROM api_keys WHERE id = ?", id)
        # An unknown id takes as long as a wrong key.
        if not self._secrets.fits("" if row is None else row["mac"], _PURPOSE, written) or row is None:
            return None
        key = _key(row)
        return key if key.is_good(time.time()) else None

    def rotate(
        self, id: str, overlap: float = ROTATION_OVERLAP, *, new_id: str = "", also: Also | None = None
    ) -> tuple[str, ApiKey]:
        """A new key like this one; the old one stays good for `overlap` seconds. The rest is as for `create`."""
        old = self.get(id)
        remaining = None if old.expires_at is None else max(0.0, (old.expires_at - old.created_at) / 86400)
        with self._database.transaction() as transaction:
            new_id = new_id or self.new_id()
            written = self._add(transaction, new_id, old.tenant, tuple(old.scopes), old.name, remaining)
            _expire(transaction, id, time.time() + overlap)
            if also is not None:
                also(transaction)
        return written, self.get(new_id)

    def expire(self, id: str, at: float, *, also: Also | None = None) -> ApiKey:
        """Let a key end; never later than it would have. What `also` writes is part of the same transaction."""
        self.get(id)
        with self._database.transaction() as transaction:
            _expire(transaction, id, at)
            if also is not None:
                also(transaction)
        return self.get(id)

    def touch(self, key: ApiKey, now: float) -> None:
        """Note that a key was used, at most once a minute."""
        if key.last_used_at is not None and now - key.last_used_at < _LAST_USE_GRAIN:
            return
        with self._database.transaction() as transaction:
            transaction.run("UPDATE api_keys SET last_used_at = ? WHERE id = ?", now, key.id)

    def _add(
        self, transaction: Transaction, id: str, tenant: str, scopes: tuple[str, ...], name: str, days: float | None
    ) -> str:
        """The key as it is shown once."""
        now = time.time()
        written = f"{PREFIX}{id}-{secrets.token_urlsafe(32)}"
        transaction.run(
            "INSERT INTO api_keys (id, tenant, mac, name, scopes, created_at, expires_at, last_used_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            id,
            tenant,
            self._secrets.mac(_PURPOSE, written),
            name,
            ",".join(sorted(set(scopes))),
            now,
            None if days is None else now + days * 86400,
        )
        return written


def _expire(transaction: Transaction, id: str, at: float) -> None:
    transaction.run(
        "UPDATE api_keys SET expires_at = ? WHERE id = ? AND (expires_at IS NULL OR expires_at > ?)", at, id, at
    )


def _key(row: Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        scopes=frozenset(row["scopes"].split(",")),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )
