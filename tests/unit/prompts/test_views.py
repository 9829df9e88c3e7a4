"""Disguises are undone, and every character of every view knows where it came from."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardrails.prompts.views import views_of

DISGUISED = [
    ("plain", "A Word", "a word"),
    ("plain", "wórd r\u0336ing", "word ring"),
    ("escapes", "w&#111;r&#x64;", "word"),
    ("escapes", "w%6frd", "word"),
    ("escapes", "w\\u006frd", "word"),
    ("folded", "w\u043er\u0501", "word"),
    ("plain", "\U0001d430\U0001d428\U0001d42b\U0001d41d", "word"),
    ("plain", "\uff57\uff4f\uff52\uff44", "word"),
    ("plain", "\u283a\u2815\u2817\u2819", "word"),
    ("syntax", "wo(rd:1.2)", "word"),
    ("syntax", "[[w{o}rd]] : -0.5 x", "word  x"),
    ("syntax", "wo<lora:thing:0.8>rd", "word"),
    ("leet", "w0rd", "word"),
    ("leet", "1ead", "lead"),
    ("leet", "1nto", "into"),
    ("leet", "$@nd!", "sand!"),
    ("leet", "n 4 m e", "n a m e"),
    ("squeezed", "woooord", "word"),
    ("squeezed", "wooooord", "woord"),
]


@pytest.mark.parametrize(("name", "prompt", "expected"), DISGUISED)
def test_a_disguise_is_undone_by_its_view(name: str, prompt: str, expected: str) -> None:
    assert (name, expected) in {(view.name, view.text) for view in views_of(prompt)}


def test_an_undisguised_prompt_has_one_view() -> None:
    assert [view.name for view in views_of("A small house, by the sea")] == ["plain"]


@pytest.mark.parametrize(
    "russian", ["\u043a\u0440\u0430\u0441\u0438\u0432\u044b\u0439 \u0434\u043e\u043c", "\u0441\u043b\u043e\u0432\u043e"]
)
def test_real_words_of_another_script_survive(russian: str) -> None:
    texts = {view.text for view in views_of(russian)}
    assert not any(char.isascii() and char.isalpha() for text in texts for char in text)


@pytest.mark.parametrize("prompt", ["8k", "a 35mm lens, 3d, 16:9", "4 k, 1080p"])
def test_measures_are_not_read_as_words(prompt: str) -> None:
    assert all(view.name != "leet" for view in views_of(prompt))


PIECES = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(
            ["&#110;", "&amp", "(x:1.2)", "<lora:a:1>", "w o r d ", "aaa", "ﷺ", "p0rn!", "\u00e9", "\u0435", " "]
        ),
    ),
    max_size=12,
).map("".join)


@given(PIECES)
@example("&lt<&#x110;")
@settings(max_examples=150, deadline=None)
def test_every_view_maps_every_character_back_inside_the_prompt(prompt: str) -> None:
    for view in views_of(prompt):
        places = [view.original_span(index, index + 1) for index in range(len(view.text))]
        assert all(0 <= start < end <= len(prompt) for start, end in places)
        # Spans of longer ranges are sound only because positions never run backwards.
        assert places == sorted(places)


@given(PIECES)
@example("A%00_&#110;")
@settings(max_examples=100, deadline=None)
def test_what_a_view_does_not_call_news_could_be_read_in_its_parent(prompt: str) -> None:
    for view in views_of(prompt):
        for start in range(len(view.text)):
            if view.parent is not None and not view.is_news(start, start + 1):
                assert view.text[start] in views_of(view.parent.text)[0].text
