from __future__ import annotations

import dataclasses

import pytest

from guardrails.domain.images import MatchState
from guardrails.similarity.levels import STATES, Level, TileCounts, error_rates

WHOLE = TileCounts(
    counted=60,
    covered=60,
    agreeing=58,
    inner=20,
    inner_agreeing=20,
    firm=20,
    firm_agreeing=20,
    correlation=0.99,
    tone="same",
    plain=False,
)


def level(**changes: object) -> Level:
    return dataclasses.replace(WHOLE, **changes).level


def test_nearly_all_tiles_in_the_same_colours_are_strict():
    assert level() is Level.STRICT


@pytest.mark.parametrize(
    "changes",
    [
        {"agreeing": 40},
        {"tone": "toned"},
        {"inner_agreeing": 12},
        {"correlation": 0.85},
        {"covered": 30, "agreeing": 30},
        {"tone": "grey"},
    ],
    ids=["fewer tiles", "other tone", "another inside", "rough structure", "a crop", "no colours"],
)
def test_less_is_confirmed(changes):
    assert level(**changes) is Level.CONFIRMED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"agreeing": 29, "counted": 40, "covered": 40}, Level.REVIEW),
        ({"inner_agreeing": 9}, Level.REVIEW),
        ({"tone": "grey", "agreeing": 45}, Level.REVIEW),
        ({"agreeing": 20}, Level.LOOSE),
        ({"agreeing": 10}, Level.NONE),
        ({"counted": 7, "covered": 7, "agreeing": 7, "inner": 0, "inner_agreeing": 0}, Level.UNVERIFIABLE),
        ({"plain": True}, Level.UNVERIFIABLE),
    ],
)
def test_what_does_not_confirm(changes, expected):
    assert level(**changes) is expected


def test_an_outline_without_inside_is_judged_by_the_whole():
    outline = {"inner": 2, "inner_agreeing": 0}
    assert level(**outline) is Level.STRICT
    assert level(agreeing=50, **outline) is Level.CONFIRMED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Level.STRICT),
        ({"firm": 10, "firm_agreeing": 9}, Level.CONFIRMED),
        ({"correlation": 0.95}, Level.CONFIRMED),
        ({"firm": 2, "firm_agreeing": 2}, Level.CONFIRMED),
        ({"firm": 1, "firm_agreeing": 1}, Level.REVIEW),
        ({"firm": 0, "firm_agreeing": 0}, Level.REVIEW),
        ({"firm": 20, "firm_agreeing": 13}, Level.REVIEW),
        ({"firm": 19, "firm_agreeing": 19, "correlation": 0.95}, Level.REVIEW),
        ({"agreeing": 20, "firm_agreeing": 0}, Level.LOOSE),
    ],
    ids=[
        "firm",
        "few",
        "many, not close",
        "two",
        "one",
        "straight edges",
        "elsewhere",
        "fewer, not close",
        "little agrees",
    ],
)
def test_parts_need_tiles_that_are_fixed_in_both_directions(changes, expected):
    assert dataclasses.replace(WHOLE, **changes).level_of_part is expected


@pytest.mark.parametrize("placed", [False, True])
def test_every_state_but_a_candidate_states_its_rate_with_its_n(placed):
    rates = error_rates(placed=placed)
    for state in (MatchState.STRICT, MatchState.CONFIRMED, MatchState.REVIEW):
        assert "95 % upper bound" in rates[state]
    assert set(rates) == set(MatchState)


def test_surer_levels_give_surer_states():
    order = list(MatchState)[::-1]
    states = [STATES[one] for one in sorted(Level)]
    assert [order.index(state) for state in states] == sorted(order.index(state) for state in states)
