"""What many workers need, on both databases: staging, one sequencer, receipts, erasure, retention, restored backups."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest

from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import KeyMaterialError, LedgerCorrupt, LedgerError, PolicyError, StorageError
from guardrails.ledger import Ledger, LogKey, Sequencer, Submission
from guardrails.ledger import log as log_module
from guardrails.ledger.entries import encode_entry
from guardrails.ledger.groups import GroupCommit
from guardrails.ledger.notes import Checkpoint, NoteVerifier
from guardrails.ledger.offline import consistent, leaf_hash
from guardrails.ledger.receipts import read_receipt
from guardrails.ledger.retention import Retention, check_erasable, load_retention, sweep

PAYLOAD = {"prompt": "a red fox", "salts": {"prompt": "00"}}


def record_of(created_at: str = "2026-11-24T08:00:00.000Z", kind: RecordKind = RecordKind.GENERATION) -> Record:
    identity = ImageId.new()
    return Record(
        id=str(identity),
        kind=kind,
        created_at=created_at,
        policy=PolicyRef(id="default", version="1", digest="ab" * 32),
        mark_id=identity.mark_id,
        manifest_id=identity.urn,
        image_sha256=hashlib.sha256(identity.value.bytes).hexdigest(),
        commitments={"prompt": "cd" * 32},
    )


@pytest.fixture
def open_ledger(tmp_path: Path, database: str) -> Callable[..., Ledger]:
    return lambda **options: Ledger.open(tmp_path / "ledger", database=database, **options)


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Iterator[Ledger]:
    with open_ledger() as opened:
        yield opened


def test_records_are_found_verified_and_walked(ledger: Ledger) -> None:
    records = [record_of() for _ in range(300)]
    receipts = ledger.append_many([Submission(record=record, payload=PAYLOAD) for record in records])
    assert [receipt.index for receipt in receipts] == list(range(300))
    for index in (0, 255, 256, 299):
        logged = ledger.find_by_image(records[index].image_sha256)
        assert logged is not None
        assert (logged.index, logged.record) == (index, records[index])
        assert ledger.verify_record(logged).index == index
    assert ledger.fsck() == len(ledger) == 300


class TestStaging:
    def test_a_staged_record_is_durable_waits_and_gets_the_next_place(
        self, ledger: Ledger, open_ledger: Callable[..., Ledger]
    ) -> None:
        ledger.append(record_of())
        record = record_of()
        with open_ledger(merges=False) as worker:
            receipt = worker.append(record, PAYLOAD)
        assert (receipt.index, receipt.checkpoint) == (None, "")
        assert ledger.backlog() == (1, record.created_at)
        assert ledger.find_by_id(record.id) is None
        assert ledger.payload(record.id) == PAYLOAD
        assert ledger.fsck() == 1
        with pytest.raises(LedgerError, match="already in the ledger"):
            ledger.append(record)
        assert ledger.merge() == 1
        logged = ledger.find_by_id(record.id)
        assert logged is not None
        assert (logged.index, ledger.backlog(), ledger.merge(), ledger.fsck()) == (1, (0, ""), 0, 2)

    def test_an_appender_that_merges_takes_the_waiting_records_along(
        self, ledger: Ledger, open_ledger: Callable[..., Ledger]
    ) -> None:
        with open_ledger(merges=False) as worker:
            waiting = worker.append(record_of())
        assert ledger.append(record_of()).index == 1
        assert ledger.read_receipt(waiting.note)[1] is not None

    def test_merging_in_batches_builds_the_tree_that_one_merge_would(self, open_ledger: Callable[..., Ledger]) -> None:
        with open_ledger(merges=False) as worker:
            worker.append_many([Submission(record=record_of()) for _ in range(600)])
            merged = [worker.merge(limit) for limit in (1, 255, 1, 300, 100)]
            assert merged == [1, 255, 1, 300, 43]
            assert worker.fsck() == 600

    def test_a_release_waits_for_nothing_but_its_record(
        self, ledger: Ledger, open_ledger: Callable[..., Ledger], tmp_path: Path
    ) -> None:
        staged, final = tmp_path / "staged", tmp_path / "picture.png"
        staged.write_bytes(b"picture")
        record = dataclasses.replace(record_of(), image_sha256=hashlib.sha256(b"picture").hexdigest())
        with open_ledger(merges=False) as worker:
            worker.append(record, release=(staged, final))
            worker.finish_release(record.id)
        assert final.read_bytes() == b"picture"
        assert (ledger.recover(), ledger.merge(), ledger.fsck()) == ([], 1, 1)

    def test_workers_in_threads_and_a_sequencer_leave_no_gaps(self, open_ledger: Callable[..., Ledger]) -> None:
        with open_ledger() as log, open_ledger(merges=False) as one, open_ledger(merges=False) as other:
            sequencer = Sequencer(log, interval=0.01)
            running = threading.Thread(target=sequencer.run)
            running.start()
            with ThreadPoolExecutor(8) as pool:
                workers = (one, other)
                receipts = list(pool.map(lambda n: workers[n % 2].append(record_of(), PAYLOAD), range(160)))
            sequencer.stop()
            running.join()
            assert log.backlog() == (0, "")
            indexes = [logged.index for receipt in receipts if (logged := log.find_by_id(receipt.record_id))]
            assert sorted(indexes) == list(range(160))
            assert log.fsck() == 160

    def test_the_sequencer_tries_again_when_the_database_cannot_be_used(self, ledger: Ledger) -> None:
        told: list[StorageError] = []
        real, faults = ledger.merge, iter([StorageError("no space")] * 2)

        def merge(limit: int = 10) -> int:
            for error in faults:
                raise error
            sequencer.stop()
            return real(limit)

        ledger.merge = merge  # type: ignore[method-assign]
        sequencer = Sequencer(ledger, interval=0.001, report=told.append)
        sequencer.run()
        assert len(told) == 2
        with pytest.raises(ValueError, match="promise"):
            Sequencer(ledger, interval=5)


class TestReceipts:
    def test_a_receipt_is_a_signed_promise_that_the_log_keeps(self, open_ledger: Callable[..., Ledger]) -> None:
        record = record_of()
        with open_ledger(merges=False) as worker:
            receipt = worker.append(record)
            assert read_receipt(receipt.note, NoteVerifier.from_vkey(worker.vkey)) == receipt
            assert receipt.leaf_hash == leaf_hash(encode_entry(record))
            assert receipt.max_merge_delay == 5
            assert worker.read_receipt(receipt.note) == (receipt, None)
            worker.merge()
            assert worker.read_receipt(receipt.note)[1] == worker.find_by_id(record.id)

    def test_a_changed_receipt_a_checkpoint_and_a_strangers_receipt_are_refused(self, ledger: Ledger) -> None:
        receipt = ledger.append(record_of())
        key = LogKey.load_or_create(ledger._folder, "guardrails.local/log")
        forged = [
            receipt.note.replace("max-merge-delay 5", "max-merge-delay 9"),
            receipt.checkpoint,
            key.sign(receipt.note.partition("\n\n")[0].replace("v1", "v2") + "\n"),
            key.sign(receipt.note.partition("\n\n")[0].replace("origin guardrails", "origin other") + "\n"),
            key.sign(receipt.note.partition("\n\n")[0] + "\nmore 1\n"),
            "",
        ]
        for note in forged:
            with pytest.raises(LedgerCorrupt):
                ledger.read_receipt(note)

    def test_a_log_that_recorded_something_else_is_shown_up_by_the_receipt(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        record = record_of()
        with Ledger.open(
            tmp_path / "other", signer=LogKey.load_or_create(ledger._folder, "guardrails.local/log")
        ) as log:
            promised = log.append(record)
        ledger.append(dataclasses.replace(record, facts={"changed": True}))
        with pytest.raises(LedgerCorrupt, match="not the one that the receipt promised"):
            ledger.read_receipt(promised.note)


class TestGroupCommit:
    def test_those_who_wait_share_one_commit_and_a_bad_one_fails_alone(self) -> None:
        groups: list[list[int]] = []
        first_commits, everyone_waits = threading.Event(), threading.Event()

        def commit(items: list[int]) -> list[int]:
            groups.append(items)
            first_commits.set()
            everyone_waits.wait(10)
            if 3 in items:
                raise LedgerError("three")
            return [item * 10 for item in items]

        group = GroupCommit(commit)
        with ThreadPoolExecutor(6) as pool:
            first = pool.submit(group, 0)
            first_commits.wait(10)
            rest = [pool.submit(group, number) for number in range(1, 6)]
            while len(group._queue) < 5:
                pass
            everyone_waits.set()
            assert first.result() == 0
            assert [rest[number - 1].result() for number in (1, 2, 4, 5)] == [10, 20, 40, 50]
            with pytest.raises(LedgerError, match="three"):
                rest[2].result()
        assert sorted(groups[1]) == [1, 2, 3, 4, 5]
        # All together, and when that failed each alone.
        assert sorted(groups[2:]) == [[1], [2], [3], [4], [5]]

    def test_a_disk_that_fails_after_the_commit_is_told_to_all_and_nobody_is_recorded_again(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish, first_commits, everyone_waits = log_module.publish, threading.Event(), threading.Event()

        def fails_for_several(staged: Path, path: Path) -> None:
            if first_commits.is_set():
                raise StorageError("the disk cannot say that it will keep it", hint="")
            first_commits.set()
            assert everyone_waits.wait(60)
            publish(staged, path)

        monkeypatch.setattr(log_module, "publish", fails_for_several)
        records = [record_of() for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(ledger.append, records[0])
            assert first_commits.wait(60)
            rest = [pool.submit(ledger.append, record) for record in records[1:]]
            while len(ledger._write_group._queue) < 2:
                pass
            everyone_waits.set()
            assert first.result().index == 0
            for each in rest:
                with pytest.raises(StorageError, match="will keep it"):
                    each.result()
        assert all(ledger.record(record.id) == record for record in records)

    def test_nobody_is_left_waiting_when_more_come_than_one_group_holds(self) -> None:
        group = GroupCommit(lambda items: [item + 1 for item in items])
        with ThreadPoolExecutor(64) as pool:
            assert list(pool.map(group, range(5000))) == list(range(1, 5001))

    def test_what_is_no_error_of_ours_reaches_everyone_and_the_next_one_goes_through(self) -> None:
        def commit(items: list[int]) -> list[int]:
            if items == [1]:
                raise KeyboardInterrupt
            return items

        group = GroupCommit(commit)
        with pytest.raises(KeyboardInterrupt):
            group(1)
        assert group(2) == 2


class TestErasure:
    def test_key_and_payload_are_gone_and_every_proof_still_verifies(self, ledger: Ledger, tmp_path: Path) -> None:
        record, other = record_of(), record_of()
        receipt = ledger.append(record, PAYLOAD)
        ledger.append(other, PAYLOAD)
        logged = ledger.find_by_id(record.id)
        assert logged is not None
        kept = ledger._store.payload(record.id)
        assert kept is not None
        assert kept.sealed is not None
        event = ledger.erase([record.id, record.id], ground="asked for by the person")
        assert ledger.payload(record.id) is None
        assert ledger.erased_by(record.id) == event.record_id
        assert (ledger.payload(other.id), ledger.erased_by(other.id)) == (PAYLOAD, "")
        assert ledger.verify_record(logged).index == receipt.index
        assert ledger.fsck() == 3
        told = ledger.find_by_id(event.record_id)
        assert told is not None
        assert told.record.kind is RecordKind.ERASURE
        assert told.record.facts == {"erased": [record.id], "ground": "asked for by the person"}
        for path in (tmp_path / "ledger").glob("ledger.db*"):
            assert kept.sealed.wrapped_key not in path.read_bytes()
            assert kept.sealed.data not in path.read_bytes()

    def test_a_worker_erases_and_fsck_accepts_it_before_the_merge(self, open_ledger: Callable[..., Ledger]) -> None:
        with open_ledger() as log, open_ledger(merges=False) as worker:
            record = record_of()
            log.append(record, PAYLOAD)
            worker.erase([record.id], ground="asked")
            assert (log.fsck(), log.backlog()[0]) == (1, 1)
            assert (log.merge(), log.fsck()) == (1, 2)

    def test_nothing_and_nobody_cannot_be_erased(self, ledger: Ledger) -> None:
        for ids in ([], ["nobody"]):
            with pytest.raises(LedgerError, match="no record"):
                ledger.erase(ids, ground="asked")
        assert len(ledger) == 0

    def test_a_copy_of_the_database_without_the_key_reads_nothing(
        self, open_ledger: Callable[..., Ledger], tmp_path: Path
    ) -> None:
        record = record_of()
        with open_ledger() as ledger:
            ledger.append(record, PAYLOAD)
        key = tmp_path / "ledger" / "payload.key"
        assert key.stat().st_mode & 0o077 == 0
        key.unlink()
        with open_ledger(create=False) as reader:
            assert reader.fsck() == 1
            with pytest.raises(KeyMaterialError):
                reader.payload(record.id)
        key.write_text("00" * 32)
        with open_ledger(create=False) as reader, pytest.raises(LedgerCorrupt, match="cannot be decrypted"):
            reader.payload(record.id)
        key.write_text("00" * 31)
        with open_ledger(create=False) as reader, pytest.raises(KeyMaterialError):
            reader.payload(record.id)

    def test_payloads_exchanged_between_records_are_noticed(self, ledger: Ledger) -> None:
        one, other = record_of(), record_of()
        for record in (one, other):
            ledger.append(record, {"prompt": record.id})
        with ledger._store.transaction():
            ledger._store._run(  # type: ignore[attr-defined]
                "UPDATE payloads SET wrapped_key = (SELECT wrapped_key FROM payloads WHERE seq = ?),"
                " data = (SELECT data FROM payloads WHERE seq = ?) WHERE seq = ?",
                [(1, 1, 2)],
            )
        with pytest.raises(LedgerCorrupt, match="cannot be decrypted"):
            ledger.payload(other.id)
        with pytest.raises(LedgerCorrupt, match="not the one that was logged"):
            ledger.fsck()


class TestRetention:
    NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
    YEAR = Retention(name="eu", keep_days=0, erase_days=365, review_by=date(2027, 1, 1))

    def test_what_is_older_than_the_ceiling_goes_and_nothing_else(self, ledger: Ledger) -> None:
        days = ["2024-01-01", "2025-11-24", "2025-11-25", "2026-11-24"]
        records = [record_of(f"{day}T11:59:59.999Z") for day in days]
        bare = record_of("2020-01-01T00:00:00.000Z")
        ledger.append_many([Submission(record=record, payload=PAYLOAD) for record in records])
        ledger.append(bare)
        due = [record.id for record in records[:2]]
        assert sweep(ledger, self.YEAR, self.NOW, dry_run=True) == due
        assert ledger.payload(due[0]) == PAYLOAD
        assert sweep(ledger, self.YEAR, self.NOW) == due
        assert [ledger.payload(record.id) for record in records] == [None, None, PAYLOAD, PAYLOAD]
        assert sweep(ledger, self.YEAR, self.NOW) == []
        assert ledger.fsck() == 6

    def test_a_large_sweep_is_told_in_records_of_bounded_size(self, ledger: Ledger) -> None:
        ledger.append_many(
            [Submission(record=record_of("2020-01-01T00:00:00.000Z"), payload=PAYLOAD)]
            + [Submission(record=record_of("2020-01-01T00:00:00.000Z"), payload=PAYLOAD) for _ in range(299)]
        )
        assert len(sweep(ledger, self.YEAR, self.NOW)) == 300
        told = list(ledger.between("2020", "2999", RecordKind.ERASURE))
        assert [len(each.record.facts["erased"]) for each in told] == [256, 44]
        assert ledger.fsck() == 302


def test_profiles_join_to_the_longest_floor_and_the_shortest_ceiling_above_it() -> None:
    short = Retention(name="a", keep_days=0, erase_days=30, review_by=date(2027, 1, 1))
    long = Retention(name="b", keep_days=184, erase_days=365, review_by=date(2026, 12, 1))
    assert short.join(long) == Retention(name="a+b", keep_days=184, erase_days=184, review_by=date(2026, 12, 1))
    joined = load_retention(["eu", "cn"])
    assert (joined.name, joined.keep_days, joined.erase_days) == ("eu+cn", 184, 365)


def test_a_profile_past_its_day_of_review_erases_nothing(tmp_path: Path) -> None:
    stale = Retention(name="eu", keep_days=0, erase_days=1, review_by=date(2026, 11, 1))
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.append(record_of("2020-01-01T00:00:00.000Z"), PAYLOAD)
        with pytest.raises(PolicyError, match="was to be reviewed"):
            sweep(ledger, stale, datetime(2026, 11, 2, tzinfo=UTC))
        assert len(sweep(ledger, stale, datetime(2026, 11, 1, 23, tzinfo=UTC))) == 1


def test_what_must_be_kept_is_not_erased_on_request() -> None:
    kept = Retention(name="cn", keep_days=184, erase_days=365, review_by=date(2027, 1, 1))
    now = datetime(2026, 11, 24, tzinfo=UTC)
    check_erasable("2026-05-24T00:00:00.000Z", kept, now)
    with pytest.raises(LedgerError, match="must be kept for 184 days"):
        check_erasable("2026-05-24T00:00:00.001Z", kept, now)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("id: x\nreview_by: 2027-01-01\n", "`retention` is missing"),
        ("id: x\nreview_by: 2027-01-01\nretention: {keep_days: 9, erase_days: 8, source: s}\n", "shorter"),
        ("id: x\nreview_by: 2027-01-01\nretention: {erase_days: 0, source: s}\n", "out of range"),
        ("id: x\nreview_by: 2027-01-01\nretention: {erase_days: 8}\n", "`source` is missing"),
        ("id: x\nreview_by: 2027-01-01\nretention: {erase_days: 8, source: s, keep: 1}\n", "unknown key"),
        ("id: x\nretention: {erase_days: 8, source: s}\n", "`review_by` is missing"),
    ],
)
def test_a_profile_that_does_not_load_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=complaint):
        load_retention([path])
    with pytest.raises(PolicyError, match="no jurisdiction"):
        load_retention(["atlantis"])


class TestHistory:
    def test_growth_is_proven_from_every_earlier_checkpoint(self, ledger: Ledger) -> None:
        notes = [ledger.checkpoint()]
        for _ in range(9):
            notes.append(ledger.append(record_of()).checkpoint)
        verifier = NoteVerifier.from_vkey(ledger.vkey)
        new = Checkpoint.parse(verifier.verify(ledger.checkpoint()))
        assert ledger.prove_consistency(notes[0]) == ()
        for note in notes[1:]:
            old = Checkpoint.parse(verifier.verify(note))
            assert consistent(old.size, old.root, new.size, new.root, ledger.prove_consistency(note))

    def test_a_checkpoint_of_another_history_is_not_continued(self, ledger: Ledger, tmp_path: Path) -> None:
        key = LogKey.load_or_create(ledger._folder, "guardrails.local/log")
        ledger.append(record_of())
        with Ledger.open(tmp_path / "fork", signer=key) as fork:
            for size in (1, 2):
                foreign = fork.append(record_of()).checkpoint
                with pytest.raises(LedgerCorrupt, match=f"tree of {size}"):
                    ledger.prove_consistency(foreign)

    def test_a_restored_backup_is_refused(
        self, open_ledger: Callable[..., Ledger], database: str, tmp_path: Path
    ) -> None:
        folder = tmp_path / "ledger"
        with open_ledger() as ledger:
            ledger.append(record_of())
        tables = ("records", "staging", "leaves", "tiles", "payloads", "releases", "checkpoint")
        if database:
            with psycopg.connect(database) as connection:
                for table in tables:
                    connection.execute(f"CREATE TABLE public.{table} AS TABLE guardrails_ledger.{table}")
        else:
            shutil.copy(folder / "ledger.db", tmp_path / "older.db")
        with open_ledger() as ledger:
            ledger.append(record_of())
        if database:
            with psycopg.connect(database) as connection:
                for table in tables:
                    connection.execute(f"TRUNCATE guardrails_ledger.{table}")
                    connection.execute(
                        f"INSERT INTO guardrails_ledger.{table} OVERRIDING SYSTEM VALUE TABLE public.{table}"
                    )
        else:
            shutil.copy(tmp_path / "older.db", folder / "ledger.db")
        for options in ({}, {"create": False}, {"merges": False}):
            with pytest.raises(LedgerCorrupt, match="has 1 records, but 2 were signed for"):
                open_ledger(**options)

    def test_an_emptied_database_is_not_begun_anew(
        self, open_ledger: Callable[..., Ledger], database: str, tmp_path: Path
    ) -> None:
        with open_ledger() as ledger:
            ledger.append(record_of())
        if database:
            with psycopg.connect(database) as connection:
                connection.execute("DROP SCHEMA guardrails_ledger CASCADE")
        else:
            (tmp_path / "ledger" / "ledger.db").unlink()
        with pytest.raises(LedgerCorrupt, match="checkpoint") as caught:
            open_ledger()
        assert "restore" in caught.value.hint


def test_a_period_gives_its_records_in_order(ledger: Ledger) -> None:
    days = [f"2026-11-{day:02}T10:00:00.000Z" for day in range(1, 6)]
    kinds = [RecordKind.GENERATION, RecordKind.REVIEW, RecordKind.APPEAL, RecordKind.TAKEDOWN, RecordKind.KEY_CHANGE]
    records = [record_of(day, kind) for day, kind in zip(days, kinds, strict=True)]
    ledger.append_many([Submission(record=record) for record in reversed(records)])
    found = [logged.record for logged in ledger.between("2026-11-02", "2026-11-05")]
    assert found == list(reversed(records[1:4]))
    assert [logged.record for logged in ledger.between("2026", "2027", RecordKind.APPEAL)] == [records[2]]
