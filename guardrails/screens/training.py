"""Fits concept heads on pictures that show a concept and pictures that do not.

A head is a regularised logistic regression on unit CLIP vectors, a network with one hidden layer, or the vectors
themselves as exemplars. It brings no threshold: its scores become rates when safe pictures are scored with it (see
`references`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.calibration import clopper_pearson_lower, clopper_pearson_upper
from guardrails.errors import OptionError
from guardrails.screens.exemplars import label
from guardrails.screens.heads import Contrast, Head, HeadSet, Linear, Mlp, Vectors
from guardrails.screens.references import Calibrated, References

# Weight of the squared head vector against the mean log loss. Unit vectors of CLIP lie close together (cosines of .7
# and more), so that a head needs long weights to tell them apart.
REGULARISATION = 1e-4
FEWEST = 8
HIDDEN = 32
STEPS = 300
LEARNING_RATE = 0.01
DECAY = 1e-3
FOLDS = 5
# Below this nothing can be said about pictures that were not trained on: 0 missed of 20 still allows 14 %.
FEWEST_TO_REPORT = 20


def fit_linear(
    positive: Vectors, negative: Vectors, *, concept: str, encoder: str, regularisation: float = REGULARISATION
) -> Linear:
    """Balanced logistic regression by Newton's method.

    Args:
        positive, negative: unit rows, shape (n, dim).

    Raises:
        OptionError: fewer than `FEWEST` of either.
    """
    check_enough(positive, negative, FEWEST)
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


def fit_mlp(positive: Vectors, negative: Vectors, *, concept: str, encoder: str) -> Mlp:
    """A network with one hidden layer, for concepts that are several things at once.

    Args:
        positive, negative: unit rows, shape (n, dim).

    Raises:
        OptionError: fewer than `FEWEST` of either.
    """
    import torch

    check_enough(positive, negative, FEWEST)
    dim = positive.shape[1]
    features = torch.from_numpy(np.concatenate([positive, negative]))
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    share = torch.cat([torch.full((len(rows),), 0.5 / len(rows)) for rows in (positive, negative)])
    centre = features.mean(dim=0)
    # Its own generator: training must neither depend on the process's random state nor change it.
    start = torch.Generator().manual_seed(1)
    first = (torch.randn(HIDDEN, dim, generator=start) * (2 / dim) ** 0.5 * 4).requires_grad_()
    second = (torch.randn(1, HIDDEN, generator=start) * (2 / HIDDEN) ** 0.5).requires_grad_()
    biases = [torch.zeros(HIDDEN, requires_grad=True), torch.zeros(1, requires_grad=True)]
    optimiser = torch.optim.AdamW([first, second, *biases], lr=LEARNING_RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        logits = torch.relu((features - centre) @ first.T + biases[0]) @ second.T + biases[1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels, share, reduction="sum")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        shifted = biases[0] - first @ centre
        layers = ((first.numpy(), shifted.numpy()), (second.numpy(), biases[1].numpy()))
    return Mlp(concept=concept, encoder=encoder, layers=layers)


def keep_exemplars(positive: Vectors, negative: Vectors, *, concept: str, encoder: str) -> Contrast:
    """Nothing is fitted: a picture is scored by the nearest of these vectors, with the concept and without.

    Args:
        positive, negative: unit rows, shape (n, dim).

    Raises:
        OptionError: fewer than `FEWEST` of either.
    """
    check_enough(positive, negative, FEWEST)
    labels = tuple(label(row) for row in range(len(positive)))
    return Contrast(concept=concept, encoder=encoder, positives=positive, negatives=negative, labels=labels)


Fit = Callable[..., Head]
FITS: Mapping[str, Fit] = {"linear": fit_linear, "mlp": fit_mlp, "exemplar": keep_exemplars}


def check_enough(positive: Sized, negative: Sized, fewest: int) -> None:
    """Refuse to learn from, or to report on, too little.

    Raises:
        OptionError: fewer than `fewest` of either.
    """
    if min(len(positive), len(negative)) < fewest:
        raise OptionError(
            f"{len(positive)} pictures with the concept and {len(negative)} without it are too few",
            hint=f"give at least {fewest} of each; with a handful, use them as exemplars",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a head does on pictures that it was not fitted on, at one stated rate.

    Attributes:
        stated: the rate that the threshold 1 - stated promises for safe pictures.
        caught, positives: pictures with the concept at or above the threshold, of how many.
        accused, negatives: pictures without it, which are chosen to be hard and so no estimate of the stated rate.
        outside: pictures of either kind that lie outside of every domain; they are caught by nothing.
    """

    stated: float
    caught: int
    positives: int
    accused: int
    negatives: int
    outside: int

    def to_json(self) -> dict[str, Any]:
        """With one-sided 95 % bounds."""
        return {
            "stated": self.stated, "caught": self.caught, "positives": self.positives,
            "caught_lower_bound_95": round(clopper_pearson_lower(self.caught, self.positives), 4),
            "accused": self.accused, "negatives": self.negatives,
            "accused_upper_bound_95": round(clopper_pearson_upper(self.accused, self.negatives), 4),
            "outside": self.outside,
        }  # fmt: skip


def held_out(
    fit: Fit, positive: Vectors, negative: Vectors, references: References, rates: tuple[float, ...]
) -> list[HeldOut]:
    """Fit on four fifths and score the last, five times over.

    Args:
        positive, negative: unit rows of the encoder of `references`, shape (n, dim).

    Raises:
        OptionError: fewer than `FEWEST_TO_REPORT` of either.
    """
    check_enough(positive, negative, FEWEST_TO_REPORT)
    random = np.random.default_rng(1)
    folds = [random.permutation(len(rows)) % FOLDS for rows in (positive, negative)]
    scores: list[list[float]] = [[], []]
    for number in range(FOLDS):
        kept = [rows[fold != number] for rows, fold in zip((positive, negative), folds, strict=True)]
        head = fit(*kept, concept="held-out", encoder=references.encoder)
        calibrated = Calibrated(HeadSet([head], centre=references.centre), references)
        for side, (rows, fold) in enumerate(zip((positive, negative), folds, strict=True)):
            scores[side] += [_score(calibrated, row[np.newaxis]) for row in rows[fold == number]]
    with_it, without = (np.array(side) for side in scores)
    return [
        HeldOut(
            stated=rate,
            caught=int(np.sum(with_it >= 1 - rate)),
            positives=len(with_it),
            accused=int(np.sum(without >= 1 - rate)),
            negatives=len(without),
            outside=int(np.isnan(with_it).sum() + np.isnan(without).sum()),
        )
        for rate in rates
    ]


def _score(calibrated: Calibrated, vector: Vectors) -> float:
    """NaN outside of every domain."""
    domain = calibrated.place(vector).domain
    if not domain:
        return float("nan")
    return float(calibrated.scores(calibrated.heads.raw(vector, calibrated.heads.encoder), domain)[0])


def to_safetensors(head: Head, source: Mapping[str, str]) -> bytes:
    """The head as a weight file of a concept pack.

    Args:
        source: what the card should say: pictures, licences.
    """
    from safetensors.numpy import save

    tensors = {f"{head.concept}.{name}": tensor for name, tensor in _tensors(head).items()}
    data: bytes = save(tensors, metadata={"encoder": head.encoder, **source})
    return data


def _tensors(head: Head) -> dict[str, NDArray[Any]]:
    """By the names that docs/screens.md lists for each kind."""
    if isinstance(head, Contrast):
        return {"positives": head.positives.astype(np.float16), "negatives": head.negatives.astype(np.float16)}
    tensors: dict[str, NDArray[Any]]
    if isinstance(head, Linear):
        tensors = {"weight": head.weight.astype(np.float16), "bias": np.array([head.bias], dtype=np.float32)}
    else:
        tensors = {
            f"{number}.{name}": np.ascontiguousarray(tensor)
            for number, layer in enumerate(head.layers)
            for name, tensor in zip(("weight", "bias"), layer, strict=True)
        }
    if head.examples is not None:
        tensors["examples"] = head.examples.astype(np.float16)
    return tensors
