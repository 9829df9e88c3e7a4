"""Several processes, some of them killed: what was released is recorded, what is recorded exists, nothing is torn."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

from guardrails import files
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.ledger.log import Ledger, RecoveryOutcome

FORK = multiprocessing.get_context("fork")
POLICY = PolicyRef(id="default", version="1", digest="ab" * 32)


def record_of(image: bytes) -> Record:
    identity = ImageId.new()
    return Record(
        id=str(identity),
        kind=RecordKind.GENERATION,
        created_at="2026-11-24T08:00:00.000Z",
        policy=POLICY,
        mark_id=identity.mark_id,
        manifest_id=identity.urn,
        image_sha256=hashlib.sha256(image).hexdigest(),
    )


def release_pictures_forever(folder: Path, out: Path) -> None:
    with Ledger.open(folder) as ledger:
        ledger.recover()
        while True:
            image = os.urandom(2000)
            record = record_of(image)
            staged = files.stage(out, image)
            ledger.append(record, {"prompt": "a red fox"}, release=(staged, out / f"{record.id}.png"))
            ledger.finish_release(record.id)


def check_released_files(ledger: Ledger, out: Path) -> int:
    """Every named file is recorded with its digest, every record has its file; returns their number."""
    released = list(out.glob("*.png"))
    for path in released:
        logged = ledger.find_by_id(path.stem)
        assert logged is not None, "released and not recorded"
        assert logged.record.image_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert ledger.payload(path.stem) == {"prompt": "a red fox"}
    assert ledger.fsck() == len(released), "recorded and not released"
    return len(released)


def wait_for_two_more(writer: BaseProcess, out: Path) -> None:
    """Until two more pictures are released: how long that takes depends on the machine."""
    count = len(list(out.glob("*.png")))
    while len(list(out.glob("*.png"))) < count + 2:
        assert writer.is_alive(), "the writer failed"
        time.sleep(0.01)


def test_twenty_kills_at_random_moments_leave_no_file_without_record_and_no_record_without_file(
    tmp_path: Path,
) -> None:
    folder, out = tmp_path / "ledger", tmp_path / "out"
    out.mkdir()
    chance = random.Random(20)
    outcomes = []
    for kill in range(20):
        writer = FORK.Process(target=release_pictures_forever, args=(folder, out))
        writer.start()
        # Every other one at once, so that beginnings are cut off too.
        if kill % 2:
            wait_for_two_more(writer, out)
        time.sleep(chance.uniform(0.0, 0.12))
        writer.kill()
        writer.join()
        assert writer.exitcode == -9
        with Ledger.open(folder) as ledger:
            outcomes += [recovery.outcome for recovery in ledger.recover()]
            check_released_files(ledger, out)
            assert ledger.recover() == []
    with Ledger.open(folder, create=False) as ledger:
        assert check_released_files(ledger, out) >= 20
    assert RecoveryOutcome.LOST not in outcomes
    assert len(list(out.glob(".staged-*"))) <= 20, "at most one unrecorded picture per kill"


def append_many(folder: Path, count: int) -> None:
    with Ledger.open(folder) as ledger:
        for _ in range(count):
            ledger.append(record_of(os.urandom(8)))


def test_three_processes_append_to_a_new_ledger_at_once_without_gaps(tmp_path: Path) -> None:
    writers = [FORK.Process(target=append_many, args=(tmp_path / "ledger", 25)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with Ledger.open(tmp_path / "ledger") as ledger:
        assert (ledger.fsck(), len(ledger)) == (75, 75)


def test_readers_never_see_a_half_written_log_while_another_process_writes(tmp_path: Path) -> None:
    append_many(tmp_path / "ledger", 1)
    writer = FORK.Process(target=append_many, args=(tmp_path / "ledger", 60))
    writer.start()
    while writer.is_alive():
        with Ledger.open(tmp_path / "ledger", create=False) as reader:
            size = reader.fsck()
            reader.prove(size - 1)
    writer.join()
    assert writer.exitcode == 0


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger") as ledger:
        stop = threading.Event()

        def read() -> int:
            checked = 0
            while not stop.is_set():
                checked += ledger.fsck()
            return checked

        with ThreadPoolExecutor(5) as pool:
            reader = pool.submit(read)
            receipts = list(pool.map(lambda _: ledger.append(record_of(os.urandom(8))), range(40)))
            stop.set()
            assert reader.result() >= 0
        assert sorted(receipt.index for receipt in receipts) == list(range(40))
        assert ledger.fsck() == 40


def test_recovery_by_another_process_does_not_disturb_a_release_in_progress(tmp_path: Path) -> None:
    folder, out = tmp_path / "ledger", tmp_path / "out"
    out.mkdir()
    writer = FORK.Process(target=release_pictures_forever, args=(folder, out))
    writer.start()
    outcomes = []
    with Ledger.open(folder) as ledger:
        until = time.monotonic() + 1.0
        while time.monotonic() < until or not list(out.glob("*.png")):
            assert writer.is_alive(), "the writer failed"
            outcomes += [recovery.outcome for recovery in ledger.recover()]
        writer.kill()
        writer.join()
        ledger.recover()
        assert check_released_files(ledger, out) > 0
    assert RecoveryOutcome.LOST not in outcomes
