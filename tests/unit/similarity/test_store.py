"""The index that changes: what is found when, by whom, and after which crash."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardrails.errors import IndexFormatError, OptionError, StorageError
from guardrails.similarity import journal as journals
from guardrails.similarity import store as stores
from guardrails.similarity.fingerprints import Region
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.journal import append_changes
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.pointer import read_pointer
from guardrails.similarity.segments import Segment
from guardrails.similarity.store import Store

FACTS = {"licence": "CC-BY-4.0", "creator": "Ada"}


def code_of(number: int) -> bytes:
    return np.random.default_rng(number).bytes(32)


def entry(number: int) -> NewEntry:
    return NewEntry(f"work:{number}", [(Region.FULL, code_of(number))], FACTS)


def find(store: Store, number: int, radius: int = 31) -> list[str]:
    return [found.id for found in store.search(np.frombuffer(code_of(number), np.uint8)[None], radius).found]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "index", PDQ256)
    made.add(entry(number) for number in range(20))
    return made


def test_an_answer_says_what_was_found_and_among_how_many(store):
    code = bytearray(code_of(3))
    code[0] ^= 0b101
    answer = store.search(np.frombuffer(bytes(code), np.uint8)[None], 31)
    (found,) = answer.found
    assert (found.id, found.distance, found.region, found.query) == ("work:3", 2, Region.FULL, 0)
    assert (found.state, dict(found.facts)) == (State.ACTIVE, FACTS)
    assert (answer.total, answer.searched, answer.radius) == (1, 20, 31)


def test_the_nearest_row_and_query_of_an_entry_count(store):
    near = bytearray(code_of(50))
    near[5] ^= 1
    store.add([NewEntry("two", [(Region.FULL, bytes(near)), (Region.BOX, code_of(50))])])
    asked = np.stack([np.frombuffer(code, np.uint8) for code in (code_of(99), bytes(near), code_of(50))])
    (found,) = store.search(asked, 31).found
    assert (found.id, found.distance, found.query) == ("two", 0, 1)
    (found,) = store.search(asked[2:], 31, region_radii={Region.BOX: -1}).found
    assert (found.region, found.distance) == (Region.FULL, 1)


def test_a_limit_cuts_the_list_and_not_the_count(store):
    store.add(NewEntry(f"copy:{n}", [(Region.FULL, code_of(1))]) for n in range(9))
    answer = store.search(np.frombuffer(code_of(1), np.uint8)[None], 0, limit=4)
    assert (len(answer.found), answer.total) == (4, 10)


def test_another_process_s_changes_are_seen_by_the_next_search(store):
    other = Store.open(store.folder)
    assert find(other, 30) == []
    store.add([entry(30)])
    assert find(other, 30) == ["work:30"]
    store.set_state("work:30", State.DISABLED, "claim 7")
    assert find(other, 30) == []
    store.set_state("work:30", State.ACTIVE)
    assert find(other, 30) == ["work:30"]
    store.merge(everything=True)
    assert find(other, 30) == ["work:30"]
    other.set_state("work:30", State.CONFIRMED)
    assert store.state("work:30") is State.CONFIRMED


def test_states_outlive_merges(store):
    store.set_state("work:3", State.DISABLED)
    store.set_state("work:4", State.CONFIRMED)
    for round_ in range(3):
        store.add([entry(100 + round_)])
        store.merge(everything=round_ == 2)
    again = Store.open(store.folder)
    assert (again.state("work:3"), again.state("work:4")) == (State.DISABLED, State.CONFIRMED)
    assert find(again, 3) == []
    assert find(again, 4) == ["work:4"]
    assert again.search(np.zeros((1, 32), np.uint8), 0).searched == 22
    assert len(again) == 23


def test_small_segments_are_merged_into_larger_ones(store):
    for number in range(100, 108):
        store.add([entry(number)])
        store.merge()
    # Nine without merging.
    assert len(store.parts) <= 5
    assert len(list(store.folder.glob("segment-*"))) == len(store.parts) - 1
    assert all(find(store, number) == [f"work:{number}"] for number in (0, 19, 100, 107))


def test_a_long_journal_becomes_a_segment_by_itself(store, monkeypatch):
    monkeypatch.setattr(stores, "MERGE_ROWS", 30)
    store.add(entry(number) for number in range(100, 120))
    assert (len(store.parts), store.parts[-1].entries) == (2, 0)
    assert find(store, 110) == ["work:110"]


def test_the_same_entries_give_the_same_bytes_whatever_happened_between(tmp_path):
    straight, detours = (Store.create(tmp_path / name, PDQ256) for name in ("a", "b"))
    straight.add(entry(number) for number in range(40))
    straight.merge(everything=True)
    for begin in range(0, 40, 8):
        detours.add(entry(number) for number in range(begin, begin + 8))
        if begin % 16:
            detours.merge()
        detours = Store.open(detours.folder)
    detours.merge(everything=True)
    (one,), (other,) = (list((tmp_path / name).glob("segment-*")) for name in ("a", "b"))
    assert one.name == other.name
    assert all((other / file.name).read_bytes() == file.read_bytes() for file in one.iterdir())


def test_numbered_codes_need_no_names(store):
    codes = np.random.default_rng(8).integers(0, 256, (60_000, 32)).astype(np.uint8)
    store.add_segment(codes, prefix="list-")
    (found,) = store.search(codes[777:778], 0).found
    assert found.id == "list-777"
    store.set_state("list-777", State.DISABLED)
    assert store.search(codes[777:778], 0).found == ()
    assert ("list-59999" in store, "list-60000" in store, "list-07" in store) == (True, False, False)
    with pytest.raises(OptionError, match="list-0 already"):
        store.add_segment(codes, prefix="list-")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(3), "holds 'work:3' already"),
        (NewEntry("", []), "cannot be an id"),
        (NewEntry("a\nb", []), "cannot be an id"),
        (NewEntry("short", [(Region.FULL, bytes(8))]), "has 8 bytes, pdq256 has 32"),
    ],
)
def test_entries_that_cannot_be_added_leave_the_index_as_it_was(store, bad, message):
    with pytest.raises(OptionError, match=message):
        store.add([entry(60), bad])
    with pytest.raises(OptionError, match="already"):
        store.add([entry(60), entry(60)])
    assert len(Store.open(store.folder)) == 20
    assert find(store, 60) == []


def test_questions_that_make_no_sense_are_refused(store, tmp_path):
    with pytest.raises(OptionError, match="have 32 bytes"):
        store.search(np.zeros((1, 8), np.uint8), 3)
    with pytest.raises(OptionError, match="no entry 'nobody'"):
        store.set_state("nobody", State.DISABLED)
    with pytest.raises(OptionError, match="holds an index already"):
        Store.create(store.folder, PDQ256)
    with pytest.raises(OptionError, match="no known hash"):
        Store.create(tmp_path / "other", "md5")
    with pytest.raises(IndexFormatError, match="holds no index"):
        Store.open(tmp_path / "nowhere")


def test_a_half_written_line_is_not_read_and_is_overwritten(store):
    journal = store.folder / "journal-0.log"
    whole = journal.read_bytes()
    for tail in (b"1234abcd {", b"00000000 {}\n", b"\xff\n"):
        journal.write_bytes(whole + tail)
        again = Store.open(store.folder)
        assert len(again) == 20
    again.add([entry(31)])
    assert find(Store.open(store.folder), 31) == ["work:31"]
    assert journal.read_bytes().startswith(whole)


def damage_middle(journal):
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_middle, "damaged at byte"),
        (lambda journal: journal.unlink(), "cannot read"),
    ],
)
def test_a_damaged_journal_is_an_error(store, damage, message):
    damage(store.folder / "journal-0.log")
    with pytest.raises(IndexFormatError, match=message):
        Store.open(store.folder)


def test_a_journal_cut_under_a_reader_is_an_error(store):
    journal = store.folder / "journal-0.log"
    journal.write_bytes(journal.read_bytes()[:100])
    with pytest.raises(IndexFormatError, match="cut short"):
        find(store, 1)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"format": 1}', "[]"],
)
def test_a_damaged_pointer_is_an_error(store, text):
    (store.folder / "CURRENT").write_text(text)
    with pytest.raises(IndexFormatError):
        Store.open(store.folder)


def test_every_changed_byte_of_the_pointer_is_noticed(store):
    file = store.folder / "CURRENT"
    whole = file.read_bytes()
    for position in range(0, len(whole) - 1, 7):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 2]) + whole[position + 1 :])
        with pytest.raises(IndexFormatError):
            Store.open(store.folder)


def test_a_segment_swapped_for_another_is_refused(store, tmp_path):
    store.merge()
    other = Store.create(tmp_path / "other", PDQ256)
    other.add([entry(500)])
    other.merge()
    (mine,), (foreign,) = store.folder.glob("segment-*"), other.folder.glob("segment-*")
    shutil.rmtree(mine)
    shutil.copytree(foreign, mine)
    with pytest.raises(IndexFormatError, match="not the segment that was published"):
        Store.open(store.folder)


def test_codes_of_other_procedures_are_refused(store, monkeypatch):
    monkeypatch.setattr("guardrails.similarity.pointer.CANONICAL_DECODE", "canonical-decode/0")
    with pytest.raises(IndexFormatError, match="other procedures"):
        Store.open(store.folder)


def test_a_full_disk_is_an_error_and_no_change(store, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("guardrails.similarity.journal.os.fsync", fail)
    with pytest.raises(StorageError, match="No space left"):
        store.add([entry(70)])
    monkeypatch.undo()
    assert len(Store.open(store.folder)) == 20
    store.add([entry(71)])
    assert find(store, 71) == ["work:71"]


# Each dies by SIGKILL at one step of changing an index.
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from guardrails.similarity import journal, pointer, segments, store
from guardrails.similarity.parts import NewEntry
import numpy as np

point = sys.argv[2]
def die(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)

opened = store.Store.open(Path(sys.argv[1]))
if point == "journal half written":
    real = journal.format_changes
    def half(changes):
        path = opened.folder / "journal-0.log"
        with path.open("ab") as file:
            file.write(real(changes)[:-20])
        die()
    journal.format_changes = half
elif point == "journal written, not synced":
    journal.os.fsync = die
elif point == "segment half written":
    segments._stated = die
elif point == "segment staged":
    segments.publish_folder = die
elif point == "segment published":
    store.write_atomically = die
elif point == "journal of the merge written":
    store.Pointer.write = die
elif point == "pointer replaced":
    store.Store._remove_unused = die
opened.add([NewEntry("work:40", [(0, np.random.default_rng(40).bytes(32))])])
opened.merge(everything=True)
"""
POINTS = {
    "journal half written": 20,
    "journal written, not synced": 21,
    "segment half written": 21,
    "segment staged": 21,
    "segment published": 21,
    "journal of the merge written": 21,
    "pointer replaced": 21,
}


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_killed_at_any_step_leaves_an_index_before_or_after_its_change(store, point):
    store.set_state("work:2", State.DISABLED)
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(store.folder), point], timeout=60, check=False)
    assert done.returncode == -9
    for opened in (store, Store.open(store.folder)):
        assert len(opened) == POINTS[point]
        assert find(opened, 1) == ["work:1"]
        assert find(opened, 2) == []
    # The next writer cleans up and goes on.
    store.add([entry(41)])
    store.merge(everything=True)
    assert find(Store.open(store.folder), 41) == ["work:41"]
    assert {path.name.partition("-")[0] for path in store.folder.iterdir()} == {"CURRENT", "LOCK", "journal", "segment"}
    assert len(list(store.folder.iterdir())) == 4


WRITER = """
import sys
from pathlib import Path
import numpy as np
from guardrails.similarity.parts import NewEntry
from guardrails.similarity.store import Store

writer = Store.open(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 30):
    writer.add([NewEntry(f"work:{number}", [(0, np.random.default_rng(number).bytes(32))])])
    if number % 10 == 9:
        writer.merge(everything=number % 20 == 19)
"""


def test_two_writers_and_a_reader_do_not_disturb_each_other(store):
    commands = [[sys.executable, "-c", WRITER, str(store.folder), first] for first in ("1000", "2000")]
    writers = [subprocess.Popen(command) for command in commands]
    reader = Store.open(store.folder)
    seen = 0
    while any(writer.poll() is None for writer in writers):
        assert find(reader, 5) == ["work:5"]
        assert len(reader) >= seen
        seen = len(reader)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(reader) == 80
    assert all(find(reader, number) == [f"work:{number}"] for number in (1000, 1029, 2000, 2029))


def test_a_merge_between_the_look_at_the_pointer_and_the_journal_is_noticed(store, monkeypatch):
    writer, reader = Store.open(store.folder), Store.open(store.folder)
    look, merging = stores._stamp, iter([writer.merge])

    def merged_after_the_look(folder):
        stamp = look(folder)
        for merge in merging:
            merge()
        return stamp

    monkeypatch.setattr(stores, "_stamp", merged_after_the_look)
    assert find(reader, 5) == ["work:5"]
    assert reader.parts[0].entries == 20


def test_a_pointer_of_the_same_inode_and_time_is_still_another_one(store, tmp_path):
    """A file that replaces a replaced one can get the inode of the first, within one tick of the clock."""
    reader, pointer = Store.open(store.folder), store.folder / "CURRENT"
    replace(read_pointer(store.folder), settings={"name": "changed"}).write(tmp_path)
    before = pointer.stat()
    pointer.write_bytes((tmp_path / "CURRENT").read_bytes())
    os.utime(pointer, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (pointer.stat().st_ino, pointer.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert reader.settings == {"name": "changed"}


def test_a_change_that_cannot_be_applied_stays_an_error(store):
    reader = Store.open(store.folder)
    journal = store.folder / "journal-0.log"
    append_changes(journal, journal.stat().st_size, [{"add": "work:50", "rows": [["no number", "00"]]}])
    for _ in range(2):
        with pytest.raises(IndexFormatError, match="unknown form"):
            find(reader, 1)


def test_states_that_change_during_a_search_do_not_disturb_it(store):
    store.add(NewEntry(f"plain:{number}", []) for number in range(5000))
    for number in range(5000):
        store._view.apply({"state": f"plain:{number}", "to": "disabled"})
    stop = threading.Event()

    def change():
        for to in itertools.cycle(("disabled", "active")):
            if stop.is_set():
                return
            # As a search of another thread does when it reads what a process has written.
            store._view.apply({"state": "work:1", "to": to})

    thread, interval = threading.Thread(target=change), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        searched = {store.search(np.zeros((1, 32), np.uint8), 0).searched for _ in range(100)}
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert searched <= {19, 20}


def test_verifying_during_a_merge_of_another_process(store, monkeypatch):
    store.merge()
    reader, writer = Store.open(store.folder), Store.open(store.folder)
    writer.add([entry(60)])
    look, merging = Segment.verify, iter([writer])

    def merged_before(segment):
        for one in merging:
            one.merge(everything=True)
        look(segment)

    monkeypatch.setattr(Segment, "verify", merged_before)
    reader.verify()
    assert reader.parts[0].entries == 21


def test_a_disk_that_fills_up_in_the_middle_of_many_entries_keeps_none(store):
    reader = Store.open(store.folder)
    size, seen = (store.folder / "journal-0.log").stat().st_size, []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, limits[1]))
    try:
        with pytest.raises(StorageError, match="too large"):
            store.add(entry(number) for number in range(100, 130))
        seen.append(len(reader))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (seen, len(reader), len(store), len(Store.open(store.folder))) == ([20], 20, 20, 20)
    store.add([entry(71)])
    assert find(reader, 71) == ["work:71"]


def test_while_many_entries_are_written_a_reader_finds_none_or_whole_ones(store, monkeypatch):
    reader, write, seen = Store.open(store.folder), journals._write, []

    def written_in_pieces(file, offset, data):
        for begin in range(0, len(data), 1000):
            write(file, offset + begin, data[begin : begin + 1000])
            seen.append(len(reader))

    monkeypatch.setattr(journals, "_write", written_in_pieces)
    store.add(entry(number) for number in range(100, 150))
    assert seen == sorted(seen)
    assert seen[0] == 20
    assert len(reader) == 70


def test_an_index_is_there_at_once_or_not_at_all(tmp_path, monkeypatch):
    looks, write = [], stores.Pointer.write

    def look_before(pointer, folder):
        looks.append((tmp_path / "index").exists())
        write(pointer, folder)

    monkeypatch.setattr(stores.Pointer, "write", look_before)
    made = Store.create(tmp_path / "index", PDQ256)
    assert looks == [False]
    assert (made.folder.stat().st_mode & 0o777, len(made)) == (0o755, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_claim_under_load_is_found_within_two_seconds_and_stops_with_the_next_query(store):
    reader, stop = Store.open(store.folder), threading.Event()

    def load():
        for number in itertools.cycle(range(20)):
            if stop.is_set():
                return
            find(reader, number)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        started = time.monotonic()
        store.add([entry(90)])
        while find(reader, 90) != ["work:90"]:
            assert time.monotonic() - started < 2
        assert time.monotonic() - started < 2
        store.set_state("work:90", State.DISABLED)
        assert find(reader, 90) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_an_index_is_readable_where_nothing_can_be_written(store):
    store.merge()
    if os.getuid() == 0:
        # Root may write anywhere; what matters is that a reader opens no file for writing.
        (store.folder / "LOCK").unlink()
    reader = Store.open(store.folder)
    assert find(reader, 1) == ["work:1"]
    assert not (store.folder / "LOCK").exists() or os.getuid() != 0
