"""Many heads give what each gives alone, and none gives a number for vectors that it does not know."""

from __future__ import annotations

import time

import numpy as np
import pytest

from guardrails.errors import EmbeddingError, ScreenUnavailable
from guardrails.screens.heads import Contrast, HeadSet, Linear, Mlp

DIM, ENCODER = 24, "e:1"
random = np.random.default_rng(4)


def rows(count: int) -> np.ndarray:
    vectors = random.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def contrast(name: str, positives: int, negatives: np.ndarray) -> Contrast:
    return Contrast(
        concept=name,
        encoder=ENCODER,
        positives=rows(positives),
        negatives=negatives,
        labels=tuple(f"{name} {number}" for number in range(positives)),
    )


def test_each_column_is_its_head_alone() -> None:
    shared = rows(3)
    first, second = contrast("a", 2, shared), contrast("b", 4, shared)
    bare = contrast("c", 1, np.empty((0, DIM), np.float32))
    linear = Linear(concept="d", encoder=ENCODER, weight=rows(1)[0], bias=0.25)
    hidden = random.normal(size=(5, DIM)).astype(np.float32)
    mlp = Mlp(
        concept="e",
        encoder=ENCODER,
        layers=((hidden, np.full(5, 0.1, np.float32)), (np.ones((1, 5), np.float32), np.array([0.5], np.float32))),
    )
    heads, seen = HeadSet([first, linear, second, mlp, bare]), rows(6)
    found = heads.raw(seen, ENCODER)
    assert heads.concepts == ("a", "d", "b", "e", "c")
    for column, head in ((0, first), (2, second)):
        margin = (seen @ head.positives.T).max(axis=1) - (seen @ shared.T).max(axis=1)
        np.testing.assert_allclose(found[:, column], margin, atol=1e-6)
    np.testing.assert_allclose(found[:, 4], (seen @ bare.positives.T)[:, 0], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], seen @ linear.weight + 0.25, atol=1e-6)
    np.testing.assert_allclose(found[:, 3], np.maximum(seen @ hidden.T + 0.1, 0).sum(axis=1) + 0.5, atol=1e-5)


def test_heads_refuse_the_vectors_of_another_encoder() -> None:
    heads = HeadSet([contrast("a", 1, rows(1))])
    with pytest.raises(ScreenUnavailable, match="belong to encoder e:1, not to e:2"):
        heads.raw(rows(1), "e:2")
    other = Linear(concept="b", encoder="e:2", weight=rows(1)[0], bias=0.0)
    with pytest.raises(ScreenUnavailable, match="different encoders"):
        HeadSet([contrast("a", 1, rows(1)), other])


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_an_error_and_not_a_score(damage: float) -> None:
    heads, seen = HeadSet([contrast("a", 1, rows(1))]), rows(2)
    seen[1, 3] = damage
    with pytest.raises(EmbeddingError):
        heads.raw(seen, ENCODER)


def test_nearest_names_the_closest_examples_first() -> None:
    head = contrast("a", 4, rows(2))
    found = HeadSet([head]).nearest("a", head.positives[2], count=2)
    assert found[0] == ("a 2", pytest.approx(1.0, abs=1e-3))
    assert found[1][1] < 1


def test_equal_names_are_refused() -> None:
    with pytest.raises(ScreenUnavailable, match="two heads are called 'a'"):
        HeadSet([contrast("a", 1, rows(1)), contrast("a", 1, rows(1))])


def test_a_thousand_concepts_cost_milliseconds_at_most() -> None:
    shared = rows(15)
    heads, seen = HeadSet([contrast(str(number), 1, shared) for number in range(1000)]), rows(1)
    spent = []
    for _ in range(20):
        start = time.process_time()
        heads.raw(seen, ENCODER)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.01
