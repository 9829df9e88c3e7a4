"""Canonical JSON against the published vectors of RFC 8785."""

from __future__ import annotations

import enum
import json
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.domain.canonical import MAX_SAFE_INTEGER, canonical_json, digest
from guardrails.domain.findings import Action

# RFC 8785, appendix B: IEEE 754 double bits -> JSON.
APPENDIX_B = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), APPENDIX_B.items())
def test_numbers_are_written_as_in_appendix_b(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == text.encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_numbers_without_a_json_form_are_refused(bits: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    with pytest.raises(ValueError, match="no JSON form"):
        canonical_json(number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_reads_back_as_itself(number: float) -> None:
    assert float(json.loads(canonical_json(number))) == number


def test_the_object_of_section_3_2_2_is_written_as_in_section_3_2_3() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(value) == expected.encode()


def test_keys_are_sorted_by_utf_16_units_as_in_section_3_2_3() -> None:
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    written = json.loads(canonical_json(value), object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    # By code points the emoji would come last; its first UTF-16 unit, D83D, puts it before FB33.
    assert written == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\b\t\n\f\r", '"\\b\\t\\n\\f\\r"'),
        ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ("/<>&'", '"/<>&\'"'),
        ("\u2028\U0001f600", '"\u2028\U0001f600"'),
    ],
)
def test_strings_escape_only_what_they_must(text: str, written: str) -> None:
    assert canonical_json(text) == written.encode()


@pytest.mark.parametrize("number", [MAX_SAFE_INTEGER + 1, -MAX_SAFE_INTEGER - 1])
def test_integers_that_a_double_cannot_hold_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="without loss"):
        canonical_json([number])


def test_the_largest_exact_integers_are_written() -> None:
    assert canonical_json([MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER]) == b"[9007199254740991,-9007199254740991]"


def test_equal_numbers_are_written_alike() -> None:
    assert canonical_json([1, 1.0, -0.0, 100.0]) == b"[1,1,0,100]"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    # Whole doubles beyond 2**53 are written as digits alone, which Python's reader takes for an integer.
    | st.floats(-(2.0**52), 2.0**52)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(json_values)
def test_canonical_form_is_a_fixed_point_and_keeps_the_value(value: object) -> None:
    written = canonical_json(value)
    assert json.loads(written) == value
    assert canonical_json(json.loads(written)) == written


def test_domain_values_are_written_by_their_fields_and_digested() -> None:
    class Colour(enum.Enum):
        RED = "red"

    @dataclass(frozen=True)
    class Thing:
        b: tuple[int, ...]
        a: Colour
        action: Action
        data: bytes

    thing = Thing(b=(1, 2), a=Colour.RED, action=Action.BLOCK, data=b"\x0f")
    assert canonical_json(thing) == b'{"a":"red","action":"block","b":[1,2],"data":"0f"}'
    assert digest(thing) == "e69f0226b5d3463cda292a2a90b6a043a00df85709a451bc790483d4fc83d2d2"
    with pytest.raises(TypeError, match="set has no JSON form"):
        canonical_json({"a": {1}})
