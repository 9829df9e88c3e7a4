"""Training pairs: the same seed draws the same, the twins differ where the ink is, and cells say where."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from guardrails.resources import datasets_path
from guardrails.screens.lettering_overlays import CELL, CROP, SIDE, Pair, pair, wording
from guardrails.testing.doubles import draw_shapes

FONT = str(datasets_path("labels", "label.ttf"))


def drawn(seed: int, **options: int) -> Pair:
    buffer = io.BytesIO()
    Image.fromarray(draw_shapes(seed, 400)).save(buffer, "JPEG")
    return pair(random.Random(seed), buffer.getvalue(), [FONT], ["shutterstock"], **options)


@pytest.mark.parametrize("side", [CROP, SIDE])
def test_a_pair_has_its_shape_and_is_the_same_for_one_seed(side: int) -> None:
    lettered, plain, cells, shows = drawn(5, side=side)
    assert lettered.shape == plain.shape == (side, side)
    assert lettered.dtype == plain.dtype == np.uint8
    assert cells.shape == (side // CELL, side // CELL)
    assert 0 <= shows <= 1
    assert all(np.array_equal(one, other) for one, other in zip(drawn(5, side=side), drawn(5, side=side), strict=True))


def test_twins_differ_most_where_the_ink_is() -> None:
    inside, outside = [], []
    for seed in range(40):
        lettered, plain, cells, shows = drawn(seed)
        if shows == 1 and 0 < cells.sum() < cells.size:
            apart = np.abs(lettered.astype(int) - plain).reshape(len(cells), CELL, len(cells), CELL).mean(axis=(1, 3))
            inside.append(apart[cells].mean())
            outside.append(apart[~cells].mean())
    assert len(inside) > 20
    assert np.mean(inside) > 3 * np.mean(outside)


def test_wordings_are_of_many_kinds_and_names_are_not_the_rule() -> None:
    chance = random.Random(1)
    texts = [wording(chance, ["shutterstock"]) for _ in range(400)]
    assert len(set(texts)) > 250
    assert 0.2 < sum("shutterstock" in text.lower() for text in texts) / len(texts) < 0.4
