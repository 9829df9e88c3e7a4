"""Heads: one vector in, one score out, tied to the encoder that they were fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import EmbeddingError, ScreenUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """A logistic head.

    Attributes:
        encoder: id of the encoder whose vectors it was fitted on.
        vector: float16 of shape (dim,).
    """

    concept: str
    encoder: str
    vector: NDArray[np.float16]
    bias: float

    def scores(self, embeddings: NDArray[np.float32], encoder: str) -> NDArray[np.float64]:
        """Probabilities 0..1 of the concept, shape (n,); higher is worse.

        Args:
            embeddings: unit rows, shape (n, dim).
            encoder: id of the encoder that made them.

        Raises:
            ScreenUnavailable: another encoder made them; the numbers would mean nothing.
            EmbeddingError: a score is not finite.
        """
        if encoder != self.encoder:
            raise ScreenUnavailable(
                f"the head for {self.concept!r} belongs to encoder {self.encoder}, not to {encoder}",
                hint="load the encoder that the head names, or fit the head again",
            )
        logits = embeddings.astype(np.float64) @ self.vector.astype(np.float64) + self.bias
        if not np.all(np.isfinite(logits)):
            raise EmbeddingError(
                f"the head for {self.concept!r} got a vector that is not finite", hint="check the encoder's weights"
            )
        return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
