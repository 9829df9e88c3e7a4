"""Upstream files become heads that compute what their authors' networks compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guardrails.errors import OptionError
from guardrails.screens.heads import HeadSet
from guardrails.screens.published import golden, read_published, safety_checker_decision, to_tensors

DIM, ENCODER = 12, "clip:1"


def seen(count: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def tensors(module: torch.nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": value.numpy() for name, value in module.state_dict().items()}


def raw(heads: list, vectors: np.ndarray) -> np.ndarray:
    return HeadSet(heads).raw(vectors, ENCODER)


def test_unsafe_diffusion_with_its_batch_norm_folded_in() -> None:
    torch.manual_seed(2)
    network = torch.nn.Sequential(
        torch.nn.Linear(DIM, 6), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 1)
    )
    network(torch.randn(64, DIM))
    network.eval()
    with torch.no_grad():
        network[3].weight.uniform_(0.5, 2)
        network[3].bias.uniform_(-1, 1)
        expected = network(torch.from_numpy(seen())).numpy()
    heads = read_published(
        tensors(network, "projection_head."), "unsafe-diffusion", concept="hateful", encoder=ENCODER, dim=DIM
    )
    np.testing.assert_allclose(raw(heads, seen()), expected, atol=1e-5)


def test_laion_with_its_normalisation_folded_in() -> None:
    torch.manual_seed(3)
    network = torch.nn.Sequential(torch.nn.Linear(DIM, 7), torch.nn.ReLU(), torch.nn.Linear(7, 1))
    mean, variance = np.linspace(-1, 1, DIM, dtype=np.float32), np.linspace(0.5, 2, DIM, dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy((seen() - mean) / np.sqrt(variance))).numpy()
    state = {
        "normalization.mean": mean,
        "normalization.variance": variance,
        **{f"dense.{number}.{part}": value for number, layer in ((0, 0), (1, 2))
           for part, value in tensors(network[layer]).items()},
    }  # fmt: skip
    heads = read_published(state, "laion-clip-nsfw", concept="nsfw", encoder=ENCODER, dim=DIM)
    np.testing.assert_allclose(raw(heads, seen()), expected, atol=1e-5)


def test_univfd_is_one_layer() -> None:
    layer = torch.nn.Linear(DIM, 1)
    heads = read_published(tensors(layer), "univfd", concept="synthetic", encoder=ENCODER, dim=DIM)
    with torch.no_grad():
        np.testing.assert_allclose(raw(heads, seen()), layer(torch.from_numpy(seen())).numpy(), atol=1e-6)


def checker(concepts: np.ndarray, care: np.ndarray) -> list:
    state = {
        "concept_embeds": concepts,
        "concept_embeds_weights": np.full(len(concepts), 0.3, np.float32),
        "special_care_embeds": care,
        "special_care_embeds_weights": np.full(len(care), 0.3, np.float32),
    }
    return read_published(state, "sd-safety-checker", concept="sd", encoder=ENCODER, dim=DIM)


def test_safety_checker_keeps_its_concepts_and_scores() -> None:
    axes = np.eye(DIM, dtype=np.float32)
    heads = checker(axes[:3] * 5, axes[3:5])
    assert [head.concept for head in heads] == ["sd-1", "sd-2", "sd-3", "sd-care-1", "sd-care-2"]
    np.testing.assert_allclose(raw(heads, axes[1:2])[0], [-0.3, 0.7, -0.3, -0.3, -0.3], atol=1e-6)


def test_special_care_lowers_every_threshold_whatever_the_order() -> None:
    axes = np.eye(DIM, dtype=np.float32)
    almost = 0.295 * axes[0] + 0.5 * axes[3]
    vectors = np.stack([almost + np.sqrt(1 - np.sum(almost**2)) * axes[9], 0.295 * axes[0] + 0.9555 * axes[9]])
    for order in ([0, 1], [1, 0]):
        heads = checker(axes[:2][order], axes[3:4])
        assert safety_checker_decision(heads[:2], heads[2:], vectors.astype(np.float32)) == [True, False]


LAION = {"dense.0.weight": np.ones((1, DIM)), "dense.0.bias": np.ones(1)}
UNSAFE = {
    "projection_head.0.weight": np.ones((6, DIM)),
    "projection_head.0.bias": np.ones(6),
    "projection_head.4.weight": np.ones((1, 6)),
    "projection_head.4.bias": np.ones(1),
    **{f"projection_head.3.{part}": np.ones(6) for part in ("weight", "bias", "running_mean", "running_var")},
}


@pytest.mark.parametrize(
    ("form", "state", "message"),
    [
        ("univfd", {"weight": np.ones((2, DIM)), "bias": np.ones(2)}, "shapes"),
        ("univfd", {"weight": np.ones((1, DIM))}, "'bias' is missing"),
        ("univfd", {"weight": np.ones((1, DIM + 1)), "bias": np.ones(1)}, "takes 13 numbers"),
        ("laion-clip-nsfw", {"dense.0.weight": np.ones((3, DIM)), "dense.0.bias": np.ones(3)}, "do not fit"),
        ("laion-clip-nsfw", {}, "do not fit"),
        ("autokeras", {}, "no known form"),
        (
            "laion-clip-nsfw",
            {"normalization.mean": np.zeros(DIM), "normalization.variance": np.ones(DIM)},
            "do not fit",
        ),
        (
            "laion-clip-nsfw",
            LAION | {"normalization.mean": np.zeros(5), "normalization.variance": np.ones(5)},
            "not fit",
        ),
        (
            "laion-clip-nsfw",
            LAION | {"normalization.mean": np.zeros(DIM), "normalization.variance": np.zeros(DIM)},
            "not finite",
        ),
        ("univfd", {"weight": np.full((1, DIM), np.nan), "bias": np.ones(1)}, "not finite"),
        ("unsafe-diffusion", UNSAFE | {"projection_head.3.weight": np.ones(9)}, "do not fit"),
        (
            "sd-safety-checker",
            {
                "concept_embeds": np.zeros((1, DIM)),
                "concept_embeds_weights": np.ones(1),
                "special_care_embeds": np.ones((1, DIM)),
                "special_care_embeds_weights": np.ones(1),
            },
            "not finite",
        ),
    ],
)
def test_files_of_another_shape_are_refused(form: str, state: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_published(state, form, concept="c", encoder=ENCODER, dim=DIM)


def test_golden_numbers_tell_weights_apart() -> None:
    axes = np.eye(DIM, dtype=np.float32)
    heads = checker(axes[:2], axes[3:4])
    assert golden(heads) == golden(checker(axes[:2], axes[3:4]))
    assert golden(heads) != golden(checker(axes[1:3], axes[3:4]))
    assert set(to_tensors(heads)) == {f"{name}.{part}" for name in ("sd-1", "sd-2", "sd-care-1")
                                      for part in ("weight", "bias")}  # fmt: skip
