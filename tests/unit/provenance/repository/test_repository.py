"""Kept is kept: through restarts, kills, forks, threads and other processes; and found exactly."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from guardrails.errors import RepositoryError
from guardrails.provenance.repository import Fingerprints, Repository


def plain(entry: object) -> object:
    return dataclasses.replace(entry, added_at="")  # type: ignore[type-var]


def test_what_was_added_is_found_by_everything_after_a_restart(tmp_path: Path, kept: SimpleNamespace) -> None:
    entries = [kept.entry(number) for number in range(30)]
    with Repository(tmp_path) as repository:
        for entry in entries:
            repository.add(entry)
    for create in (False, True):
        with Repository(tmp_path, create=create) as repository:
            assert len(repository) == 30
            entry = entries[7]
            assert plain(repository.by_manifest(entry.manifest_id)) == entry
            assert [plain(one) for one in repository.by_mark(entry.mark_id)] == [entry]
            assert [plain(one) for one in repository.by_rest(entry.rest_sha256)] == [entry]
            (near,) = repository.by_fingerprint(
                iscc=[entry.fingerprints.iscc], iscc_radius=2, pdq=[entry.fingerprints.pdq], pdq_radius=4
            )
            assert (plain(near.entry), near.iscc, near.pdq) == (entry, 0, 0)
            assert [plain(one) for one in repository.newest(2)] == [entries[29], entries[28]]


def test_nothing_is_found_that_is_not_there(tmp_path: Path, kept: SimpleNamespace) -> None:
    with Repository(tmp_path) as repository:
        assert repository.by_fingerprint(iscc=[bytes(8)], iscc_radius=64) == []
        # An entry without mark, digest and fingerprints is found by name alone.
        bare = dataclasses.replace(kept.entry(1), mark_id="", rest_sha256=b"", start=None, fingerprints=Fingerprints())
        repository.add(bare)
        assert repository.by_mark("") == repository.by_rest(b"") == []
        assert repository.by_fingerprint(iscc=[bytes(8)], iscc_radius=64, pdq=[bytes(32)], pdq_radius=256) == []
        assert repository.by_manifest("urn:c2pa:x") is None
        assert plain(repository.by_manifest(bare.manifest_id)) == bare


def test_the_search_is_exact(tmp_path: Path) -> None:
    """Compared with the distances of all, at radii where some are near and some just not; past the first growth."""
    from guardrails.provenance.repository.fingerprints import Codes

    rng = np.random.default_rng(4)
    for size, radius in ((8, 22), (32, 108)):
        codes = rng.integers(0, 256, (3000, size), dtype=np.uint8)
        index = Codes(size)
        for begin in range(0, 3000, 700):
            part = codes[begin : begin + 700]
            index.extend(list(range(begin + 10, begin + 10 + len(part))), part.tobytes())
        queries = rng.integers(0, 256, (3, size), dtype=np.uint8)
        distances = np.stack([np.unpackbits(codes ^ query, axis=1).sum(axis=1) for query in queries]).min(axis=0)
        expected = {int(i) + 10: int(distances[i]) for i in np.flatnonzero(distances <= radius)}
        assert len(expected) > 5
        assert index.near([query.tobytes() for query in queries], radius) == expected


def test_the_nearest_come_first_and_no_more_than_asked_for(tmp_path: Path, kept: SimpleNamespace) -> None:
    with Repository(tmp_path) as repository:
        for number in range(12):
            code = bytes(7) + bytes([(1 << number % 8) - 1])
            repository.add(dataclasses.replace(kept.entry(number), fingerprints=Fingerprints(iscc=code)))
        found = repository.by_fingerprint(iscc=[bytes(8)], iscc_radius=5, limit=4)
        assert [near.iscc for near in found] == [0, 0, 1, 1]
        assert all(near.pdq is None for near in found)


def test_adding_again_changes_nothing_and_another_manifest_is_refused(tmp_path: Path, kept: SimpleNamespace) -> None:
    entry = kept.entry(1)
    other = dataclasses.replace(kept.entry(2), manifest_id=entry.manifest_id)
    with Repository(tmp_path) as repository:
        repository.add(entry)
        first = repository.by_manifest(entry.manifest_id)
        repository.add(entry)
        assert repository.by_manifest(entry.manifest_id) == first
        with pytest.raises(RepositoryError, match="another manifest is kept"):
            repository.add(other)
        assert repository.by_manifest(entry.manifest_id) == first
        repository.by_fingerprint()
        repository.add(other, replace=True)
        assert plain(repository.by_manifest(entry.manifest_id)) == other
        assert len(repository) == 1
        # The fingerprint of the replaced one leads nowhere, though it was in memory.
        assert repository.by_fingerprint(iscc=[entry.fingerprints.iscc], iscc_radius=3) == []


def test_removed_is_removed(tmp_path: Path, kept: SimpleNamespace) -> None:
    entry = kept.entry(1)
    with Repository(tmp_path) as repository:
        repository.add(entry)
        repository.by_fingerprint()
        assert repository.remove(entry.manifest_id)
        assert not repository.remove(entry.manifest_id)
        assert repository.by_mark(entry.mark_id) == []
        assert repository.by_fingerprint(iscc=[entry.fingerprints.iscc], iscc_radius=3) == []
        # Numbers are not used again: an entry that comes later is not mistaken for the old one.
        repository.add(kept.entry(2))
        assert repository.by_fingerprint(iscc=[entry.fingerprints.iscc], iscc_radius=3) == []


def test_all_or_none(tmp_path: Path, kept: SimpleNamespace) -> None:
    with Repository(tmp_path) as repository:
        repository.add(kept.entry(1))
        clash = dataclasses.replace(kept.entry(3), manifest_id=kept.entry(1).manifest_id)
        with pytest.raises(RepositoryError):
            repository.add_all([kept.entry(2), clash])
        assert len(repository) == 1
        repository.add_all([kept.entry(2), kept.entry(3)])
        assert len(repository) == 3


def test_additions_of_another_connection_are_seen(tmp_path: Path, kept: SimpleNamespace) -> None:
    with Repository(tmp_path) as writer, Repository(tmp_path, create=False) as reader:
        for number in range(3):
            entry = kept.entry(number)
            writer.add(entry)
            (near,) = reader.by_fingerprint(pdq=[entry.fingerprints.pdq], pdq_radius=10)
            assert near.entry.manifest_id == entry.manifest_id


def test_it_works_after_a_fork(tmp_path: Path, kept: SimpleNamespace) -> None:
    with Repository(tmp_path) as repository:
        repository.add(kept.entry(1))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                repository.add(kept.entry(2))
                status = 0 if len(repository) == 2 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        repository.add(kept.entry(3))
        assert len(repository) == 3


def test_threads_share_one_repository(tmp_path: Path, kept: SimpleNamespace) -> None:
    with Repository(tmp_path) as repository:

        def work(number: int) -> bool:
            entry = kept.entry(number)
            repository.add(entry)
            found = repository.by_fingerprint(pdq=[entry.fingerprints.pdq], pdq_radius=3)
            return [near.entry.manifest_id for near in found] == [entry.manifest_id]

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(60)))
        assert len(repository) == 60


_WRITER = """
import dataclasses, sys, uuid
from pathlib import Path
from guardrails.provenance.repository import Entry, Fingerprints, Repository
with Repository(Path(sys.argv[1])) as repository:
    print("ready", flush=True)
    for number in range(int(sys.argv[2])):
        identifier = uuid.uuid4()
        entry = Entry(manifest_id=f"urn:c2pa:{identifier}", mark_id=identifier.hex[:16],
                      fingerprints=Fingerprints(iscc=identifier.bytes[:8]), container=bytes(5000), pieces=((0, 5000),))
        repository.add(entry)
        print(entry.manifest_id, flush=True)
"""


def _start(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _WRITER, folder, str(count)], stdout=subprocess.PIPE, text=True)


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    writers = [_start(tmp_path, 25) for _ in range(2)]
    said = [line for writer in writers for line in writer.communicate(timeout=60)[0].split()[1:]]
    assert [writer.returncode for writer in writers] == [0, 0]
    with Repository(tmp_path, create=False) as repository:
        assert len(repository) == len(said) == 50


def test_what_was_said_to_be_kept_survives_a_kill(tmp_path: Path) -> None:
    for _ in range(2):
        writer = _start(tmp_path, 100_000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        # How long the first one takes depends on the machine.
        said = [writer.stdout.readline().strip()]
        time.sleep(0.15)
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read().split()
        writer.wait(30)
        with Repository(tmp_path) as repository:
            assert all(repository.by_manifest(name) for name in said if len(name) == 45)
            connection = sqlite3.connect(tmp_path / "manifests.db")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
        writer.stdout.close()
        assert len(said[0]) == 45


def test_only_the_owner_may_read_it(tmp_path: Path, kept: SimpleNamespace) -> None:
    folder = tmp_path / "manifests"
    with Repository(folder) as repository:
        repository.add(kept.entry(1))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes <= {0o700, 0o600}


def test_where_there_is_none_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="there is no repository"):
        Repository(tmp_path / "none", create=False)
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_opened_for_reading_is_not_written(tmp_path: Path, kept: SimpleNamespace) -> None:
    Repository(tmp_path).close()
    with Repository(tmp_path, create=False) as repository:
        with pytest.raises(RepositoryError, match="opened for reading"):
            repository.add(kept.entry(1))
        with pytest.raises(RepositoryError, match="opened for reading"):
            repository.remove("x")


def test_it_can_be_read_where_nothing_can_be_written(tmp_path: Path, kept: SimpleNamespace) -> None:
    folder = tmp_path / "manifests"
    with Repository(folder) as repository:
        repository.add(kept.entry(1))
    folder.chmod(0o500)
    try:
        with Repository(folder, create=False) as repository:
            assert len(repository) == 1
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(100)], ids=["text", "header alone"])
def test_another_file_in_its_place_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifests.db").write_bytes(content)
    for create in (False, True):
        with pytest.raises(RepositoryError):
            Repository(tmp_path, create=create)
    assert (tmp_path / "manifests.db").read_bytes() == content


def test_another_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "manifests.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(RepositoryError, match="no repository of manifests"):
        Repository(tmp_path)


def test_a_damaged_row_is_an_error_of_our_own(tmp_path: Path, kept: SimpleNamespace) -> None:
    entry = kept.entry(1)
    with Repository(tmp_path) as repository:
        repository.add(entry)
    with sqlite3.connect(tmp_path / "manifests.db") as connection:
        connection.execute("UPDATE manifests SET pieces = '[1]'")
    with Repository(tmp_path, create=False) as repository, pytest.raises(RepositoryError, match="cannot be used"):
        repository.by_manifest(entry.manifest_id)
