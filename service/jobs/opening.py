"""A worker with all its parts, as the settings want it."""

from __future__ import annotations

import time
from collections.abc import Callable

from guardrails.errors import SigningError
from service.access.secrets import Secrets
from service.acts import Acts
from service.jobs.guards import open_guards
from service.jobs.signer import SignerClient
from service.jobs.table import JobTable
from service.jobs.worker import Worker
from service.policies import Policies
from service.settings import Settings
from service.standing import note_standing
from service.stores import open_database

_SIGNER_SECONDS = 60.0


def open_worker(settings: Settings, reached: Callable[[str], None] | None = None) -> Worker:
    """A worker as the settings want it, once the signer answers.

    Args:
        reached: see `Worker`.

    Raises:
        SigningError: the signer does not answer in time.
    """
    wait_for_signer(settings)
    settings.assets.mkdir(parents=True, exist_ok=True, mode=0o700)
    database, policies = open_database(settings), Policies(settings.policy_names)
    secrets = Secrets.load_or_create(settings.folder)
    acts = Acts(settings, secrets, lambda: policies.get().ref)
    note_standing(database, acts, policies, SignerClient(settings.signer_socket).chain())
    return Worker(
        JobTable(database, lease_seconds=settings.lease_seconds, max_attempts=settings.max_attempts),
        open_guards(settings),
        policies,
        secrets,
        assets=settings.assets,
        uploads=settings.uploads,
        lease_seconds=settings.lease_seconds,
        batch_pictures=settings.batch_pictures,
        batch_seconds=settings.batch_wait_ms / 1000,
        reached=reached,
    )


def wait_for_signer(settings: Settings, seconds: float = _SIGNER_SECONDS) -> None:
    """Raises SigningError when the signer does not answer in time."""
    client, until = SignerClient(settings.signer_socket), time.monotonic() + seconds
    while not client.is_alive():
        if time.monotonic() > until:
            raise SigningError("the signer did not start", hint="see its log")
        time.sleep(0.05)
