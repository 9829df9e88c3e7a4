"""Heads: scores that add up, belong to one encoder, and name their neighbours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from guardrails.errors import EmbeddingError, ModelUnavailable
from guardrails.prompts.heads import PromptHeads, as_integers, load_heads

DIM = 4


@pytest.fixture
def heads() -> PromptHeads:
    """Two categories; the first axis speaks for "fire", the second for "flood"."""
    hidden = np.eye(DIM, dtype=np.float32)
    output = np.zeros((DIM, 2), dtype=np.float32)
    output[0, 0] = output[1, 1] = 1.0
    return PromptHeads(
        encoder="e1",
        categories=("fire", "flood"),
        hidden_weight=hidden,
        hidden_bias=np.zeros(DIM, dtype=np.float32),
        output_weight=output,
        output_bias=np.full(2, -4.0, dtype=np.float32),
        example_vectors=as_integers(np.eye(DIM, dtype=np.float32)),
        example_texts=("burning", "drowning", "meadow", "ümlaut, and a comma"),
        example_categories=("fire", "flood", "", ""),
    )


def test_the_largest_output_names_the_category(heads: PromptHeads) -> None:
    fire, flood, nothing = heads.assess(np.eye(DIM, dtype=np.float32)[:3], "e1")
    assert (fire.category, flood.category) == ("fire", "flood")
    assert fire.score > 0.9 > 0.1 > nothing.score


def test_shares_add_up_to_the_score(heads: PromptHeads) -> None:
    vectors = np.random.default_rng(0).normal(size=(20, DIM)).astype(np.float32)
    for one in heads.assess(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), "e1"):
        assert sum(one.shares.values()) == pytest.approx(one.score)
        assert one.category == max(one.shares, key=lambda name: one.shares[name])
        assert 0 < one.score < 1


def test_vectors_of_another_encoder_are_refused(heads: PromptHeads) -> None:
    with pytest.raises(ModelUnavailable, match="e2"):
        heads.assess(np.eye(DIM, dtype=np.float32), "e2")


def test_a_score_that_is_not_finite_is_an_error(heads: PromptHeads) -> None:
    broken = dataclasses.replace(heads, output_bias=np.array([np.nan, 0], dtype=np.float32))
    with pytest.raises(EmbeddingError):
        broken.assess(np.eye(DIM, dtype=np.float32), "e1")


def test_the_nearest_examples_come_first_and_have_the_label(heads: PromptHeads) -> None:
    vector = np.array([0.1, 0, 0.6, 0.79], dtype=np.float32)
    harmless = heads.nearest(vector, "", 5)
    assert [near.text for near in harmless] == ["ümlaut, and a comma", "meadow"]
    assert heads.nearest(vector, "fire", 1)[0].text == "burning"
    assert heads.nearest(vector, "unknown", 3) == []


def test_heads_survive_a_file(tmp_path: Path, heads: PromptHeads) -> None:
    heads.save(tmp_path / "heads.npz")
    read = load_heads(tmp_path / "heads.npz")
    assert len(read.digest) == 64
    assert (read.categories, read.example_texts, read.example_categories) == (
        heads.categories,
        heads.example_texts,
        heads.example_categories,
    )
    vectors = np.eye(DIM, dtype=np.float32)
    assert [one.score for one in read.assess(vectors, "e1")] == pytest.approx(
        [one.score for one in heads.assess(vectors, "e1")], abs=1e-3
    )


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_missing_or_damaged_file_is_unavailable(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "heads.npz").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"heads\.npz"):
        load_heads(tmp_path / "heads.npz")


def test_integers_keep_directions() -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    integers = as_integers(vectors).astype(np.float32)
    cosines = (integers * vectors).sum(axis=1) / np.linalg.norm(integers, axis=1)
    assert cosines.min() > 0.999
