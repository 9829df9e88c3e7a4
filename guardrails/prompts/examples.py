"""Labelled prompts to train heads on: contrast pairs of our own, and other sets in JSON lines.

A contrast pair is an unsafe request and a harmless one in nearly the same words. Pairs decide what a head learns:
without them it learns the topic, and catches half of the harmless prompts on it.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrails.errors import DatasetUnavailable

FOLDS = 5
# An unsafe prompt without a twin is a weak label: much of what such sets hold looks harmless.
_WEAK = 0.4
# Real traffic without labels is nearly all harmless, and not quite.
_UNLABELLED = 0.7
_HEADER = ("unsafe", "benign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One labelled prompt.

    Attributes:
        categories: what it may belong to; empty is harmless, several mean "one of these".
        topic: the category that it is about, also when harmless; "" is none.
        pair: the same for an unsafe prompt and its twin; "" is none.
        source: name of the set.
        fold: 0..4; prompts of one family share it.
        weight: how much it counts in training, 0..1.
    """

    text: str
    categories: tuple[str, ...]
    topic: str
    source: str
    fold: int
    pair: str = ""
    weight: float = 1.0

    @property
    def is_unsafe(self) -> bool:
        return bool(self.categories)


def read_contrast(folder: Path) -> list[Example]:
    """The pairs in `<category>.tsv` (columns unsafe, benign) and the harmless prompts in `benign.txt`.

    Raises:
        DatasetUnavailable: there are no such files, or a line is not a pair.
    """
    files = sorted(folder.glob("*.tsv"))
    if not files:
        raise DatasetUnavailable(f"{folder} holds no contrast pairs", hint="write <category>.tsv files there")
    examples = [example for file in files for example in _pairs(file)]
    benign = folder / "benign.txt"
    if benign.is_file():
        lines = filter(None, map(str.strip, benign.read_text(encoding="utf-8").splitlines()))
        examples += [Example(text=text, categories=(), topic="", source="contrast", fold=_fold(text)) for text in lines]
    return examples


def _pairs(file: Path) -> Iterator[Example]:
    rows = csv.reader(io.StringIO(file.read_text(encoding="utf-8")), delimiter="\t", quoting=csv.QUOTE_NONE)
    if tuple(next(rows, ())) != _HEADER:
        raise DatasetUnavailable(f"{file} does not start with the columns unsafe, benign", hint="add the header line")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(_HEADER) or not all(map(str.strip, row)):
            raise DatasetUnavailable(f"{file}:{number} is not a pair", hint="write two texts with one tab between them")
        unsafe, benign = row
        pair, fold = f"{file.stem}:{number}", _fold(unsafe)
        for text, categories in ((unsafe, (file.stem,)), (benign, ())):
            yield Example(text=text, categories=categories, topic=file.stem, source="contrast", fold=fold, pair=pair)


def read_aliases(file: Path) -> dict[str, str]:
    """Names of categories in other sets to ours, from the columns `category` and `aliases` (by semicolons)."""
    with file.open(newline="", encoding="utf-8") as rows:
        return {
            alias: row["category"]
            for row in csv.DictReader(rows)
            for alias in (row["category"], *row["aliases"].split(";"))
        }


def read_jsonl(file: Path, aliases: Mapping[str, str]) -> list[Example]:
    """Prompts in JSON lines (or gzip of them) with `text`, `label`, and perhaps `set`, `category`, `fold`, `pair`.

    A label of 1 is unsafe, 0 harmless, null unlabelled; several categories are separated by commas.

    Raises:
        DatasetUnavailable: the file cannot be read, or an unsafe row has no category that the aliases know.
    """
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rows = [json.loads(line) for line in raw.splitlines() if line.strip()]
        return [_example(row, file, aliases) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetUnavailable(
            f"{file} cannot be read as labelled prompts: {error}", hint="one JSON object a line: text, label, category"
        ) from error


def _example(row: Mapping[str, Any], file: Path, aliases: Mapping[str, str]) -> Example:
    named = [name.strip() for name in str(row.get("category") or "").split(",")]
    known = tuple(sorted({aliases[name] for name in named if name in aliases}))
    unsafe, pair, text = row["label"] == 1, str(row.get("pair") or ""), str(row["text"])
    if unsafe and not known:
        raise ValueError(f"no known category in {row.get('category')!r}")
    weight = _UNLABELLED if row["label"] is None else _WEAK if unsafe and not pair else 1.0
    return Example(
        text=text,
        categories=known if unsafe else (),
        topic=known[0] if known else "",
        source=str(row.get("set") or file.name.partition(".")[0]),
        fold=int(row["fold"]) if "fold" in row else _fold(text),
        pair=pair,
        weight=weight,
    )


def pair_counts(examples: Sequence[Example]) -> dict[str, int]:
    """How many unsafe prompts with a twin each category has."""
    twins = {example.pair for example in examples if example.pair and not example.is_unsafe}
    counts: dict[str, int] = {}
    for example in examples:
        for category in example.categories:
            counts[category] = counts.get(category, 0) + (example.pair in twins)
    return counts


def _fold(text: str) -> int:
    """A fold that depends on the text alone, so that adding a prompt moves no other."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % FOLDS
