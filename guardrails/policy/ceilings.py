"""Thresholds of screen rules that no score can reach, because too few safe pictures stand behind the scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from guardrails.domain.calibration import references_needed
from guardrails.policy.model import ScreenRule
from guardrails.resources import datasets_path


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverReached:
    """A rule that is always "not known" for the pictures of one domain.

    Attributes:
        ceiling: the highest score that the domain's references can state.
    """

    rule: str
    threshold: float
    domain: str
    ceiling: float

    def __str__(self) -> str:
        need = f"{references_needed(self.threshold)} are needed" if self.threshold < 1 else "no number is enough"
        return (
            f"no score of {self.domain} exceeds {self.ceiling:.4f}, so {self.threshold:g} is never reached and the "
            f"rule decides by `when_unavailable` alone; of safe {self.domain} to compare with, {need}"
        )


def read_card(screen: str) -> Mapping[str, Any]:
    """The calibration card of a shipped screen, `datasets/screens/<screen>.json`.

    Raises:
        DatasetUnavailable: there is none.
        ValueError: it is no JSON object.
    """
    card = json.loads(datasets_path("screens", f"{screen}.json").read_text(encoding="utf-8"))
    if not isinstance(card, dict):
        raise ValueError(f"the card of {screen} is no JSON object")
    return card


def never_reached(
    rules: Iterable[ScreenRule], concepts: Iterable[str], ceilings: Mapping[str, float]
) -> Iterator[NeverReached]:
    """Rules for calibrated concepts that ask for more than a domain can state.

    Args:
        concepts: those that the references calibrate.
        ceilings: by domain, the highest score.
    """
    known = frozenset(concepts)
    for rule in rules:
        for domain, ceiling in ceilings.items():
            if rule.concept in known and ceiling < rule.threshold:
                yield NeverReached(rule=rule.id, threshold=rule.threshold, domain=domain, ceiling=ceiling)
