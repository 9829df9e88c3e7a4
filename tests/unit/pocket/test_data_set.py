"""The shipped manifest, index and concept list belong together."""

from __future__ import annotations

import json
from collections import Counter

from guardrails.pocket.dataset import CONCEPTS, TRAINED_SETS, read_manifest
from guardrails.pocket.sources import EMOJI_SETS
from guardrails.resources import datasets_path

ROWS = read_manifest(datasets_path("pocket", "manifest.csv"))
SETS = {emoji_set.name: emoji_set for emoji_set in EMOJI_SETS}


def test_every_row_names_its_source_licence_and_creator() -> None:
    assert len(ROWS) == len({row.id for row in ROWS})
    for row in ROWS:
        source = SETS[row.set]
        assert row.licence == source.licence
        assert row.creator == source.creator
        assert row.package == f"{source.package}@{source.version}"
        assert len(row.sha256) == 64


def test_trained_rows_are_the_listed_concepts_and_never_share_alike() -> None:
    concepts = set(datasets_path("pocket", CONCEPTS).read_text().split("\n")) - {""}
    trained = [row for row in ROWS if row.trained]
    assert {row.name for row in trained} == concepts
    assert {row.set for row in trained} == TRAINED_SETS
    assert not any("SA" in row.licence for row in trained)
    assert Counter(row.set for row in trained)["noto"] == len(concepts)


def test_skin_tones_and_flags_are_left_out() -> None:
    assert not any("skin-tone" in row.id or ":flag-" in row.id for row in ROWS)


def test_a_few_dozen_trained_works_are_reserved() -> None:
    reserved = [row for row in ROWS if row.rights == "opt-out"]
    assert 24 <= len(reserved) <= 100
    assert all(row.trained for row in reserved)


def test_the_example_of_a_repetition_names_a_reserved_work() -> None:
    example = json.loads(datasets_path("pocket", "repetition.json").read_text())
    names = {row.name for row in ROWS if row.rights == "opt-out"}
    assert any(name in example["prompt"] for name in names)
