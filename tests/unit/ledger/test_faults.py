"""Disks that are full or fail, at every step: nothing leaves unrecorded or half written, and all goes on afterwards.

The faults are real where the system gives them: a file system of a few megabytes, a limit on the size of files (which
tears writes in the middle), a limit on the pages of a database. A disk that cannot flush is imitated at `os.fsync`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import multiprocessing
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guardrails import files
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import GuardrailsError, LedgerError, StorageError
from guardrails.ledger import Ledger, RecoveryOutcome, Submission, export_bundle
from guardrails.ledger.sqlite import SqliteStore

FORK = multiprocessing.get_context("fork")
PAYLOAD = {"prompt": "a red fox"}
# Calls by which this program makes something durable; C code writes the database by calls of its own.
CALLS = ((os, "fsync"), (os, "replace"), (os, "link"), (os, "chmod"), (tempfile, "mkstemp"))
ERRORS = {"full": errno.ENOSPC, "failing": errno.EIO}


def record_of(image: bytes) -> Record:
    identity = ImageId.new()
    return Record(
        id=str(identity),
        kind=RecordKind.GENERATION,
        created_at="2026-11-24T08:00:00.000Z",
        policy=PolicyRef(id="default", version="1", digest="ab" * 32),
        mark_id=identity.mark_id,
        manifest_id=identity.urn,
        image_sha256=hashlib.sha256(image).hexdigest(),
    )


def release(ledger: Ledger, out: Path, size: int = 2000) -> str:
    """Record and release one picture as the guard does; its id."""
    image = os.urandom(size)
    record = record_of(image)
    staged = files.stage(out, image)
    try:
        ledger.append(record, PAYLOAD, release=(staged, out / f"{record.id}.png"))
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    ledger.finish_release(record.id)
    return record.id


def check_after_recovery(ledger: Ledger, out: Path, acknowledged: list[str]) -> None:
    """What was told to be released is; what lies there is recorded and whole; nothing else lies there."""
    ledger.recover()
    while ledger.merge():
        pass
    ledger.fsck()
    for record_id in acknowledged:
        assert (out / f"{record_id}.png").exists(), "told to be released and not there"
    for path in out.glob("*.png"):
        logged = ledger.find_by_id(path.stem)
        assert logged is not None, "released and not recorded"
        assert logged.record.image_sha256 == hashlib.sha256(path.read_bytes()).hexdigest(), "released and torn"
        assert ledger.payload(path.stem) == PAYLOAD
    assert list(out.glob(".*")) == [], "a staged file is left"
    assert ledger.staged_files() == frozenset()


def fault_of(work: Callable[[], object]) -> StorageError | None:
    """The error that the storage gave, if it did."""
    try:
        work()
    except StorageError as error:
        return error
    return None


@dataclass
class Disk:
    """Fails at one call, and at every one from then on until it is mended."""

    errno: int
    fails_at: int
    seen: list[str] = field(default_factory=list)

    def __call__(self, name: str, real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.seen.append(name)
        if len(self.seen) >= self.fails_at:
            raise OSError(self.errno, os.strerror(self.errno))
        return real(*args, **options)


@contextlib.contextmanager
def failing(disk: Disk) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            real = getattr(module, name)
            patch.setattr(
                module, name, lambda *args, real=real, name=name, **options: disk(name, real, *args, **options)
            )
        yield


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize("kind", ERRORS)
def test_a_disk_that_fails_at_any_step_releases_nothing_unrecorded(
    tmp_path: Path, database: str, kind: str, merges: bool
) -> None:
    folder, out = tmp_path / "ledger", tmp_path / "out"
    out.mkdir()
    acknowledged: list[str] = []
    with Ledger.open(folder, database=database, merges=merges) as ledger:
        for step in itertools.count(1):
            disk = Disk(ERRORS[kind], step)
            with failing(disk):
                error = fault_of(lambda: acknowledged.append(release(ledger, out)))
            assert error is None or error.hint
            if len(disk.seen) < step:
                break
            # The same ledger goes on as soon as the disk is mended, and so does one that is opened anew.
            check_after_recovery(ledger, out, acknowledged)
            acknowledged.append(release(ledger, out))
            with Ledger.open(folder, database=database) as again:
                check_after_recovery(again, out, acknowledged)
        assert step > (8 if merges else 5), "the steps were counted"
        assert list((folder / "staging").glob("*")) == []


@pytest.mark.parametrize("kind", ERRORS)
def test_recovery_itself_may_fail_and_is_done_again(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    image = b"picture"
    for step in itertools.count(1):
        with Ledger.open(tmp_path / "ledger") as ledger:
            record = record_of(image)
            final = out / f"{record.id}.png"
            ledger.append(record, PAYLOAD, release=(files.stage(out, image), final))
        disk = Disk(ERRORS[kind], step)
        with Ledger.open(tmp_path / "ledger") as ledger:
            with failing(disk), contextlib.suppress(StorageError):
                ledger.recover()
            (done,) = ledger.recover() or [None]
            assert done is None or done.outcome is not RecoveryOutcome.LOST
            assert final.read_bytes() == image
            check_after_recovery(ledger, out, [record.id])
        if len(disk.seen) < step:
            break


@pytest.mark.parametrize("kind", ERRORS)
def test_a_file_that_cannot_be_written_is_told_and_not_left_half_written(tmp_path: Path, kind: str) -> None:
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.append_many([Submission(record=record_of(bytes([n]))) for n in range(20)])
        writers: list[Callable[[Path], object]] = [
            lambda path: files.write_atomically(path, b"new"),
            lambda path: files.create_once(path.with_name("once"), lambda: b"new"),
            lambda path: export_bundle(ledger, path, 0, 20),
        ]
        for number, write in enumerate(writers):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "file").write_bytes(b"old")
            for step in itertools.count(1):
                (folder / "once").unlink(missing_ok=True)
                disk = Disk(ERRORS[kind], step)
                with failing(disk):
                    error = fault_of(lambda path=folder / "file", write=write: write(path))
                if len(disk.seen) >= step:
                    assert error is not None
                    assert os.strerror(ERRORS[kind]) in error.message
                assert {path.name for path in folder.iterdir()} <= {"file", "once"}
                if len(disk.seen) < step:
                    break


# --- Real limits -------------------------------------------------------------------------------------------------


def release_until_full(folder: Path, out: Path, limit: int | None, told: Any) -> None:
    """In a process of its own: release pictures until the disk is full, then a few more, and say which went through."""
    with Ledger.open(folder) as ledger:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        refused = 0
        while refused < 5:
            try:
                told.put(release(ledger, out))
            except (StorageError, LedgerError) as error:
                refused += 1
                told.put(("refused", type(error).__name__, error.hint))
        told.put(None)


def fill(folder: Path, out: Path, limit: int | None = None) -> tuple[list[str], list[Any]]:
    """Ids of what was released, and how the rest was refused."""
    told = FORK.Queue()
    writer = FORK.Process(target=release_until_full, args=(folder, out, limit, told))
    writer.start()
    said = list(iter(told.get, None))
    writer.join()
    assert writer.exitcode == 0
    return [one for one in said if isinstance(one, str)], [one for one in said if not isinstance(one, str)]


def check_goes_on(folder: Path, out: Path, acknowledged: list[str]) -> None:
    with Ledger.open(folder) as ledger:
        check_after_recovery(ledger, out, acknowledged)
        check_after_recovery(ledger, out, [*acknowledged, release(ledger, out)])


# Just above what an empty ledger has written: every limit tears another write of the first transactions.
@pytest.mark.parametrize("more", range(0, 60_000, 4_999))
def test_writes_that_are_torn_by_a_limit_on_file_size(tmp_path: Path, more: int) -> None:
    folder, out = tmp_path / "ledger", tmp_path / "out"
    out.mkdir()
    with Ledger.open(folder) as ledger:
        release(ledger, out)
        limit = (folder / "ledger.db-wal").stat().st_size + more
    released, refused = fill(folder, out, limit)
    assert {kind for _, kind, _ in refused} == {"StorageError"}
    assert all(hint for _, _, hint in refused)
    check_goes_on(folder, out, [*released])


def test_a_database_that_may_not_grow(tmp_path: Path) -> None:
    folder, out = tmp_path / "ledger", tmp_path / "out"
    out.mkdir()
    acknowledged = []
    with Ledger.open(folder) as ledger:
        store = ledger._store
        assert isinstance(store, SqliteStore)
        pages = store._all("PRAGMA page_count")[0][0]
        store._all(f"PRAGMA max_page_count = {pages + 20}")
        while (error := fault_of(lambda: acknowledged.append(release(ledger, out)))) is None:
            assert len(acknowledged) < 1000
        assert "full" in error.message
        assert acknowledged
        check_after_recovery(ledger, out, acknowledged)
        with pytest.raises(GuardrailsError):
            release(ledger, out, size=10)
        store._all("PRAGMA max_page_count = 1073741823")
        acknowledged.append(release(ledger, out))
        check_after_recovery(ledger, out, acknowledged)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes, where this machine lets us mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mounting, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_refuses_and_room_lets_it_go_on(small_disk: Path) -> None:
    folder, out = small_disk / "ledger", small_disk / "out"
    out.mkdir()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    released, refused = fill(folder, out)
    assert released
    assert {kind for _, kind, _ in refused} == {"StorageError"}
    # Reading needs no room.
    with Ledger.open(folder, create=False) as reader:
        assert reader.fsck() >= len(released)
    ballast.unlink()
    check_goes_on(folder, out, released)


def test_a_ledger_is_not_begun_half_on_a_full_disk(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    folder = small_disk / "ledger"
    with pytest.raises(StorageError) as caught:
        Ledger.open(folder)
    assert caught.value.hint
    ballast.unlink()
    with Ledger.open(folder) as ledger:
        ledger.append(record_of(b""))
        assert ledger.fsck() == 1
