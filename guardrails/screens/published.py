"""Heads that others published, as weight files of a concept pack.

Each comes as tensors under the names that its authors gave them, in a safetensors file (pickles, `.pth` files and
autokeras archives are to be converted where they are trusted, with `torch.load(weights_only=True)`). The encoder is the
caller's word: these heads belong to the CLIP model that their authors name, and to no other.

=================  ==========================================  ==========================================
form               published by                                what is read
=================  ==========================================  ==========================================
laion-clip-nsfw    LAION-AI/CLIP-based-NSFW-Detector (MIT)     normalisation, then dense layers, ReLU
unsafe-diffusion   YitingQu/unsafe-diffusion, one file a kind  linear, ReLU, batch norm, linear
univfd             WisconsinAIVision/UniversalFakeDetect (MIT)  one linear layer
sd-safety-checker  Stable Diffusion (CreativeML OpenRAIL-M)    concept vectors with a threshold each
=================  ==========================================  ==========================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError
from guardrails.screens.heads import Head, HeadSet, Linear, Mlp, Vectors

FORMS = ("laion-clip-nsfw", "unsafe-diffusion", "univfd", "sd-safety-checker")
# The checker lowers every threshold by this much when a special-care concept is hit.
SPECIAL_CARE = 0.01
_BATCH_NORM_EPSILON = 1e-5
_GOLDEN_SEED = 20261125

Tensors = Mapping[str, NDArray[Any]]


def read_published(tensors: Tensors, form: str, *, concept: str, encoder: str, dim: int) -> list[Head]:
    """The heads in an upstream file.

    Args:
        form: one of `FORMS`.
        concept: name of the head; the safety checker's are `concept` with a number.
        dim: of the encoder's vectors.

    Raises:
        OptionError: tensors are missing, have shapes that do not fit each other or the encoder, or give a head that is
            not finite.
    """
    makers: dict[str, Callable[[Tensors, str, str], Sequence[Linear | Mlp]]] = {
        "laion-clip-nsfw": _laion,
        "unsafe-diffusion": _unsafe_diffusion,
        "univfd": _univfd,
        "sd-safety-checker": _safety_checker,
    }
    if form not in makers:
        raise OptionError(f"{form!r} is no known form", hint=f"write one of: {', '.join(FORMS)}")
    known = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    try:
        with np.errstate(all="ignore"):
            heads = makers[form](known, concept, encoder)
    except (ValueError, IndexError) as error:
        shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in sorted(known.items()))
        raise OptionError(f"the tensors of the {form} file do not fit each other: {shapes}") from error
    if not heads or not all(_is_finite(head) for head in heads):
        raise OptionError(f"the {form} file gives no head, or one that is not finite", hint="convert the weights again")
    for head in heads:
        width = head.weight.shape[0] if isinstance(head, Linear) else head.layers[0][0].shape[1]
        if width != dim:
            raise OptionError(
                f"the {form} head takes {width} numbers, the encoder {encoder} gives {dim}",
                hint="load the encoder that its authors name",
            )
    found: list[Head] = list(heads)
    return found


def _is_finite(head: Linear | Mlp) -> bool:
    if isinstance(head, Linear):
        return bool(np.isfinite(head.weight).all() and np.isfinite(head.bias))
    return all(bool(np.isfinite(part).all()) for layer in head.layers for part in layer)


def to_tensors(heads: Sequence[Head]) -> dict[str, NDArray[np.float32]]:
    """The tensors under the names of a concept pack."""
    named: dict[str, NDArray[np.float32]] = {}
    for head in heads:
        if isinstance(head, Linear):
            named |= {f"{head.concept}.weight": head.weight, f"{head.concept}.bias": np.array([head.bias], np.float32)}
        elif isinstance(head, Mlp):
            for number, (weight, bias) in enumerate(head.layers):
                named |= {f"{head.concept}.{number}.weight": weight, f"{head.concept}.{number}.bias": bias}
    return named


def golden(heads: Sequence[Head]) -> list[float]:
    """What the heads make of one fixed vector: two installations with the same numbers read the same weights."""
    chosen = HeadSet(heads)
    dim = next(h.weight.shape[0] if isinstance(h, Linear) else h.layers[0][0].shape[1]
               for h in heads if isinstance(h, Linear | Mlp))  # fmt: skip
    vector = np.random.default_rng(_GOLDEN_SEED).normal(size=(1, dim))
    unit: Vectors = (vector / np.linalg.norm(vector)).astype(np.float32)
    return [round(float(value), 4) for value in chosen.raw(unit, chosen.encoder)[0]]


def safety_checker_decision(heads: Sequence[Linear], special_care: Sequence[Linear], vectors: Vectors) -> list[bool]:
    """The checker's own yes or no for each picture, without its order-dependence: all special-care concepts are looked
    at before any other, and their hits lower the other thresholds once."""
    encoder = heads[0].encoder
    care = HeadSet(special_care).raw(vectors, encoder).max(axis=1, keepdims=True)
    adjusted = HeadSet(heads).raw(vectors, encoder) + SPECIAL_CARE * (care > 0)
    return [bool(largest > 0) for largest in adjusted.max(axis=1)]


def _laion(tensors: Tensors, concept: str, encoder: str) -> list[Mlp]:
    """Keras layers in order; the normalisation is folded into the first."""
    layers = _layers(tensors, r"(?:dense|layers)[._](\d+)")
    mean, variance = tensors.get("normalization.mean"), tensors.get("normalization.variance")
    if mean is not None and variance is not None:
        weight, bias = layers[0]
        scaled: Vectors = (weight / np.sqrt(variance)).astype(np.float32)
        layers[0] = (scaled, bias - scaled @ mean)
    return [_mlp(concept, encoder, layers)]


def _unsafe_diffusion(tensors: Tensors, concept: str, encoder: str) -> list[Mlp]:
    """The batch norm behind the ReLU is folded into the last layer."""
    first, norm, last = "projection_head.0", "projection_head.3", "projection_head.4"
    parts = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, variance = (_need(tensors, f"{norm}.{part}") for part in parts)
    factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    weight, bias = _need(tensors, f"{last}.weight"), _need(tensors, f"{last}.bias")
    layers = [
        (_need(tensors, f"{first}.weight"), _need(tensors, f"{first}.bias")),
        (weight * factor, bias + weight @ (shift - mean * factor)),
    ]
    return [_mlp(concept, encoder, layers)]


def _univfd(tensors: Tensors, concept: str, encoder: str) -> list[Linear]:
    weight, bias = _need(tensors, "weight"), _need(tensors, "bias")
    if weight.ndim != 2 or weight.shape[0] != 1 or bias.shape != (1,):
        raise OptionError(
            f"the univfd layer has shapes {weight.shape} and {bias.shape}", hint="expected (1, dim), (1,)"
        )
    return [Linear(concept=concept, encoder=encoder, weight=weight[0], bias=float(bias[0]))]


def _safety_checker(tensors: Tensors, concept: str, encoder: str) -> list[Linear]:
    """A cosine minus its threshold is a linear head; "<concept>-care-<n>" are the special-care ones."""
    heads = []
    for key, name in (("concept_embeds", concept), ("special_care_embeds", f"{concept}-care")):
        vectors, thresholds = _need(tensors, key), _need(tensors, f"{key}_weights")
        if vectors.ndim != 2 or thresholds.shape != (len(vectors),):
            raise OptionError(f"{key} and its weights have shapes {vectors.shape} and {thresholds.shape}")
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        heads += [
            Linear(concept=f"{name}-{number + 1}", encoder=encoder, weight=row, bias=-float(threshold))
            for number, (row, threshold) in enumerate(zip(unit, thresholds, strict=True))
        ]
    return heads


def _layers(tensors: Tensors, pattern: str) -> list[tuple[Vectors, Vectors]]:
    numbers = sorted({int(found[1]) for name in tensors if (found := re.match(pattern, name))})
    prefix = {int(found[1]): found[0] for name in tensors if (found := re.match(pattern, name))}
    return [(_need(tensors, f"{prefix[n]}.weight"), _need(tensors, f"{prefix[n]}.bias")) for n in numbers]


def _mlp(concept: str, encoder: str, layers: Sequence[tuple[Vectors, Vectors]]) -> Mlp:
    widths = [(weight.shape, bias.shape) for weight, bias in layers]
    joined = all(layers[i][0].shape[0] == layers[i + 1][0].shape[1] for i in range(len(layers) - 1))
    fits = all(weight.ndim == 2 and bias.shape == (weight.shape[0],) for weight, bias in layers)
    if not layers or not fits or not joined or layers[-1][0].shape[0] != 1:
        raise OptionError(f"the layers do not fit each other: {widths}", hint="expected (outputs, inputs), ending in 1")
    return Mlp(concept=concept, encoder=encoder, layers=tuple(layers))


def _need(tensors: Tensors, name: str) -> Vectors:
    found = tensors.get(name)
    if found is None:
        raise OptionError(f"the tensor {name!r} is missing", hint=f"found: {', '.join(sorted(tensors))[:200]}")
    return np.asarray(found, np.float32)
