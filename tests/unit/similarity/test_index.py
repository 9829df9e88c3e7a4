from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.errors import IndexFormatError
from guardrails.similarity.building import build_index
from guardrails.similarity.colours import COLOUR_BYTES
from guardrails.similarity.entries import EntryTable, read_entries
from guardrails.similarity.index import Arrays, HashIndex, open_index
from guardrails.similarity.search import SimilarityIndex
from guardrails.similarity.views import Kind


def clustered_index(seed: int, rows: int) -> HashIndex:
    """Random codes, a third of them near one centre, of two kinds."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (rows, 32)).astype(np.uint8)
    codes[: rows // 3] = codes[0] ^ (rng.random((rows // 3, 32)) < 0.2)
    kinds = np.sort(rng.choice([Kind.BOX, Kind.CENTRED], rows)).astype(np.uint8)
    arrays = Arrays(
        pdq256=codes,
        phash64=codes[:, :8],
        kinds=kinds,
        entry=rng.permutation(rows).astype(np.uint32),
        colours=np.zeros((rows, COLOUR_BYTES), np.uint8),
    )
    return HashIndex(arrays=arrays, digest="", entries=rows, entries_identity="")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 90), st.integers(0, 140))
def test_search_finds_exactly_the_rows_within_the_radius(seed, rows, radius):
    index = clustered_index(seed, rows)
    queries = index.arrays.pdq256[:3] ^ np.uint8(1)
    bits, asked = np.unpackbits(index.arrays.pdq256, axis=1), np.unpackbits(queries, axis=1)
    for kind in (Kind.BOX, Kind.CENTRED, Kind.FULL):
        expected = {}
        for row in np.flatnonzero(index.arrays.kinds == kind):
            distances = [int((bits[row] != query).sum()) for query in asked]
            if min(distances) <= radius:
                expected[int(row)] = min(distances)
        hits = index.search(queries, radius, kind)
        assert {hit.row: hit.distance for hit in hits} == expected
        assert all((bits[hit.row] != asked[hit.orientation]).sum() == hit.distance for hit in hits)


def test_the_same_pictures_give_the_same_bytes(built, works, tmp_path):
    build_index(iter(works), read_entries(built / "manifest.csv"), tmp_path / "again")
    names = sorted(file.name for file in (built / "index").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "again").iterdir())
    assert all((built / "index" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_columns_are_memory_mapped(built):
    assert isinstance(open_index(built / "index").arrays.pdq256.base, np.memmap)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-8])


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["codes.npy", "phash64.npy", "regions.npy", "entry.npy", "colours.npy"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda file: file.unlink()])
def test_a_damaged_file_is_named_before_anything_is_searched(built, tmp_path, name, damage):
    shutil.copytree(built / "index", tmp_path / "index")
    damage(tmp_path / "index" / name)
    with pytest.raises(IndexFormatError, match=name) as raised:
        open_index(tmp_path / "index")
    assert raised.value.hint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 3, "format 3"),
        ("decode", "canonical-decode/0", "other procedures"),
        ("rows", 5, "holds uint8"),
        ("entries", 1, "does not hold uint8"),
        ("files", None, "no index manifest"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(built, tmp_path, key, value, message):
    shutil.copytree(built / "index", tmp_path / "index")
    file = tmp_path / "index" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(IndexFormatError, match=message):
        open_index(tmp_path / "index")


def test_one_picture_is_needed_for_each_entry(built, works, tmp_path):
    with pytest.raises(IndexFormatError, match="23 pictures for 24 entries"):
        build_index(works[:-1], read_entries(built / "manifest.csv"), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_index_refuses_another_entry_table(built, tmp_path):
    lines = (built / "manifest.csv").read_text().splitlines(keepends=True)
    (tmp_path / "swapped.csv").write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(IndexFormatError, match="was not built from"):
        SimilarityIndex.open(built / "index", entries=tmp_path / "swapped.csv")


def test_an_opt_out_needs_no_rebuild(built, tmp_path):
    text = (built / "manifest.csv").read_text()
    lines = text.splitlines(keepends=True)
    lines[1] = lines[1].rstrip() + "opt-out\n"
    (tmp_path / "manifest.csv").write_text("".join(lines))
    assert len(SimilarityIndex.open(built / "index", entries=tmp_path / "manifest.csv")) == 24
    assert read_entries(tmp_path / "manifest.csv")[0].rights.reservation == "opt-out"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("opt-out", "maybe", "not known"),
        ("creator", "maker", "lacks the columns creator"),
        ("set:1,", "set:0,", "same id"),
    ],
)
def test_an_entry_table_that_cannot_be_trusted_is_refused(built, tmp_path, old, new, message):
    text = (built / "manifest.csv").read_text()
    assert old in text
    (tmp_path / "manifest.csv").write_text(text.replace(old, new))
    with pytest.raises(IndexFormatError, match=message):
        read_entries(tmp_path / "manifest.csv")


def test_identity_depends_on_order_and_rendering_but_not_on_rights(built):
    table = read_entries(built / "manifest.csv")
    assert EntryTable(table.entries[::-1]).identity != table.identity
