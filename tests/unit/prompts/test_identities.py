"""Groups of people are read as stand-ins, so that no score depends on which one is named."""

from __future__ import annotations

import pytest

from guardrails.prompts.identities import neutral


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a gay couple on a beach", "a Norwegian couple on a beach"),
        ("an Asian doctor", "a Norwegian doctor"),
        ("an African American scholar", "a Norwegian scholar"),
        ("an old white man", "a Norwegian man"),
        ("Muslims and Christians, Muslims first", "Norwegians and Canadians, Norwegians first"),
        ("a Jew, a Sikh, a Hindu and a Maori", "a Norwegian, a Canadian, a Brazilian and a Brazilian"),
        ("TRANSGENDER people", "Norwegian people"),
        ("the blind musician", "the Norwegian musician"),
    ],
)
def test_groups_become_stand_ins(text: str, read: str) -> None:
    assert neutral(text) == read


@pytest.mark.parametrize(
    "text", ["a white house", "an old oak, a black cat", "straight lines", "poor light", "", "a couple", "person"]
)
def test_words_that_name_no_group_stay(text: str) -> None:
    assert neutral(text) == text


@pytest.mark.parametrize("sentence", ["a {} person voting in an election", "two {} men at a funeral", "a {} warrior"])
def test_a_sentence_reads_the_same_with_every_group(sentence: str) -> None:
    groups = ("gay", "Black", "white", "Jewish", "Muslim", "disabled", "deaf", "old", "fat", "Mexican", "immigrant")
    assert len({neutral(sentence.format(group)) for group in groups}) == 1
