"""What takes the place of an artist's name, and of words that leave an age open."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guardrails.domain.findings import Action
from guardrails.domain.requests import PromptDecision

Decide = Callable[[str], PromptDecision]


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("a castle, art by Greg Rutkowski", "a castle, {}"),
        ("a castle in the style of greg rutkowski, 8k", "a castle {}, 8k"),
        ("Greg Rutkowski style castle", "{} castle"),
        ("Greg Rutkowski's style, a castle", "{}, a castle"),
        ("a castle (greg rutkowski:1.2)", "a castle ({}:1.2)"),
        ("a castle by g\u200breg rutk\u043ewski", "a castle {}"),
    ],
)
def test_the_name_and_what_leads_to_it_are_replaced(decide: Decide, prompt: str, drawn: str) -> None:
    decision = decide(prompt)
    assert decision.action is Action.REWRITE
    assert decision.prompt == drawn.format("epic fantasy illustration, dramatic light, rich oil brushwork")


def test_every_artist_gets_words_of_their_own(decide: Decide) -> None:
    decision = decide("a forest by Hayao Miyazaki and Beeple")
    animation, digital = "hand-drawn animation, lush watercolor backgrounds, gentle light", "surreal digital art"
    assert decision.prompt == f"a forest {animation} and {digital}, dystopian 3D rendering"
    (finding,) = [finding for finding in decision.findings if finding.rule == "STYLE-01"]
    assert [edit["from"] for edit in finding.evidence["rewrites"]] == ["by Hayao Miyazaki", "Beeple"]


def test_the_dead_keep_their_names(decide: Decide) -> None:
    decision = decide("a field of flowers in the style of Alphonse Mucha")
    assert not decision.rewritten
    assert decision.action <= Action.FLAG


def test_adults_are_made_explicit(decide: Decide) -> None:
    decision = decide("two girls and a boy in swimwear at a nightclub")
    assert decision.prompt == "two adult women and a adult man in swimwear at a nightclub"
    assert decide("a girl reading a book").prompt == "a girl reading a book"


def test_a_guess_rewrites_nothing(decide: Decide) -> None:
    assert not decide("a castle by greg rutkowsky, art").rewritten
