"""Training and calibration on vectors that stand for meanings."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from guardrails.errors import OptionError
from guardrails.prompts import head_training
from guardrails.prompts.examples import Example
from guardrails.prompts.head_calibration import levels
from guardrails.prompts.head_training import Recipe, Start, train
from guardrails.prompts.heads import Assessment

DIM = 16


@pytest.fixture(scope="module")
def data() -> tuple[list[Example], NDArray[np.float32]]:
    """Two categories with twins: the topic is one axis, the intent another."""
    rng = np.random.default_rng(0)
    examples, rows = [], []
    for n in range(120):
        topic = ("fire", "flood")[n % 2]
        for unsafe in (True, False):
            vector = rng.normal(scale=0.3, size=DIM)
            vector[n % 2] += 2
            vector[2] += 1.5 if unsafe else -1.5
            rows.append(vector)
            examples.append(
                Example(
                    text=f"{topic} {n} {unsafe}", categories=(topic,) if unsafe else (), topic=topic, source="contrast",
                    fold=n % 5, pair=f"p{n}",
                )
            )  # fmt: skip
    vectors = np.array(rows, dtype=np.float32)
    return examples, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_heads_learn_the_intent_and_the_category(data: tuple[list[Example], NDArray[np.float32]]) -> None:
    examples, vectors = data
    seen = [i for i, one in enumerate(examples) if one.fold != 4]
    new = [i for i, one in enumerate(examples) if one.fold == 4]
    trained = train([examples[i] for i in seen], vectors=vectors[seen], recipe=Recipe(epochs=40, warm_up=5))
    heads = trained.heads("e", [examples[0]], vectors[:1])
    found = heads.assess(vectors[new], "e")
    assert np.mean([(one.score > 0.5) == examples[i].is_unsafe for i, one in zip(new, found, strict=True)]) > 0.9
    assert all(one.category == examples[i].topic for i, one in zip(new, found, strict=True) if examples[i].is_unsafe)
    assert trained.adapter == {}


def test_the_same_seed_gives_the_same_heads(data: tuple[list[Example], NDArray[np.float32]]) -> None:
    examples, vectors = data
    one, two = (train(examples[:40], vectors=vectors[:40], recipe=Recipe(epochs=1)) for _ in range(2))
    assert np.array_equal(one.hidden_weight, two.hidden_weight)


def test_twins_stand_in_one_batch(data: tuple[list[Example], NDArray[np.float32]]) -> None:
    examples, _ = data
    for batch in head_training._batches(examples, Recipe(), 0):
        unsafe, benign = head_training._pairs([examples[i] for i in batch])
        assert len(unsafe) == len(benign) == len(batch) // 2


def test_plain_prompts_are_sampled_anew(data: tuple[list[Example], NDArray[np.float32]]) -> None:
    examples = data[0][:10] + [
        Example(text=f"caption {n}", categories=(), topic="", source="coco", fold=0) for n in range(100)
    ]
    epochs = [sorted(i for b in head_training._batches(examples, Recipe(plain=20), n) for i in b) for n in (0, 1)]
    assert len(epochs[0]) == len(epochs[1]) == 30
    assert epochs[0] != epochs[1]


def test_going_on_needs_the_same_categories(data: tuple[list[Example], NDArray[np.float32]]) -> None:
    examples, vectors = data
    heads = train(examples[:40], vectors=vectors[:40], recipe=Recipe(epochs=1)).heads("e", examples[:1], vectors[:1])
    only_fire = [i for i, one in enumerate(examples) if one.topic == "fire"]
    with pytest.raises(OptionError, match="categories"):
        head_training._start_head(head_training._head(DIM, 1, Recipe()), heads, ("fire",))
    assert only_fire
    head = head_training._head(DIM, 2, Recipe())
    head_training._start_head(head, Start(adapter={}, heads=heads).heads, ("flood", "fire"))
    assert np.allclose(head[4].bias.detach().numpy(), heads.output_bias[::-1])


def _assessed(score: float) -> Assessment:
    return Assessment(category="fire", score=score, shares={"fire": score})


def test_levels_hold_their_rate_on_the_harmless_of_the_topic() -> None:
    rng = np.random.default_rng(0)
    harmless = [Example(text="", categories=(), topic="fire", source="s", fold=0)] * 400
    captions = [Example(text="", categories=(), topic="", source="coco", fold=0)] * 300
    unsafe = [Example(text="", categories=("fire",), topic="fire", source="s", fold=0)] * 50
    scores = [*rng.uniform(0, 0.6, 400), *rng.uniform(0, 0.1, 300), *rng.uniform(0.5, 1, 50)]
    found = levels([*harmless, *captions, *unsafe], [_assessed(score) for score in scores])
    for rate, level in found.items():
        assert np.mean(np.array(scores[:400]) >= level["threshold"]) <= float(rate)
    assert "n = 400" in found["0.02"]["error_rate"]
    assert "0 of 300 captions" in found["0.02"]["error_rate"]
    assert found["0.04"]["threshold"] < found["0.01"]["threshold"]


def test_a_rate_that_n_cannot_promise_is_left_out() -> None:
    harmless = [Example(text="", categories=(), topic="fire", source="s", fold=0)] * 60
    assert min(map(float, levels(harmless, [_assessed(0.1)] * 60))) == 0.02
