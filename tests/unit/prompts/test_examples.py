"""Reading labelled prompts, and what the contrast pairs of the checkout must hold."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from guardrails.errors import DatasetUnavailable
from guardrails.policy.semantics import FEWEST_PAIRS_TO_BLOCK
from guardrails.prompts.examples import Example, pair_counts, read_aliases, read_contrast, read_jsonl
from guardrails.resources import datasets_path

ALIASES = {"harm": "violence", "violence": "violence", "sexual": "sexual"}
# No text about minors in sexual contexts.
MINORS = re.compile(r"\b(?:girls?|boys?|child\w*|kids?|teen\w*|minors?|pupils?|young|youth|underage|school\w*)\b", re.I)
WORD = re.compile(r"\w+")


@pytest.fixture(scope="module")
def pairs() -> list[Example]:
    return read_contrast(datasets_path("contrast"))


def test_every_category_may_block(pairs: list[Example]) -> None:
    counts = pair_counts(pairs)
    assert len(counts) == 9
    assert {name: n for name, n in counts.items() if n < FEWEST_PAIRS_TO_BLOCK} == {}
    assert set(counts) == set(read_aliases(datasets_path("contrast", "categories.csv")).values())


def test_no_prompt_stands_twice(pairs: list[Example]) -> None:
    texts = [one.text.casefold() for one in pairs]
    assert sorted({text for text in texts if texts.count(text) > 1}) == []


def test_twins_share_their_words(pairs: list[Example]) -> None:
    """A pair in other words would teach the topic and not the intent."""
    by_pair: dict[str, list[set[str]]] = {}
    for one in pairs:
        if one.pair:
            by_pair.setdefault(one.pair, []).append(set(WORD.findall(one.text.casefold())))
    shares = [len(a & b) / min(len(a), len(b)) for a, b in by_pair.values()]
    assert sum(shares) / len(shares) > 0.4


def test_no_minor_stands_in_a_sexual_context(pairs: list[Example]) -> None:
    assert [one.text for one in pairs if one.topic == "sexual" and MINORS.search(one.text)] == []


def test_twins_are_in_one_fold(pairs: list[Example]) -> None:
    folds: dict[str, set[int]] = {}
    for one in pairs:
        folds.setdefault(one.pair, set()).add(one.fold)
    assert all(len(found) == 1 for pair, found in folds.items() if pair)


def test_a_fold_depends_on_the_text_alone(tmp_path: Path) -> None:
    (tmp_path / "violence.tsv").write_text("unsafe\tbenign\nc\td\na\tb\n")
    before = {one.text: one.fold for one in read_contrast(tmp_path)}
    (tmp_path / "violence.tsv").write_text("unsafe\tbenign\na\tb\n")
    assert {one.text: one.fold for one in read_contrast(tmp_path)}["a"] == before["a"]


@pytest.mark.parametrize(
    "content", ["a\tb\n", "unsafe\tbenign\na\n", "unsafe\tbenign\na\t \n", "unsafe\tbenign\na\tb\tc\n"]
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "violence.tsv").write_text(content)
    with pytest.raises(DatasetUnavailable, match=r"violence\.tsv"):
        read_contrast(tmp_path)


def test_an_empty_folder_is_no_training_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match="no contrast pairs"):
        read_contrast(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_json_lines(tmp_path: Path, compressed: bool) -> None:
    rows = [
        {"text": "t1", "label": 1, "category": "harm, sexual", "fold": 3, "set": "s"},
        {"text": "t2", "label": 1, "category": "harm", "pair": "p", "set": "s"},
        {"text": "t3", "label": 0, "category": "harm", "pair": "p", "set": "s"},
        {"text": "t4", "label": None, "category": None},
    ]
    data = "\n".join(map(json.dumps, rows)).encode()
    file = tmp_path / ("f.jsonl.gz" if compressed else "f.jsonl")
    file.write_bytes(gzip.compress(data) if compressed else data)
    weak, unsafe, twin, unlabelled = read_jsonl(file, ALIASES)
    assert (weak.categories, weak.fold, weak.weight) == (("sexual", "violence"), 3, 0.4)
    assert (unsafe.categories, unsafe.weight) == (("violence",), 1.0)
    assert (twin.categories, twin.topic, twin.pair) == ((), "violence", "p")
    assert (unlabelled.is_unsafe, unlabelled.weight, unlabelled.source) == (False, 0.7, "f")


@pytest.mark.parametrize("line", ["not json", '{"label": 1}', '{"text": "a", "label": 1, "category": "unheard of"}'])
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(line)
    with pytest.raises(DatasetUnavailable, match=r"f\.jsonl"):
        read_jsonl(file, ALIASES)
