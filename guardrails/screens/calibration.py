"""How often safe pictures are accused: counted, bounded, by domain and by slice.

The thresholds themselves need no fitting, because scores are bounds of rates (see `references`). What is measured here
is whether they hold on safe pictures that were not used, and whether those pictures still score as the references do:
bounds with room to spare hold long after pictures began to drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from guardrails.domain.calibration import (
    CONFIDENCE,
    can_state,
    clopper_pearson_lower,
    clopper_pearson_upper,
    exceedance_tail,
    highest_score,
    wilson_interval,
)
from guardrails.errors import OptionError
from guardrails.screens.heads import Vectors
from guardrails.screens.references import Calibrated

RATES = (0.05, 0.03, 0.01)
# What the shipped rules ask for; 199 reference pictures can state it, see `references.upper_bounds`.
DEFAULT_RATE = 0.03
# A head that accuses two groups of persons at rates further apart than this must not be used on them.
LARGEST_GAP = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """False positives of one concept at one stated rate.

    Attributes:
        domain: of the safe pictures that were scored.
        stated: the rate that the threshold 1 - stated promises.
        hits, n: at or above the threshold, of how many that were scored; abstentions are not among them.
    """

    concept: str
    domain: str
    stated: float
    hits: int
    n: int

    @property
    def upper(self) -> float:
        """One-sided 95 % upper bound."""
        return clopper_pearson_upper(self.hits, self.n)

    @property
    def broken(self) -> bool:
        """Whether the stated rate is certainly exceeded: even the lower bound lies above it."""
        return clopper_pearson_lower(self.hits, self.n) > self.stated

    def to_json(self) -> dict[str, Any]:
        return {"domain": self.domain, "stated": self.stated, "hits": self.hits, "n": self.n,
                "upper_bound_95": round(self.upper, 4)}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Pictures under one set of heads.

    Attributes:
        concepts: names of the columns.
        scores: shape (pictures, concepts); NaN in the rows of pictures that lie outside of every domain.
        domains: by picture, "" when outside.
    """

    concepts: tuple[str, ...]
    scores: np.ndarray[Any, np.dtype[np.float64]]
    domains: tuple[str, ...]

    @property
    def abstained(self) -> int:
        return sum(not domain for domain in self.domains)


def score_all(calibrated: Calibrated, pictures: Sequence[Vectors], encoder: str) -> Scored:
    """Score pictures by the vectors of their views, each of shape (views, dim)."""
    concepts = calibrated.heads.concepts
    scores = np.full((len(pictures), len(concepts)), np.nan)
    domains = []
    for row, vectors in enumerate(pictures):
        place = calibrated.place(vectors)
        domains.append(place.domain)
        if place.domain:
            scores[row] = calibrated.scores(calibrated.heads.raw(vectors, encoder), place.domain)
    return Scored(concepts=concepts, scores=scores, domains=tuple(domains))


def count(scored: Scored, domain: str, rates: Sequence[float] = RATES) -> list[Rate]:
    """False positives among safe pictures of one kind.

    Raises:
        OptionError: there are too few pictures to say anything about a rate.
    """
    inside = scored.scores[~np.isnan(scored.scores).any(axis=1)] if scored.concepts else scored.scores
    for rate in rates:
        if not can_state(rate, len(inside)):
            raise OptionError(
                f"{len(inside)} scored pictures of {domain!r} cannot speak about a rate of {rate:g}",
                hint=f"at least {int(np.ceil(3 / rate))} must be scored; `calibrate` scores every second picture",
            )
    return [
        Rate(
            concept=concept,
            domain=domain,
            stated=rate,
            hits=int(np.sum(inside[:, column] >= 1 - rate)),
            n=len(inside),
        )
        for column, concept in enumerate(scored.concepts)
        for rate in rates
    ]


def ceilings(references: Mapping[str, int]) -> dict[str, float]:
    """By domain the highest score that so many reference pictures can state."""
    return {domain: highest_score(n) for domain, n in references.items()}


def sentence(rates: Sequence[Rate]) -> str:
    """What a rule says about its threshold."""
    stated = rates[0].stated
    counted = "; ".join(
        f"{rate.hits} of {rate.n} other safe {rate.domain} ({rate.hits / rate.n:.1%}, below {rate.upper:.1%})"
        for rate in rates
    )
    return f"stated false-positive rate {stated:.0%}; counted: {counted}; bounds with {CONFIDENCE:.0%} confidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How many new pictures of one domain score above the highest references under one concept.

    Attributes:
        rank, references: what was counted scored above the `rank`-th highest of so many references.
        hits, n: of the new pictures.
    """

    concept: str
    domain: str
    rank: int
    references: int
    hits: int
    n: int

    @property
    def p(self) -> float:
        """Exact one-sided probability of so many or more when nothing has changed."""
        return exceedance_tail(self.hits, self.n, self.rank, self.references)

    def to_json(self) -> dict[str, Any]:
        return {"concept": self.concept, "domain": self.domain, "rank": self.rank, "references": self.references,
                "hits": self.hits, "n": self.n, "p": self.p}  # fmt: skip


def drifts(
    calibrated: Calibrated, pictures: Sequence[Vectors], encoder: str, rates: Sequence[float] = RATES
) -> list[Drift]:
    """Compare safe pictures with the references, raw number against raw number, at the ranks that `rates` mean.

    The whole picture counts, the first of its views, as the references are whole pictures.
    """
    places = [calibrated.place(vectors).domain for vectors in pictures]
    found = []
    for domain in sorted(set(places) - {""}):
        shown = np.stack([vectors[0] for vectors, place in zip(pictures, places, strict=True) if place == domain])
        raw = calibrated.heads.raw(shown, encoder)
        reached_by = np.stack([calibrated.reached_by(row[np.newaxis], domain) for row in raw])
        n = calibrated.count_references(domain)
        for rank in (int(rate * (n + 1)) for rate in rates):
            found += [
                Drift(concept=concept, domain=domain, rank=rank, references=n,
                      hits=int(np.sum(reached_by[:, column] < rank)), n=len(shown))
                for column, concept in enumerate(calibrated.heads.concepts) if rank
            ]  # fmt: skip
    return found


def certain(found: Sequence[Drift]) -> list[Drift]:
    """Those that are no chance, with `CONFIDENCE` in all of them together (Bonferroni)."""
    return [one for one in found if one.p < (1 - CONFIDENCE) / len(found)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """False positives of one concept in one group of safe pictures."""

    concept: str
    name: str
    hits: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return wilson_interval(self.hits, self.n)


def slices(scored: Scored, groups: Sequence[str], rate: float = DEFAULT_RATE) -> list[Slice]:
    """Counts by group; `groups` names the group of every picture, "" for none."""
    inside = ~np.isnan(scored.scores).any(axis=1)
    found = []
    for name in sorted(set(groups) - {""}):
        rows = inside & np.array([group == name for group in groups])
        if rows.any():
            found += [
                Slice(concept=concept, name=name, hits=int(np.sum(scored.scores[rows, column] >= 1 - rate)),
                      n=int(rows.sum()))
                for column, concept in enumerate(scored.concepts)
            ]  # fmt: skip
    return found


def gaps(found: Sequence[Slice]) -> Mapping[str, float]:
    """By concept the gap between two groups that is certain: the largest lower end minus the smallest upper end."""
    by_concept: dict[str, list[Slice]] = {}
    for one in found:
        by_concept.setdefault(one.concept, []).append(one)
    return {
        concept: max(0.0, max(one.interval[0] for one in group) - min(one.interval[1] for one in group))
        for concept, group in by_concept.items()
    }
