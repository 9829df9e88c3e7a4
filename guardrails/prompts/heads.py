"""Heads over text vectors: one small network, one output per category, and labelled examples as evidence.

The outputs compete with "harmless", whose logit is 0: ``P(unsafe) = 1 - 1 / (1 + sum(exp(logit)))``. A prompt belongs
to its most probable category and carries P(unsafe) as its score there, so that the false-positive rates of the
categories add up to the rate of the whole. Numpy only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.arrays import read_arrays
from guardrails.errors import EmbeddingError, ModelUnavailable

# Unit vectors have entries of about 1/20; scaled up, the first layer starts in its useful range.
VECTOR_SCALE = 8.0
_LARGEST_INTEGER = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What the heads say about one vector.

    Attributes:
        category: the most probable one.
        score: probability 0..1 of anything unsafe; higher is worse.
        shares: probability of each category; they add up to `score`.
    """

    category: str
    score: float
    shares: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A labelled example near a prompt: cosine 1 is the same; category "" is harmless."""

    text: str
    category: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptHeads:
    """The network and its examples.

    Attributes:
        encoder: id of the encoder whose vectors it was fitted on.
        categories: names of the outputs.
        hidden_weight, hidden_bias: (dim, hidden), (hidden,).
        output_weight, output_bias: (hidden, categories), (categories,).
        example_vectors: int8 of shape (examples, dim), rows scaled to a largest entry of 127.
        example_texts, example_categories: one per row; "" is harmless.
        digest: SHA-256 of the file, hexadecimal.
    """

    encoder: str
    categories: tuple[str, ...]
    hidden_weight: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output_weight: NDArray[np.float32]
    output_bias: NDArray[np.float32]
    example_vectors: NDArray[np.int8]
    example_texts: tuple[str, ...]
    example_categories: tuple[str, ...]
    digest: str = ""

    def logits(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds of each category against harmless, shape (n, categories).

        Args:
            vectors: unit rows, shape (n, dim).
        """
        hidden = gelu((VECTOR_SCALE * vectors @ self.hidden_weight + self.hidden_bias).astype(np.float32))
        logits: NDArray[np.float64] = (hidden @ self.output_weight + self.output_bias).astype(np.float64)
        return logits

    def assess(self, vectors: NDArray[np.float32], encoder: str) -> list[Assessment]:
        """One assessment per row.

        Args:
            vectors: unit rows, shape (n, dim).
            encoder: id of the encoder that made them.

        Raises:
            ModelUnavailable: another encoder made them; the numbers would mean nothing.
            EmbeddingError: a score is not finite.
        """
        if encoder != self.encoder:
            raise ModelUnavailable(
                f"these prompt heads belong to encoder {self.encoder}, not to {encoder}",
                hint="load the encoder that the heads name, or train heads for this one",
            )
        logits = self.logits(vectors)
        if not np.all(np.isfinite(logits)):
            raise EmbeddingError("the prompt heads gave a score that is not finite", hint="train the heads again")
        weights = np.exp(np.clip(logits, -50, 50))
        shares = weights / (1 + weights.sum(axis=1, keepdims=True))
        return [
            Assessment(
                category=self.categories[int(row.argmax())],
                score=float(row.sum()),
                shares=dict(zip(self.categories, row.tolist(), strict=True)),
            )
            for row in shares
        ]

    def nearest(self, vector: NDArray[np.float32], category: str, count: int) -> list[Neighbour]:
        """The examples of one category (or the harmless ones, "") that are nearest to a unit vector."""
        rows = np.flatnonzero(np.array([label == category for label in self.example_categories], dtype=bool))
        if not rows.size:
            return []
        examples = self.example_vectors[rows].astype(np.float32)
        cosines = examples @ vector / np.linalg.norm(examples, axis=1)
        best = np.argsort(-cosines, kind="stable")[:count]
        return [
            Neighbour(text=self.example_texts[rows[i]], category=category, cosine=round(float(cosines[i]), 3))
            for i in best
        ]

    def save(self, path: Path) -> None:
        """Write the heads as `.npz`: float16 weights, int8 examples, texts as UTF-8."""
        np.savez(
            path,
            encoder=_packed([self.encoder]),
            categories=_packed(self.categories),
            hidden_weight=self.hidden_weight.astype(np.float16),
            hidden_bias=self.hidden_bias.astype(np.float16),
            output_weight=self.output_weight.astype(np.float16),
            output_bias=self.output_bias.astype(np.float16),
            example_vectors=self.example_vectors,
            example_texts=_packed(self.example_texts),
            example_categories=_packed(self.example_categories),
        )


def load_heads(path: Path) -> PromptHeads:
    """Read heads that `PromptHeads.save` wrote.

    Raises:
        ModelUnavailable: there is no such file, or it is damaged.
    """
    arrays, raw = read_arrays(path)
    try:
        (encoder,) = _unpacked(arrays["encoder"])
        return PromptHeads(
            encoder=encoder,
            categories=_unpacked(arrays["categories"]),
            hidden_weight=arrays["hidden_weight"].astype(np.float32),
            hidden_bias=arrays["hidden_bias"].astype(np.float32),
            output_weight=arrays["output_weight"].astype(np.float32),
            output_bias=arrays["output_bias"].astype(np.float32),
            example_vectors=arrays["example_vectors"],
            example_texts=_unpacked(arrays["example_texts"]),
            example_categories=_unpacked(arrays["example_categories"]),
            digest=hashlib.sha256(raw).hexdigest(),
        )
    except (ValueError, KeyError) as error:
        raise ModelUnavailable(f"{path} holds no prompt heads: {error}", hint="train them again") from error


def gelu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tanh form of the Gaussian error linear unit (Hendrycks and Gimpel 2016)."""
    inner = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
    result: NDArray[np.float32] = (0.5 * values * (1 + np.tanh(inner))).astype(np.float32)
    return result


def as_integers(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rows scaled so that the largest entry is 127: cosines keep two decimals, files shrink to a quarter."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    integers: NDArray[np.int8] = np.rint(vectors / largest * _LARGEST_INTEGER).astype(np.int8)
    return integers


def _packed(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)


def _unpacked(array: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(array.tobytes().decode().split("\n"))
