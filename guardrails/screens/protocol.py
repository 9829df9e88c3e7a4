"""What every screen promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Component
from guardrails.imaging import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a screen saw in one picture.

    Attributes:
        scores: by concept, 0..1; higher is worse, always.
        evidence: by concept, what explains the score: box, nearest examples, words read ...
        abstained: by concept, why it cannot be said that there is nothing: "not known", never "passed". A score
            beside it is that of the part that could be seen.
        ceilings: by concept, the highest score that a picture of this kind can have, where that is below 1.
    """

    scores: Mapping[str, float]
    evidence: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    abstained: Mapping[str, str] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)


class Screen(Protocol):
    """Looks at one picture and scores concepts.

    Attributes:
        component: name as rules call it, version, and digest of weights. Known before any weights are loaded.
    """

    @property
    def component(self) -> Component: ...

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture.

        Args:
            pixels: RGB, uint8, height x width x 3.

        Raises:
            UnavailableError: there are no weights to run (ScreenUnavailable, ModelUnavailable).
            GuardrailsError: it ran and failed.
        """
        ...
