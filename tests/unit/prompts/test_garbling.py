"""Heaps of broken words, told from sentences."""

from __future__ import annotations

import pytest

from guardrails.prompts.garbling import is_garbled


@pytest.mark.parametrize(
    "text",
    ["qwzrt plgkh vomentiary skibble drontle", "frosted umbra, gnostic thistle quell isotope", "zxcvb " * 200],
)
def test_heaps_of_rare_words_are_garbled(text: str) -> None:
    assert is_garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        "a man riding a horse along the beach at sunset",
        "Qwzrt Plgkh talks to a friend in the garden of the old house",
        "qwzrt plgkh",
        "",
        "1 2 3 4 5 6 7",
    ],
)
def test_sentences_and_short_texts_are_not(text: str) -> None:
    assert not is_garbled(text)
