"""Heads are fitted, calibrated and tested on drawings that have nothing in common."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest

from guardrails.resources import datasets_path
from guardrails.screens import training


@pytest.fixture(scope="module")
def manifest() -> list[dict[str, str]]:
    with datasets_path("pocket", "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_parts_share_no_name_and_safe_names_are_drawn_once(manifest: list[dict[str, str]]) -> None:
    examples = training.choose_examples(manifest)
    safe = [example for example in examples if not example.concept]
    assert len({example.name for example in safe}) == len(safe) == sum(training.SAFE_PARTS.values())
    by_part = {part: {example.name for example in safe if example.part == part} for part in training.SAFE_PARTS}
    assert {part: len(names) for part, names in by_part.items()} == training.SAFE_PARTS
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(by_part.values(), 2))
    for concept in training.CONCEPTS:
        assert not (concept.names | concept.unclear) & {example.name for example in safe}
        assert concept.names == {example.name for example in examples if example.concept == concept.id}
    assert examples == training.choose_examples(manifest)


def test_share_alike_drawings_are_never_fitted_or_calibrated_on(manifest: list[dict[str, str]]) -> None:
    for example in training.choose_examples(manifest):
        assert ("SA" in manifest[example.row]["licence"]) == (example.part == "foreign")


def test_drawing_lies_in_its_place_over_its_background() -> None:
    rgba = np.zeros((256, 256, 4), dtype=np.uint8)
    rgba[...] = (200, 0, 0, 255)
    example = training.Example(
        row=0, name="", concept="", part="fit", background=(1, 2, 3), scale=0.5, across=1.0, down=0.0
    )
    pixels = training.draw(example, rgba)
    assert tuple(pixels[0, 255]) == (200, 0, 0)
    assert tuple(pixels[0, 127]) == tuple(pixels[128, 255]) == (1, 2, 3)
    assert (training.draw(example, np.zeros_like(rgba)) == (1, 2, 3)).all()


def test_fitted_head_tells_new_vectors_apart_and_knows_its_encoder() -> None:
    random = np.random.default_rng(2)
    centres = random.normal(size=(2, 64))

    def cloud(which: int) -> np.ndarray:
        vectors = centres[which] + 0.8 * random.normal(size=(200, 64))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    head = training.fit_head(cloud(0)[:30], cloud(1), concept="c", encoder="e")
    assert head.vector.dtype == np.float16
    assert np.mean(head.scores(cloud(0), "e") > 0.5) > 0.98
    assert np.mean(head.scores(cloud(1), "e") < 0.5) > 0.98
