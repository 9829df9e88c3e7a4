"""The index that ships: it opens, says what it is, and holds the codes that the pictures have."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.resources import datasets_path
from guardrails.similarity.entries import read_entries
from guardrails.similarity.index import open_index
from guardrails.similarity.search import SimilarityIndex
from guardrails.similarity.views import Kind

POCKET = datasets_path("pocket")


@pytest.fixture(scope="module")
def index():
    return open_index(POCKET / "index")


def test_it_opens_with_the_entry_table_beside_it():
    assert len(SimilarityIndex.open(POCKET / "index")) == len(read_entries(POCKET / "manifest.csv")) == 7967


def test_it_stays_small_enough_to_ship():
    assert sum(file.stat().st_size for file in (POCKET / "index").iterdir()) < 1_500_000


def test_known_works_have_their_frozen_codes(index):
    entries = read_entries(POCKET / "manifest.csv")
    number = next(number for number, entry in enumerate(entries.entries) if entry.id == "noto:strawberry")
    (row,) = np.flatnonzero((index.arrays.entry == number) & (index.arrays.kinds == Kind.CENTRED))
    frozen = "b6ccdc735319b0644c73692cb873369481875adb1f0dc34b207cb56f4eb558b4"
    assert index.arrays.pdq256[row].tobytes().hex() == frozen
    assert index.arrays.phash64[row].tobytes().hex() == "ed96807a9f69980d"


def test_every_hash_finds_its_own_entry(index):
    for row in range(0, len(index.arrays.kinds), 1500):
        hits = index.search(index.arrays.pdq256[row : row + 1], 0, Kind(index.arrays.kinds[row]))
        assert index.arrays.entry[row] in [index.arrays.entry[hit.row] for hit in hits]


def test_works_too_plain_to_be_hashed_are_few_and_known(index):
    unhashed = set(range(index.entries)) - set(index.arrays.entry.tolist())
    assert len(unhashed) == 43
