from __future__ import annotations

import pytest

from guardrails.domain.rights import Rights
from guardrails.similarity.entries import Entry
from guardrails.similarity.families import family_of


def entry(title: str, creator: str = "A") -> Entry:
    rights = Rights(licence="MIT", licence_url="", creator=creator, source="p@1")
    return Entry(id=title, title=title, rights=rights, sha256="")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("waving hand: dark skin tone", "waving hand"),
        ("man cook", "woman cook"),
        ("flag: Malta", "flag: Chad"),
        ("two o’clock", "eleven-thirty"),  # noqa: RUF001
        ("waxing crescent moon", "full moon"),
        ("red heart", "blue heart"),
        ("woman running facing right", "man running"),
    ],
)
def test_variants_by_one_hand_are_one_family(one, other):
    assert family_of(entry(one)) == family_of(entry(other))


@pytest.mark.parametrize(("one", "other"), [("red heart", "red apple"), ("two hearts", "two o'clock"), ("man", "cook")])
def test_other_things_are_not(one, other):
    assert family_of(entry(one)) != family_of(entry(other))


def test_the_same_name_by_another_hand_is_another_family():
    assert family_of(entry("red heart", "A")) != family_of(entry("red heart", "B"))
