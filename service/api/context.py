"""What all handlers share, made once for each API process. It holds no key that signs pictures."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from guardrails import home as homes
from guardrails.audit import Auditor
from guardrails.ledger import Ledger
from guardrails.policy import Policy
from guardrails.prompts import PromptGuard
from guardrails.screens import Screen
from guardrails.similarity.banks import Banks
from guardrails.similarity.exploring import Explorer
from guardrails.similarity.hash_lists import HashLists
from service.access.audit import Audit
from service.access.keys import ApiKey, ApiKeys
from service.access.limits import RateLimiter
from service.access.persons import Persons
from service.access.secrets import Secrets
from service.access.tenants import Tenant, Tenants
from service.acts import Acts
from service.api.waiting import Waiter
from service.batches.files import Files
from service.batches.table import BatchTable
from service.jobs.signer import SignerClient, operators_trust
from service.jobs.table import JobTable
from service.naming import named
from service.policies import Policies
from service.review import Appeals, Reviews
from service.settings import Settings
from service.stores import Database, open_database, open_ledger
from service.takedowns import Takedowns

# How long a key or tenant that was changed may still be seen as it was.
_CACHE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what for they may."""

    tenant: Tenant
    key: str
    scopes: frozenset[str]


@dataclass(slots=True)
class Context:
    """The parts of the service."""

    settings: Settings
    database: Database
    secrets: Secrets
    table: JobTable
    tenants: Tenants
    keys: ApiKeys
    persons: Persons
    audit: Audit
    policies: Policies
    limiter: RateLimiter
    waiter: Waiter
    reviews: Reviews
    appeals: Appeals
    takedowns: Takedowns
    files: Files
    batches: BatchTable
    signer: SignerClient
    hash_lists: HashLists
    draining: bool = False
    _callers: dict[str, tuple[float, ApiKey, Tenant]] = field(default_factory=dict)
    _guards: dict[str, PromptGuard] = field(default_factory=dict)
    _screens: tuple[Screen, ...] | None = None
    _explorer: Explorer | None = None
    _auditor: Auditor | None = None
    _ledger: Ledger | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, settings: Settings) -> Context:
        """The parts as the settings want them."""
        database = open_database(settings)
        secrets = Secrets.load_or_create(settings.folder)
        table = JobTable(database, lease_seconds=settings.lease_seconds, max_attempts=settings.max_attempts)
        policies = Policies(settings.policy_names)
        acts = Acts(settings, secrets, lambda: policies.get().ref)
        settings.assets.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(
            settings=settings,
            database=database,
            secrets=secrets,
            table=table,
            tenants=Tenants(database),
            keys=ApiKeys(database, secrets),
            persons=Persons(database, secrets),
            audit=Audit(database),
            policies=policies,
            limiter=RateLimiter(database, secrets),
            waiter=Waiter(table),
            reviews=Reviews(database, table, acts),
            appeals=Appeals(database, acts),
            takedowns=Takedowns(database, acts, settings.assets),
            files=Files(database, settings.files),
            batches=BatchTable(database),
            signer=SignerClient(settings.signer_socket),
            hash_lists=HashLists(homes.hash_lists_folder(settings.home)),
        )

    def caller(self, written: str) -> tuple[ApiKey, Tenant] | None:
        """The key that a client showed and its tenant; None when it is none of ours."""
        id = self.secrets.mac("cache", written)
        key = self.keys.find(written)
        if key is None:
            self._callers.pop(id, None)
            return None
        tenant = self.tenants.get(key.tenant)
        self.keys.touch(key, time.time())
        if len(self._callers) > 10_000:
            self._callers.clear()
        self._callers[id] = (time.monotonic(), key, tenant)
        return key, tenant

    def known(self, written: str) -> tuple[ApiKey, Tenant] | None:
        """As `caller`, from memory alone; None when it has not been looked up lately."""
        known = self._callers.get(self.secrets.mac("cache", written))
        if known is None or time.monotonic() - known[0] > _CACHE_SECONDS or not known[1].is_good(time.time()):
            return None
        return known[1], known[2]

    def policy_of(self, tenant: Tenant, name: str = "") -> tuple[str, Policy]:
        """Name and pack that decide for a tenant; `name` only when the tenant is bound to none."""
        chosen = tenant.policy or name or self.settings.policy
        return chosen, self.policies.get(chosen, tenant.policy_digest if tenant.policy else "")

    def prompt_guard(self, policy: Policy, *, words_only: bool = False) -> PromptGuard:
        """The word and meaning rules of a pack, made once."""
        name = f"{policy.digest}:{words_only}"
        with self._lock:
            if name not in self._guards:
                self._guards[name] = PromptGuard(policy, words_only=words_only)
            return self._guards[name]

    def screens(self) -> tuple[Screen, ...]:
        """Screens for pictures that come in to be moderated."""
        with self._lock:
            if self._screens is None:
                gallery = homes.faces_folder(self.settings.home)
                self._screens = tuple(named("screens", self.settings.screens)(gallery=gallery))
            return self._screens

    def explorer(self) -> Explorer:
        """Searches the index of works and the banks of the settings.

        Raises:
            OptionError, IndexFormatError: they cannot be opened, or not asked together.
        """
        with self._lock:
            if self._explorer is None:
                folders = [Path(name) for name in self.settings.banks]
                works = named("works", self.settings.works)(self.settings.home)
                self._explorer = Explorer(works, Banks.open(folders) if folders else None)
            return self._explorer

    def auditor(self) -> Auditor:
        """Reads files; opened anew until there is everything to look with."""
        with self._lock:
            if self._auditor is None or not self._auditor.is_complete:
                self._auditor = Auditor.open(
                    self.settings.home, trust=operators_trust(self.settings), database=self.settings.database
                )
            return self._auditor

    def ledger(self) -> Ledger | None:
        """The log, for reading; None while there is none."""
        with self._lock:
            if self._ledger is None and Ledger.exists(homes.ledger_folder(self.settings.home)):
                self._ledger = open_ledger(self.settings, create=False)
            return self._ledger


async def context_of(request: Request) -> Context:
    """The parts, as a dependency."""
    context: Context = request.app.state.context
    return context
