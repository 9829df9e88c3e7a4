"""Exactness of the search over files of codes, and what damaged files lead to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.errors import IndexFormatError, StorageError
from guardrails.similarity import kernels, plan, segments, vectorised
from guardrails.similarity.hashes import DHASH64, HASH_BYTES, PDQ256
from guardrails.similarity.plan import Plan, make_plan
from guardrails.similarity.segments import CODES, ENTRY, REGIONS, open_segment, write_segment

FACTS = {"decode": "test/1"}


def codes_of(seed: int, rows: int, width: int = 32) -> np.ndarray:
    """Codes as collections have them: a third in clusters, a third with few bits set, the rest random."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (rows, width)).astype(np.uint8)
    third = rows // 3
    noise = np.packbits(rng.random((third, width * 8)) < 0.06, axis=1)
    codes[:third] = codes[rng.integers(0, max(1, third // 20), third)] ^ noise
    codes[third : 2 * third] = np.packbits(rng.random((third, width * 8)) < 0.03, axis=1)
    return codes


def write(folder: Path, codes: np.ndarray, algorithm: str = PDQ256, radius: int = 31) -> Path:
    columns = {
        CODES: codes,
        REGIONS: np.zeros(len(codes), np.uint8),
        ENTRY: np.arange(len(codes), dtype=np.uint32),
    }
    return write_segment(folder, algorithm, columns, len(codes), FACTS, radius=radius)


@pytest.fixture
def indexed_from_one_row(monkeypatch):
    """Tables also for small segments, always used."""
    monkeypatch.setattr(plan, "MIN_INDEXED", 1)
    monkeypatch.setattr(Plan, "pays", lambda self, radius, rows: bool(self.widths))


def brute_force(codes: np.ndarray, query: np.ndarray, radius: int) -> dict[int, int]:
    distances = np.unpackbits(codes ^ query, axis=1).sum(axis=1)
    return {int(row): int(distances[row]) for row in np.flatnonzero(distances <= radius)}


@pytest.mark.parametrize("engine", [kernels, vectorised])
@pytest.mark.parametrize("algorithm", [PDQ256, DHASH64])
def test_look_ups_find_exactly_what_comparing_all_finds(
    tmp_path_factory, monkeypatch, indexed_from_one_row, engine, algorithm
):
    monkeypatch.setattr(segments, "engine", lambda: engine)
    # Codes that crowd in few buckets must not push the search over to the scan that it is compared with.
    monkeypatch.setattr(segments, "_SCAN_SHARE", 0.001)
    scans = []
    monkeypatch.setattr(segments, "scan", lambda *arguments: scans.append(arguments))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 400), st.integers(0, 64), st.sampled_from([4, 16, 31]))
    def check(seed, rows, radius, planned):
        codes = codes_of(seed, rows, HASH_BYTES[algorithm])
        segment = open_segment(write(tmp_path_factory.mktemp("s"), codes, algorithm, planned), FACTS)
        rng = np.random.default_rng(seed)
        for row in rng.integers(0, rows, 3):
            query = codes[row] ^ np.packbits(rng.random(codes.shape[1] * 8) < 0.05)
            near = segment.within(query, radius)
            assert dict(zip(near.rows.tolist(), near.distances.tolist(), strict=True)) == brute_force(
                codes, query, radius
            )
            assert near.total == len(near.rows)

    check()
    assert scans == []


@pytest.mark.parametrize("radius", [0, 1, 13, 14, 31, 47, 64])
def test_a_large_segment_agrees_with_the_flat_scan_of_another_library(tmp_path, radius):
    import faiss

    codes = codes_of(1, 60_000)
    segment = open_segment(write(tmp_path, codes), FACTS)
    assert segment.plan.widths
    flat = faiss.IndexBinaryFlat(256)
    flat.add(codes)
    queries = np.concatenate([codes[::6000], codes_of(2, 10)])
    # Its radius is exclusive.
    limits, _, rows = flat.range_search(queries, radius + 1)
    for number, query in enumerate(queries):
        expected = rows[limits[number] : limits[number + 1]]
        assert sorted(segment.within(query, radius).rows.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize("radius", [0, 20, 31, 64])
def test_both_engines_write_the_same_bytes_and_find_the_same(tmp_path, monkeypatch, radius):
    codes = codes_of(3, 55_000)
    made = {}
    for engine in (kernels, vectorised):
        monkeypatch.setattr(segments, "engine", lambda engine=engine: engine)
        folder = write(tmp_path / engine.__name__, codes)
        near = open_segment(folder, FACTS).within(codes[5], radius)
        made[engine] = folder.name, sorted(zip(near.rows.tolist(), near.distances.tolist(), strict=True)), near.total
    assert made[kernels] == made[vectorised]
    assert made[kernels][1] == sorted(brute_force(codes, codes[5], radius).items())


def test_without_numba_numpy_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "guardrails.similarity.kernels", raising=False)
    import guardrails.similarity

    monkeypatch.delattr(guardrails.similarity, "kernels", raising=False)
    segments.engine.cache_clear()
    try:
        assert segments.engine() is vectorised
    finally:
        segments.engine.cache_clear()


def test_a_crowd_is_counted_when_it_is_not_returned(tmp_path):
    codes = np.repeat(codes_of(4, 1), 60_000, axis=0)
    near = open_segment(write(tmp_path, codes), FACTS).within(codes[0], 31, limit=10)
    assert len(near.rows) == 10
    assert near.total == 60_000


@pytest.mark.parametrize(("rows", "slots"), [(1_000_000, 14), (10_000_000, 11), (100_000_000, 10), (1000, 0)])
def test_the_plan_is_the_cheapest_one(rows, slots):
    chosen = make_plan(rows, 256, 31)
    assert len(chosen.widths) == slots
    assert sum(chosen.widths) in (0, 256)


def test_slot_radii_leave_no_code_out():
    for slots in range(1, 20):
        even = Plan(tuple([13] * slots))
        for radius in range(64):
            # The least distance of a code that every slot misses.
            assert sum(reach + 1 for reach in even.radii(radius)) == radius + 1


def test_an_empty_segment_can_be_searched(tmp_path):
    folder = write(tmp_path, np.empty((0, 32), np.uint8))
    assert open_segment(folder, FACTS).within(np.zeros(32, np.uint8), 64).total == 0


def truncate(file):
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize("name", ["codes", "regions", "entry", "offsets", "ids"])
@pytest.mark.parametrize("damage", [truncate, lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
def test_a_cut_or_missing_file_is_named_at_opening(tmp_path, name, damage):
    folder = write(tmp_path, codes_of(5, 50_000))
    damage(folder / f"{name}.npy")
    with pytest.raises(IndexFormatError, match=name) as raised:
        open_segment(folder, FACTS)
    assert raised.value.hint


@pytest.mark.parametrize("name", ["codes", "regions", "entry", "offsets", "ids"])
def test_a_flipped_bit_is_named_when_digests_are_checked(tmp_path, name):
    folder = write(tmp_path, codes_of(5, 50_000))
    file = folder / f"{name}.npy"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    segment = open_segment(folder, FACTS)
    with pytest.raises(IndexFormatError, match=name):
        segment.verify()


@pytest.mark.parametrize("name", ["offsets", "ids"])
@pytest.mark.parametrize("engine", [kernels, vectorised])
def test_tables_full_of_nonsense_are_an_error_not_a_crash(tmp_path, monkeypatch, name, engine):
    folder = write(tmp_path, codes_of(5, 50_000))
    file = folder / f"{name}.npy"
    data = file.read_bytes()
    file.write_bytes(data[:128] + b"\xff" * (len(data) - 128))
    monkeypatch.setattr(segments, "engine", lambda: engine)
    monkeypatch.setattr(segments, "_SCAN_SHARE", 0.001)
    segment = open_segment(folder, FACTS)
    with pytest.raises(IndexFormatError, match="rows that do not exist"):
        segment.within(codes_of(5, 50_000)[-1], 31)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 1, "format 1"),
        ("decode", "test/0", "other procedures"),
        ("rows", 5, "holds uint8"),
        ("rows", -1, "no index manifest"),
        ("files", {}, "no index manifest"),
        ("widths", [256], "no index manifest"),
        ("widths", [24, 24], "no index manifest"),
        ("widths", [], "."),
        ("hash", "md5", "no index manifest"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(tmp_path, key, value, message):
    folder = write(tmp_path, codes_of(5, 50_000))
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    if key == "widths" and value == []:
        # Without tables a segment is scanned.
        assert open_segment(folder, FACTS).within(codes_of(5, 50_000)[0], 0).total >= 1
        return
    with pytest.raises(IndexFormatError, match=message):
        open_segment(folder, FACTS)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    folder = write(tmp_path, codes_of(5, 10))
    (folder / "manifest.json").write_text(text)
    with pytest.raises(IndexFormatError, match="manifest"):
        open_segment(folder, FACTS)


def test_the_same_codes_give_the_same_folder(tmp_path):
    one, other = (write(tmp_path / name, codes_of(6, 60_000)) for name in ("a", "b"))
    assert one.name == other.name
    assert all((one / file.name).read_bytes() == file.read_bytes() for file in other.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments, "_sync_files", fail)
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path, codes_of(7, 100))
    assert list(tmp_path.iterdir()) == []


def test_columns_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="codes of pdq256"):
        write(tmp_path, np.zeros((4, 8), np.uint8))
    columns = {CODES: np.zeros((4, 32), np.uint8), REGIONS: np.zeros(3, np.uint8), ENTRY: np.zeros(4, np.uint32)}
    with pytest.raises(ValueError, match="one value for each code"):
        write_segment(tmp_path, PDQ256, columns, 4, FACTS, radius=31)
