"""Safe pictures that every score is measured against, so that a threshold is a rate.

A raw number of a head says nothing alone. Its score is one minus a bound on the share of safe pictures of the same
domain that reach it, and a concept that was added a moment ago has its threshold at once, whatever the head. The bound
is made in two steps, because the plain conformal p-value (1 + k) / (n + 1) promises too much: it holds on average over
all choices of reference pictures, and only for pictures of the very same mixture.

1. Of n reference pictures, k reach the number. With 95 % confidence the share of all pictures that do is below u, where
   n * KL(k/n, u) = ln 20 (Chernoff 1952): a bound for these reference pictures (Vovk, "Conditional validity of
   inductive conformal predictors", 2012). It is a little wider than Clopper and Pearson's, and quick for every k.
2. Pictures that a model is asked for are another mixture than the references. u / `SUBPOPULATION` bounds the share in
   every part of the safe pictures that is at least that large (the worst case of Duchi and Namkoong's "distributionally
   robust" risk, 2021).

The score of a panorama is that of its worst view, and its rate is that of one view: of safe panoramas with v views up
to v times as many are accused (Bonferroni). Paying for the views in the score instead would let the longest panoramas
pass: with sixteen views no score reached 0.97, whatever stood in one of them.

A picture that lies further from its domain than nearly all of the domain's own pictures is outside of what was
measured; then there is no score.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.calibration import CONFIDENCE, SUBPOPULATION
from guardrails.encoders.arrays import read_arrays
from guardrails.errors import ScreenUnavailable
from guardrails.screens.heads import HeadSet, Vectors

# A picture is "of the domain" when it is as near to it as all but this share of the domain's own pictures.
OUTSIDE_RATE = 0.01
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Domain:
    """Vectors of safe pictures of one kind.

    Attributes:
        vectors: unit rows, shape (n, dim).
        centre: their mean, shape (dim,).
        reach: cosines, rising: how near each picture lies to the others.
        ids: what each picture is called, in the order of the vectors; its place among them when nothing is known.
    """

    name: str
    vectors: Vectors
    centre: Vectors
    reach: Vectors
    ids: tuple[str, ...]

    @classmethod
    def of(cls, name: str, vectors: Vectors, ids: Sequence[str] = ()) -> Domain:
        """A domain of these pictures."""
        reach = np.sort(_nearness(vectors, vectors, own=True))
        known = tuple(ids) or tuple(f"{name} {row + 1}" for row in range(len(vectors)))
        return cls(name=name, vectors=vectors, centre=vectors.mean(axis=0), reach=reach, ids=known)

    def nearest(self, vector: Vectors, count: int = 3) -> list[tuple[str, float]]:
        """The pictures that lie closest to a vector, with their cosines."""
        cosines = self.vectors @ vector
        order = np.argsort(-cosines, kind="stable")[:count]
        return [(self.ids[row], round(float(cosines[row]), 4)) for row in order]

    def nearness(self, vector: Vectors) -> float:
        """The share 0..1 of the domain's own pictures that lie no nearer to it than a vector does."""
        below = np.searchsorted(self.reach, _nearness(vector[np.newaxis], self.vectors), side="right")
        return float((1 + below[0]) / (1 + len(self.reach)))


def _nearness(vectors: Vectors, domain: Vectors, *, own: bool = False) -> Vectors:
    """Mean cosine to the nearest neighbours; `own` when the vectors are the domain's, which are no neighbours of
    themselves."""
    cosines = vectors @ domain.T
    if own:
        np.fill_diagonal(cosines, -np.inf)
    count = min(NEIGHBOURS, cosines.shape[1] - own)
    nearest: Vectors = np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1)
    return nearest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class References:
    """Domains of one encoder.

    Attributes:
        digest: SHA-256 of the file.
    """

    encoder: str
    digest: str
    domains: tuple[Domain, ...]

    @property
    def centre(self) -> Vectors:
        """The mean of the domains' means, shape (dim,)."""
        centre: Vectors = np.mean([domain.centre for domain in self.domains], axis=0)
        return centre


def read_references(path: Path) -> References:
    """Read a file that `pack_references` made.

    Raises:
        ModelUnavailable: there is none.
        ScreenUnavailable: it holds no references, or names another number of pictures than it has vectors of.
    """
    arrays, raw = read_arrays(path)
    encoder, ids = arrays.pop("encoder", None), _read_ids(arrays.pop("ids", None), path)
    packed = {name: array for name, array in arrays.items() if array.dtype == np.int8 and array.any(axis=-1).all()}
    if encoder is None or not packed or len(packed) < len(arrays):
        raise ScreenUnavailable(f"{path} holds no reference pictures", hint="run `guardrails screens calibrate`")
    if any(len(own) != len(packed.get(name, ())) for name, own in ids.items()):
        raise ScreenUnavailable(f"{path} does not name its pictures one by one", hint="run the calibration again")
    domains = tuple(Domain.of(name, unpack(array), ids.get(name, ())) for name, array in packed.items())
    return References(encoder=str(encoder), digest=hashlib.sha256(raw).hexdigest(), domains=domains)


def _read_ids(written: NDArray[Any] | None, path: Path) -> dict[str, list[str]]:
    """By domain what its pictures are called; empty when a file does not say."""
    try:
        ids = json.loads("{}" if written is None else str(written))
        return {str(name): [str(one) for one in own] for name, own in ids.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ScreenUnavailable(f"the names in {path} cannot be read", hint="run the calibration again") from error


def pack_references(
    encoder: str, domains: Mapping[str, Vectors], ids: Mapping[str, Sequence[str]] | None = None
) -> bytes:
    """The bytes of a reference file: vectors as 8-bit integers, half a kilobyte a picture.

    Args:
        ids: what the pictures of a domain are called, in the order of its vectors; for any of the domains.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"encoder": np.array(encoder), **{name: pack(rows) for name, rows in domains.items()}}
    if ids:
        arrays["ids"] = np.array(json.dumps({name: list(own) for name, own in ids.items()}, ensure_ascii=False))
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def pack(vectors: Vectors) -> NDArray[np.int8]:
    """Unit rows as integers; each row's largest number becomes 127. The cosine to the original is .9999."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    packed: NDArray[np.int8] = np.rint(vectors / largest * 127).astype(np.int8)
    return packed


def unpack(packed: NDArray[np.int8]) -> Vectors:
    """Unit rows again."""
    rows = packed.astype(np.float32)
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one picture lies.

    Attributes:
        domain: the nearest one, "" when it lies outside of all.
        nearest: the nearest one in any case.
        nearness: share of the domain's own pictures that lie no nearer to it.
        n: safe pictures in the domain.
    """

    domain: str
    nearest: str
    nearness: float
    n: int


class Calibrated:
    """Heads with what safe pictures score under them.

    Args:
        heads: of the encoder of `references`.
    """

    def __init__(self, heads: HeadSet, references: References) -> None:
        self.heads = heads
        self._references = references
        self._domains = {domain.name: domain for domain in references.domains}
        self._safe = {
            domain.name: np.sort(heads.raw(domain.vectors, references.encoder), axis=0) for domain in references.domains
        }
        self._bounds = {name: upper_bounds(len(safe)) for name, safe in self._safe.items()}

    def place(self, vectors: Vectors) -> Place:
        """The domain whose centre is nearest to the whole picture, the first of the vectors."""
        whole = vectors[0]
        domain = min(self._references.domains, key=lambda one: float(np.sum((one.centre - whole) ** 2)))
        nearness = domain.nearness(whole)
        inside = nearness >= OUTSIDE_RATE
        return Place(
            domain=domain.name if inside else "",
            nearest=domain.name,
            nearness=round(nearness, 4),
            n=len(domain.vectors),
        )

    def nearest(self, domain: str, vector: Vectors) -> list[tuple[str, float]]:
        """The safe pictures of a domain that are most like a vector, with their cosines."""
        return self._domains[domain].nearest(vector)

    def count_references(self, domain: str) -> int:
        """How many safe pictures a domain has."""
        return len(self._safe[domain])

    def ceiling(self, domain: str) -> float:
        """The highest score that a picture of a domain can have."""
        return float(1 - min(1.0, self._bounds[domain][0] / SUBPOPULATION))

    def reached_by(self, raw: Vectors, domain: str) -> NDArray[np.int64]:
        """How many reference pictures have at least the raw number of a picture's worst view, shape (concepts,).

        Args:
            raw: of the views, shape (views, concepts).
        """
        safe = self._safe[domain]
        return len(safe) - _count_below(safe, raw.max(axis=0))

    def scores(self, raw: Vectors, domain: str) -> NDArray[np.float64]:
        """Scores 0..1 of one picture, shape (concepts,): one minus the rate at which a single safe view is as bad as
        the worst view of the picture.

        Args:
            raw: of all its views, shape (views, concepts).
        """
        rate = np.minimum(1.0, self._bounds[domain][self.reached_by(raw, domain)] / SUBPOPULATION)
        score: NDArray[np.float64] = 1 - rate
        return score


@functools.cache
def upper_bounds(n: int) -> NDArray[np.float64]:
    """The share that is not exceeded where k of n reference pictures reach a number, for k of 0..n; shape (n + 1,)."""
    share = np.arange(n + 1) / n
    low, high = share, np.ones(n + 1)
    for _ in range(50):
        middle = (low + high) / 2
        likely = n * _divergence(share, middle) < -math.log(1 - CONFIDENCE)
        low, high = np.where(likely, middle, low), np.where(likely, high, middle)
    return high


def _divergence(share: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback and Leibler's divergence of a coin of `share` from one of `rate`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.where(share > 0, share * np.log(share / rate), 0.0)
        misses = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - rate)), 0.0)
    divergence: NDArray[np.float64] = hits + misses
    return divergence


def _count_below(rising: Vectors, values: Vectors) -> NDArray[np.int64]:
    """For each column of `rising` how many of its numbers lie below the value of that column: a binary search in all
    columns at once."""
    low = np.zeros(len(values), dtype=np.int64)
    high = np.full(len(values), len(rising), dtype=np.int64)
    columns = np.arange(len(values))
    while np.any(low < high):
        middle = (low + high) // 2
        is_below = (rising[np.minimum(middle, len(rising) - 1), columns] < values) & (low < high)
        low, high = np.where(is_below, middle + 1, low), np.where(is_below, high, np.minimum(middle, high))
    return low
