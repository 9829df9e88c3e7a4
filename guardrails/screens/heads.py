"""Heads: vectors in, one raw number a concept out, tied to the encoder that they were made for.

Raw numbers of different heads cannot be compared: a margin of cosines here, a logit there. `references.py` turns each
into a score that means the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import EmbeddingError, ScreenUnavailable
from guardrails.screens.exemplars import label

Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """Nearest positive against nearest negative: words, exemplars and learned prompts alike.

    The raw number is the largest cosine to a positive minus the largest to a negative. With one positive and one
    negative row, as in Q16 (Schramowski et al., FAccT 2022), its sign is that of their softmax.

    Attributes:
        encoder: id of the encoder in whose space the rows lie.
        positives, negatives: unit rows, shape (n, dim); at least one positive.
        labels: what each positive is, for explanations.
    """

    concept: str
    encoder: str
    positives: Vectors
    negatives: Vectors
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """A logit: ``vector @ weight + bias``.

    Attributes:
        weight: shape (dim,).
        examples: unit rows of pictures that it was fitted on, shape (n, dim), for explanations alone.
    """

    concept: str
    encoder: str
    weight: Vectors
    bias: float
    examples: Vectors | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mlp:
    """A logit from linear layers with ReLU between them.

    Attributes:
        layers: pairs of weight (outputs, inputs) and bias (outputs,); the last has one output.
        examples: as those of `Linear`.
    """

    concept: str
    encoder: str
    layers: tuple[tuple[Vectors, Vectors], ...]
    examples: Vectors | None = None


Head: TypeAlias = Contrast | Linear | Mlp


class HeadSet:
    """Many heads as a few matrices, so that a thousand concepts cost one product.

    Args:
        heads: of one encoder.
        centre: what is taken from a vector before it is compared with rows, shape (dim,): what all pictures share says
            nothing about any, and hides differences between phrases.

    Raises:
        ScreenUnavailable: they belong to different encoders, or two have the same concept.
    """

    def __init__(self, heads: Sequence[Head], *, centre: Vectors | None = None) -> None:
        encoders = {head.encoder for head in heads}
        if len(encoders) > 1:
            raise ScreenUnavailable(
                f"heads of different encoders cannot share one pass: {', '.join(sorted(encoders))}",
                hint="make one screen for each encoder",
            )
        self.encoder = encoders.pop() if encoders else ""
        self.concepts = tuple(head.concept for head in heads)
        if len(set(self.concepts)) < len(heads):
            twice = next(concept for concept in self.concepts if self.concepts.count(concept) > 1)
            raise ScreenUnavailable(f"two heads are called {twice!r}", hint="rename one of the concepts")
        self._heads = tuple(heads)
        self._contrasts = [(column, head) for column, head in enumerate(heads) if isinstance(head, Contrast)]
        self._linears = [(column, head) for column, head in enumerate(heads) if isinstance(head, Linear)]
        self._mlps = [(column, head) for column, head in enumerate(heads) if isinstance(head, Mlp)]
        self._positives = _Rows([head.positives for _, head in self._contrasts], centre)
        self._negatives = _Rows([head.negatives for _, head in self._contrasts], centre)
        if self._linears:
            self._weights = np.stack([head.weight.astype(np.float32) for _, head in self._linears])
            self._biases = np.array([head.bias for _, head in self._linears], dtype=np.float32)

    def raw(self, vectors: Vectors, encoder: str) -> Vectors:
        """Raw numbers of shape (n, concepts); higher is worse.

        Args:
            vectors: unit rows, shape (n, dim).
            encoder: id of the encoder that made them.

        Raises:
            ScreenUnavailable: another encoder made them; the numbers would mean nothing.
            EmbeddingError: a vector or a result is not finite.
        """
        if encoder != self.encoder:
            raise ScreenUnavailable(
                f"the heads belong to encoder {self.encoder}, not to {encoder}",
                hint="load the encoder that the heads name, or make them for this one",
            )
        if not np.all(np.isfinite(vectors)):
            raise EmbeddingError("a head got a vector that is not finite", hint="check the encoder's weights")
        found = np.empty((len(vectors), len(self._heads)), dtype=np.float32)
        if self._contrasts:
            margins = self._positives.nearest(vectors) - self._negatives.nearest(vectors)
            found[:, [column for column, _ in self._contrasts]] = margins
        if self._linears:
            found[:, [column for column, _ in self._linears]] = vectors @ self._weights.T + self._biases
        for column, head in self._mlps:
            found[:, column] = _run(head, vectors)
        if not np.all(np.isfinite(found)):
            raise EmbeddingError("a head gave a number that is not finite", hint="check the head's weights")
        return found

    def nearest(self, concept: str, vector: Vectors, count: int = 3) -> list[tuple[str, float]]:
        """The positives or examples that lie closest to a vector, with their cosines; empty for heads without any."""
        head = self._heads[self.concepts.index(concept)]
        rows = head.positives if isinstance(head, Contrast) else head.examples
        if rows is None:
            return []
        cosines = rows @ vector
        labels = head.labels if isinstance(head, Contrast) else [label(row) for row in range(len(rows))]
        order = np.argsort(-cosines, kind="stable")[:count]
        return [(labels[row], round(float(cosines[row]), 4)) for row in order]


class _Rows:
    """Groups of rows, each distinct group multiplied once; a group without rows counts as cosine 0."""

    def __init__(self, groups: Sequence[Vectors], centre: Vectors | None) -> None:
        # Many concepts share the very same negatives.
        distinct = {id(group): group for group in groups if len(group)}
        self._matrix = np.concatenate(list(distinct.values())).astype(np.float32) if distinct else None
        self._offsets = 0.0 if self._matrix is None or centre is None else self._matrix @ centre
        lengths = [len(group) for group in distinct.values()]
        self._starts = np.cumsum([0, *lengths[:-1]]) if lengths else np.empty(0, dtype=np.int64)
        place = {key: number for number, key in enumerate(distinct)}
        self._pick = np.array([place.get(id(group), len(place)) for group in groups], dtype=np.int64)

    def nearest(self, vectors: Vectors) -> Vectors:
        """The largest cosine in each group, shape (n, groups)."""
        none = np.zeros((len(vectors), 1), dtype=np.float32)
        if self._matrix is None:
            return np.repeat(none, len(self._pick), axis=1)
        largest = np.maximum.reduceat(vectors @ self._matrix.T - self._offsets, self._starts, axis=1)
        picked: Vectors = np.concatenate([largest, none], axis=1)[:, self._pick]
        return picked


def _run(head: Mlp, vectors: Vectors) -> Vectors:
    hidden = vectors
    for weight, bias in head.layers[:-1]:
        hidden = np.maximum(hidden @ weight.T + bias, 0.0)
    weight, bias = head.layers[-1]
    logits: Vectors = (hidden @ weight.T + bias)[:, 0]
    return logits
