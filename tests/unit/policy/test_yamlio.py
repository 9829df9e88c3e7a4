"""The YAML door: limits hold while parsing, and every refusal says where."""

from __future__ import annotations

import time

import pytest

from guardrails.errors import PolicyError
from guardrails.policy.yamlio import MAX_BYTES, MAX_DEPTH, Node, parse_yaml


def refusal(text: str | bytes) -> PolicyError:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(PolicyError) as caught:
        parse_yaml(data, source="pack.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("a: &x [lol]\nb: [*x, *x]\n", "1:4", "anchors and aliases"),
        ("a: 1\nb: *nowhere\n", "2:4", "anchors and aliases"),
        ("a: 1\nb: 2\na: 3\n", "3:1", "`a` is here twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "1:4", "tag"),
        ("a: !secret x\n", "1:4", "tag"),
        ("? [1, 2]\n: x\n", "1:3", "keys must be text"),
        ("1: x\n", "1:1", "keys must be text"),
        ("a: 1\n---\nb: 2\n", "2:1", "second document"),
        ("a: [1, 2\nb: 3\n", "2:2", ""),
        ("a: 'open\n", "2:1", "end of stream"),
        ("a: b: c\n", "1:5", "mapping values"),
        ("\tb: 1\n", "1:1", ""),
        ("a: 1\nb: x\x07y\n", "2:5", "control character"),
        ('a: "\\ud800"\n', "1:", ""),
        ("", "1:1", "empty"),
        ("# only a comment\n", "1:1", "empty"),
    ],
)
def test_refusals_name_line_and_column(text: str, where: str, says: str) -> None:
    error = refusal(text)
    assert error.message.startswith(f"pack.yaml:{where}")
    assert says in error.message
    assert error.hint


def test_bytes_that_are_not_utf8_are_located() -> None:
    assert refusal(b"a: 1\nb: x\xff\n").message.startswith("pack.yaml:2:5: ")


@pytest.mark.parametrize("bomb", ["[" * 20_000, "{a: " * 20_000, "- " * 20_000, "? " * 20_000])
def test_deep_nesting_is_refused_at_once(bomb: str) -> None:
    started = time.process_time()
    error = refusal(bomb)
    assert f"more than {MAX_DEPTH} levels" in error.message
    assert time.process_time() - started < 0.2


def test_a_billion_laughs_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert refusal("\n".join(lines)).message.startswith("pack.yaml:1:5: a0: ")


def test_a_document_over_the_size_limit_is_refused_unparsed() -> None:
    assert "larger than 256 KB" in refusal(b"[" * (MAX_BYTES + 1)).message


def test_nodes_know_their_place_and_their_path() -> None:
    document = parse_yaml(b"rules:\n  - id: A\n    terms: [x, 'y z']\n", source="p")
    assert isinstance(document.value, dict)
    rules = document.value["rules"].value
    assert isinstance(rules, list)
    assert isinstance(rules[0].value, dict)
    terms = rules[0].value["terms"].value
    assert isinstance(terms, list)
    assert terms[1] == Node(source="p", path="rules[0].terms[1]", line=3, column=16, value="y z")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("on", "on"), ("true", True), ("~", None), ("12", 12), ("-3", -3), ("0.85", 0.85), ("'12'", "12"),
        ("2026.11.0", "2026.11.0"), ("1e9", "1e9"), ("9" * 40, "9" * 40), ("2026-11-24", "2026-11-24"),
    ],
)  # fmt: skip
def test_plain_scalars_mean_what_they_look_like(written: str, value: object) -> None:
    document = parse_yaml(f"k: {written}".encode(), source="p")
    assert isinstance(document.value, dict)
    read = document.value["k"].value
    assert read == value
    assert type(read) is type(value)
