"""What every screen promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from guardrails.domain.findings import Component
from guardrails.imaging import Pixels


class Screen(Protocol):
    """Looks at one picture and scores concepts.

    Attributes:
        component: name as rules call it, version, and digest of weights. Known before any weights are loaded.
    """

    @property
    def component(self) -> Component: ...

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        """Scores by concept, 0..1; higher is worse.

        Args:
            pixels: RGB, uint8, height x width x 3.

        Raises:
            UnavailableError: there are no weights to run (ScreenUnavailable, ModelUnavailable).
            GuardrailsError: it ran and failed.
        """
        ...
