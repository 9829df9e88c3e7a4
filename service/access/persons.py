"""Persons who sign in to the pages: passwords, roles, sessions."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass

from guardrails.errors import OptionError
from service.access.secrets import Secrets
from service.stores import Also, Database

ROLES = ("playground", "reviewer", "auditor", "admin")
SHORTEST_PASSWORD = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# RFC 7914 parameters by OWASP's advice (2024): 64 MiB a try.
_SCRYPT = {"n": 1 << 16, "r": 8, "p": 1, "maxmem": 128 << 20}
_NOBODY = "00" * 16 + "$" + "00" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account; `may` tells what for."""

    id: str
    roles: frozenset[str]
    disabled: bool = False

    def may(self, role: str) -> bool:
        return role in self.roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A person who is signed in; `csrf` stands in every form that this person is shown."""

    id: str
    person: Person
    csrf: str


class Persons:
    """The tables of persons and of their sessions."""

    def __init__(self, database: Database, secrets_: Secrets) -> None:
        self._database = database
        self._secrets = secrets_

    def add(self, id: str, password: str, roles: tuple[str, ...], *, also: Also | None = None) -> Person:
        """A new account; what `also` writes is part of the same transaction.

        Raises:
            OptionError: the name is taken, a role is unknown, or the password is too short.
        """
        if not _NAME.fullmatch(id):
            raise OptionError(f"{id!r} is no name of an account", hint="small letters, digits, dots and dashes")
        if not roles or set(roles) - set(ROLES):
            raise OptionError("no such role", hint=f"of {', '.join(ROLES)}")
        with self._database.transaction() as transaction:
            added = transaction.run(
                "INSERT INTO users (id, password, roles, created_at, disabled) VALUES (?, ?, ?, ?, 0)"
                " ON CONFLICT DO NOTHING",
                id,
                _hashed(password),
                ",".join(sorted(set(roles))),
                time.time(),
            )
            if not added:
                raise OptionError(f"there is an account {id} already", hint="choose another name")
            if also is not None:
                also(transaction)
        return Person(id=id, roles=frozenset(roles))

    def set_password(self, id: str, password: str, *, also: Also | None = None) -> None:
        """Change the password and end every session of this person; `also` is as for `add`."""
        self.get(id)
        with self._database.transaction() as transaction:
            transaction.run("UPDATE users SET password = ? WHERE id = ?", _hashed(password), id)
            transaction.run("DELETE FROM sessions WHERE person = ?", id)
            if also is not None:
                also(transaction)

    def disable(self, id: str, *, also: Also | None = None) -> None:
        """Lock the account and end its sessions; `also` is as for `add`."""
        self.get(id)
        with self._database.transaction() as transaction:
            transaction.run("UPDATE users SET disabled = 1 WHERE id = ?", id)
            transaction.run("DELETE FROM sessions WHERE person = ?", id)
            if also is not None:
                also(transaction)

    def get(self, id: str) -> Person:
        """Raises OptionError when there is nobody of this name."""
        row = self._database.one("SELECT id, roles, disabled FROM users WHERE id = ?", id)
        if row is None:
            raise OptionError(f"there is no account {id}", hint="see `guardrails admin user list`")
        return Person(id=id, roles=frozenset(row["roles"].split(",")), disabled=bool(row["disabled"]))

    def all(self) -> list[Person]:
        return [self.get(row["id"]) for row in self._database.all("SELECT id FROM users ORDER BY id")]

    def sign_in(self, id: str, password: str, seconds: float) -> str | None:
        """The token of a new session, for a cookie; None when name or password are wrong."""
        row = self._database.one("SELECT password, disabled FROM users WHERE id = ?", id)
        # A name that does not exist costs as much time as a wrong password.
        right = _fits(password, _NOBODY if row is None else row["password"])
        if row is None or row["disabled"] or not right:
            return None
        token, now = secrets.token_urlsafe(32), time.time()
        with self._database.transaction() as transaction:
            transaction.run("DELETE FROM sessions WHERE expires_at < ?", now)
            transaction.run(
                "INSERT INTO sessions (id, person, created_at, expires_at) VALUES (?, ?, ?, ?)",
                self._secrets.mac("session", token),
                id,
                now,
                now + seconds,
            )
        return token

    def session(self, token: str) -> Session | None:
        """The session of a cookie; None when there is none, or it is over."""
        id = self._secrets.mac("session", token)
        row = self._database.one("SELECT person, expires_at FROM sessions WHERE id = ?", id)
        if row is None or row["expires_at"] < time.time():
            return None
        person = self.get(row["person"])
        return None if person.disabled else Session(id=id, person=person, csrf=self._secrets.mac("csrf", token))

    def sign_out(self, token: str) -> None:
        with self._database.transaction() as transaction:
            transaction.run("DELETE FROM sessions WHERE id = ?", self._secrets.mac("session", token))


def _hashed(password: str) -> str:
    if len(password) < SHORTEST_PASSWORD:
        raise OptionError("the password is too short", hint=f"at least {SHORTEST_PASSWORD} characters")
    salt = os.urandom(16)
    return f"{salt.hex()}${_scrypt(password, salt).hex()}"


def _fits(password: str, stored: str) -> bool:
    salt, _, digest = stored.partition("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)
