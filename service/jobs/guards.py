"""The guarded pipelines of an installation: one for each policy, around one model.

The setting `guard` names a factory with this signature; `installed` is the default. Another one brings another model,
other screens, or doubles for a test::

    def factory(
        *, home, model, device, batch_size, signer, verifier, ledger, manifests
    ) -> Callable[[Policy], Guard]: ...
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from guardrails import home as homes
from guardrails.ledger import Ledger
from guardrails.pipeline import Guard
from guardrails.policy import Policy
from guardrails.provenance import Signer, Verifier
from guardrails.provenance.repository import Repository
from service.jobs.signer import SignerClient
from service.naming import named
from service.settings import Settings
from service.stores import open_ledger

Guards: TypeAlias = Callable[[Policy], Guard]


def installed(
    *,
    home: Path,
    model: str,
    device: str,
    batch_size: int,
    signer: Signer,
    verifier: Verifier,
    ledger: Ledger,
    manifests: Repository,
) -> Guards:
    """Guards around the model of the settings, with the default screens and the shipped index."""
    from guardrails.cli.generate import POCKET, load
    from guardrails.pipeline.embedded import shipped_index
    from guardrails.screens import default_screens

    where, source = device or None, model or POCKET
    generator = load(source, device=where, dtype=None, batch_size=batch_size, compiled=False, sampler=None)
    screens, index = default_screens(gallery=homes.faces_folder(home)), shipped_index(home)

    def guard(policy: Policy) -> Guard:
        return Guard(
            generator,
            policy=policy,
            screens=screens,
            index=index,
            home=home,
            signer=signer,
            verifier=verifier,
            ledger=ledger,
            manifests=manifests,
        )

    return guard


def open_guards(settings: Settings) -> Guards:
    """What the setting `guard` names, signing through the signer process.

    Raises:
        OptionError: it names nothing.
        SigningError: the signer does not answer.
    """
    signer, trust = SignerClient(settings.signer_socket).signer()
    factory = named("guard", settings.guard)
    made: dict[str, Guard] = {}
    build: Guards = factory(
        home=settings.home,
        model=settings.model,
        device=settings.device,
        batch_size=settings.batch_pictures,
        signer=signer,
        verifier=Verifier(trust),
        ledger=open_ledger(settings),
        manifests=Repository(homes.manifests_folder(settings.home)),
    )

    def guard(policy: Policy) -> Guard:
        if policy.digest not in made:
            made[policy.digest] = build(policy)
        return made[policy.digest]

    return guard
