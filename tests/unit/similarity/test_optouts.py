from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from guardrails.domain.rights import Permission, Signal, SignalKind
from guardrails.errors import IndexFormatError
from guardrails.similarity.entries import read_entries
from guardrails.similarity.optouts import JOURNAL, OptOut, append_opt_outs, read_opt_outs
from guardrails.similarity.search import SimilarityIndex

NOW = "2026-01-01T00:00:00Z"


def line(entry: str, permission: Permission = Permission.PROHIBITED, source: str = "claim 1", **more: bool) -> OptOut:
    signal = Signal(kind=SignalKind.CLAIM, permission=permission, raw="opt-out", source=source, read_at=NOW)
    return OptOut(entry=entry, signal=signal, by="desk", reason="asked", **more)


def test_signals_are_read_back_by_entry(tmp_path):
    append_opt_outs(tmp_path / JOURNAL, [line("a"), line("b")])
    append_opt_outs(tmp_path / JOURNAL, [line("a", source="claim 2")])
    held = read_opt_outs(tmp_path / JOURNAL)
    assert {name: len(signals) for name, signals in held.items()} == {"a": 2, "b": 1}
    assert held["a"][0] == line("a").signal


def test_a_withdrawal_takes_back_its_own_source_only(tmp_path):
    append_opt_outs(tmp_path / JOURNAL, [line("a"), line("a", source="claim 2"), line("a", withdrawn=True)])
    assert [signal.source for signal in read_opt_outs(tmp_path / JOURNAL)["a"]] == ["claim 2"]
    append_opt_outs(tmp_path / JOURNAL, [line("a", source="claim 2", withdrawn=True)])
    assert read_opt_outs(tmp_path / JOURNAL) == {}


@pytest.mark.parametrize("damage", ["{", "{}", '{"entry": "a", "signal": {"kind": "whim"}}'])
def test_a_damaged_journal_is_refused_and_not_added_to(tmp_path, damage):
    path = tmp_path / JOURNAL
    path.write_text(damage + "\n")
    with pytest.raises(IndexFormatError, match=f"{JOURNAL}:1"):
        read_opt_outs(path)
    with pytest.raises(IndexFormatError):
        append_opt_outs(path, [line("a")])
    assert path.read_text() == damage + "\n"


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: append_opt_outs(tmp_path / JOURNAL, [line(f"w{n}")]), range(12)))
    assert len(read_opt_outs(tmp_path / JOURNAL)) == 12


def test_an_index_heeds_an_opt_out_at_its_next_opening_without_a_rebuild(tmp_path, built, works):
    folder = tmp_path / "collection"
    shutil.copytree(built, folder)
    assert SimilarityIndex.open(folder / "index").find(works[5]).matches[0].rights.reservation == ""
    append_opt_outs(folder / JOURNAL, [line("set:5")])
    rights = SimilarityIndex.open(folder / "index").find(works[5]).matches[0].rights
    assert rights.reservation == "opt-out"
    assert rights.signals[0].source == "claim 1"
    append_opt_outs(folder / JOURNAL, [line("set:5", withdrawn=True)])
    assert SimilarityIndex.open(folder / "index").find(works[5]).matches[0].rights.reservation == ""


def test_the_strictest_signal_holds_and_allowing_frees_no_reserved_work(tmp_path, built):
    shutil.copy(built / "manifest.csv", tmp_path / "manifest.csv")
    lines = [
        line("set:3", Permission.ALLOWED),
        line("set:4", Permission.ALLOWED),
        line("set:5", Permission.ALLOWED),
        line("set:5", source="claim 2"),
    ]
    append_opt_outs(tmp_path / JOURNAL, lines)
    rights = [entry.rights for entry in read_entries(tmp_path / "manifest.csv").entries]
    assert [one.reservation for one in rights[3:6]] == ["opt-out", "", "opt-out"]
    assert [one.permission for one in rights[3:7]] == [
        Permission.PROHIBITED,
        Permission.ALLOWED,
        Permission.PROHIBITED,
        Permission.UNKNOWN,
    ]
