"""Which labels a picture gets: what the law of a place requires, and what somebody adds."""

from __future__ import annotations

import pytest

from guardrails.errors import OptionError
from guardrails.policy.labelling import label_profiles, wanted_labels


@pytest.mark.parametrize(
    ("jurisdiction", "asked", "wanted"),
    [
        ("CN", (), ["cn"]),
        ("CN", ("eu",), ["cn", "eu"]),
        ("DE", (), []),
        ("DE", ("eu",), ["eu"]),
        ("US-CA", (), []),
        ("US-CA", ("us",), ["us"]),
        ("CN-31", (), ["cn"]),
        ("BR", ("cn", "us", "us"), ["cn", "us"]),
        ("", (), []),
        ("", ("cn",), ["cn"]),
    ],
)
def test_who_asks_adds_to_what_the_place_requires(jurisdiction: str, asked: tuple[str, ...], wanted: list[str]) -> None:
    assert [profile.id for profile in wanted_labels(jurisdiction, asked)] == wanted


@pytest.mark.parametrize(("jurisdiction", "asked"), [("cn", ()), ("China", ()), ("C", ()), ("", ("de",)), ("", ("",))])
def test_a_slip_is_told_and_draws_no_other_label(jurisdiction: str, asked: tuple[str, ...]) -> None:
    with pytest.raises(OptionError):
        wanted_labels(jurisdiction, asked)


def test_the_shipped_profiles() -> None:
    profiles = label_profiles()
    assert set(profiles) == {"cn", "eu", "us"}
    china = profiles["cn"]
    # GB 45438-2025: both elements in the words, 5 % of the shortest side, the file's own label.
    for text in (china.generated, china.edited):
        assert "AI" in text or "人工智能" in text
        assert "生成" in text or "合成" in text
    assert (china.required, china.height_percent, china.file_label) == (True, 5, "tc260")
    assert len(profiles["eu"].countries) == 27
    assert profiles["us"].countries == ("US",)
