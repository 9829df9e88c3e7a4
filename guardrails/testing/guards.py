"""A guard of doubles as the service's setting `guard` wants it: `guardrails.testing.guards:drawing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guardrails.pipeline import Guard
from guardrails.policy import Policy
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, passing_screens


def drawing(*, model: str, device: str, batch_size: int, **parts: Any) -> Callable[[Policy], Guard]:
    """Guards that draw shapes and whose screens object to nothing; everything else is as in earnest.

    Args:
        model, device, batch_size: ignored.
        parts: of the installation: home, signer, verifier, ledger, manifests.
    """

    def guard(policy: Policy) -> Guard:
        return Guard(ShapeGenerator(), policy=policy, screens=passing_screens(), index=FixedIndex(), **parts)

    return guard
