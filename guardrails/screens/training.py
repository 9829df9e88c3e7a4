"""Fits linear concept heads on pictures that show a concept and pictures that do not.

A head is a regularised logistic regression on unit CLIP vectors. It brings no threshold: its scores become rates when
safe pictures are scored with it (see `references`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError
from guardrails.screens.heads import Linear, Vectors

# Weight of the squared head vector against the mean log loss. Unit vectors of CLIP lie close together (cosines of .7
# and more), so that a head needs long weights to tell them apart.
REGULARISATION = 1e-4
FEWEST = 8


def fit_linear(
    positive: Vectors, negative: Vectors, *, concept: str, encoder: str, regularisation: float = REGULARISATION
) -> Linear:
    """Balanced logistic regression by Newton's method.

    Args:
        positive, negative: unit rows, shape (n, dim).

    Raises:
        OptionError: fewer than `FEWEST` of either.
    """
    if min(len(positive), len(negative)) < FEWEST:
        raise OptionError(
            f"{len(positive)} pictures with the concept and {len(negative)} without it are too few",
            hint=f"give at least {FEWEST} of each; with a handful, use them as exemplars",
        )
    features = np.concatenate([positive, negative]).astype(np.float64)
    features = np.hstack([features, np.ones((len(features), 1))])
    labels = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    share = np.where(labels == 1, 0.5 / len(positive), 0.5 / len(negative))
    penalty = np.full(features.shape[1], regularisation)
    penalty[-1] = 0.0
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (share * (probability - labels)) + penalty * weights
        curvature = (features.T * (share * probability * (1 - probability))) @ features + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    weight: NDArray[np.float32] = weights[:-1].astype(np.float16).astype(np.float32)
    return Linear(concept=concept, encoder=encoder, weight=weight, bias=float(weights[-1]))


def to_safetensors(head: Linear, source: Mapping[str, str]) -> bytes:
    """The head as a weight file of a concept pack.

    Args:
        source: what the card should say: pictures, licences.
    """
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        f"{head.concept}.weight": head.weight.astype(np.float16),
        f"{head.concept}.bias": np.array([head.bias], dtype=np.float32),
    }
    data: bytes = save(tensors, metadata={"encoder": head.encoder, **source})
    return data
