"""The ledger: durable appends, releases and recovery, look-ups, and every tampering that must be noticed."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails import files
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import KeyMaterialError, LedgerCorrupt, LedgerError, StorageError
from guardrails.ledger import log as log_module
from guardrails.ledger import sqlite as sqlite_module
from guardrails.ledger.entries import Names, decode_entry, encode_entry, named_payload
from guardrails.ledger.log import Ledger, RecoveryOutcome
from guardrails.ledger.merkle import verify_inclusion
from guardrails.ledger.notes import Checkpoint, NoteVerifier
from guardrails.ledger.offline import leaf_hash

POLICY = PolicyRef(id="default", version="1", digest="ab" * 32)


def record_of(image: bytes = b"", kind: RecordKind = RecordKind.GENERATION) -> Record:
    identity = ImageId.new()
    return Record(
        id=str(identity),
        kind=kind,
        created_at="2026-11-24T08:00:00.000Z",
        policy=POLICY,
        mark_id=identity.mark_id,
        manifest_id=identity.urn,
        image_sha256=hashlib.sha256(image or identity.value.bytes).hexdigest(),
        commitments={"prompt": "cd" * 32},
        facts={"psnr": 45.25, "seed": 7, "nested": {"list": [1, None, "\u00e9"]}},
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened


@pytest.fixture
def filled(tmp_path: Path) -> list[Record]:
    """A closed ledger in tmp_path/"ledger" with these five records."""
    records = [record_of() for _ in range(5)]
    with Ledger.open(tmp_path / "ledger") as opened:
        for record in records:
            opened.append(record, {"prompt": "a red fox"})
    return records


def sql(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "ledger.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_what_is_appended_is_found_again_by_each_of_its_names(ledger: Ledger) -> None:
    records = [record_of() for _ in range(9)]
    for record in records:
        ledger.append(record, {"prompt": "a red fox", "salts": {"prompt": "00"}})
    assert len(ledger) == 9
    for index, record in enumerate(records):
        logged = ledger.find_by_id(record.id)
        assert logged is not None
        assert (logged.index, logged.record) == (index, record)
        assert ledger.payload(record.id) == {"prompt": "a red fox", "salts": {"prompt": "00"}}
        assert ledger.find_by_mark(record.mark_id) == logged
        assert ledger.find_by_manifest(record.manifest_id) == logged
        assert ledger.find_by_image(record.image_sha256) == logged
        assert ledger.verify_record(logged).index == index
    assert ledger.fsck() == 9


def test_unknown_and_empty_names_find_nothing(ledger: Ledger) -> None:
    ledger.append(
        dataclasses.replace(record_of(), kind=RecordKind.REFUSAL, mark_id="", manifest_id="", image_sha256="")
    )
    assert ledger.find_by_id("nothing") is None
    for find in (ledger.find_by_mark, ledger.find_by_manifest, ledger.find_by_image):
        assert find("") is None
        assert find("0123456789abcdef") is None


def test_the_first_record_of_a_mark_is_the_one_that_counts(ledger: Ledger) -> None:
    first = record_of()
    ledger.append(first)
    ledger.append(dataclasses.replace(record_of(), mark_id=first.mark_id))
    found = ledger.find_by_mark(first.mark_id)
    assert found is not None
    assert found.record.id == first.id


def test_a_receipt_proves_its_record_with_the_public_key_alone(ledger: Ledger) -> None:
    verifier = NoteVerifier.from_vkey(ledger.vkey)
    for size in range(1, 12):
        record = record_of()
        receipt = ledger.append(record)
        checkpoint = Checkpoint.parse(verifier.verify(receipt.checkpoint))
        assert (receipt.index, checkpoint.size, checkpoint.origin) == (size - 1, size, "guardrails.local/log")
        assert receipt.leaf_hash == leaf_hash(encode_entry(record))
        assert receipt.checkpoint == ledger.checkpoint()
        proof = ledger.prove(receipt.index)
        assert proof.root == checkpoint.root
        assert verify_inclusion(proof)
    with pytest.raises(LedgerError, match="no leaf 11"):
        ledger.prove(11)


def test_the_log_goes_on_after_it_was_closed(filled: list[Record], tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger") as ledger:
        assert ledger.append(record_of()).index == 5
        assert ledger.fsck() == 6


def test_an_id_is_recorded_once(ledger: Ledger) -> None:
    record = record_of()
    ledger.append(record)
    with pytest.raises(LedgerError, match="already in the ledger"):
        ledger.append(record)
    assert ledger.fsck() == 1


def test_a_record_without_a_json_form_leaves_no_trace(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ledger.append(dataclasses.replace(record_of(), facts={"score": float("nan")}))
    with pytest.raises(TypeError, match="JSON"):
        ledger.append(record_of(), {"picture": object()})
    assert len(ledger) == 0
    assert ledger.append(record_of()).index == 0
    assert ledger.fsck() == 1


def test_entries_read_back_as_the_record_they_were_made_of() -> None:
    record = dataclasses.replace(
        record_of(), facts={"float": 1e20, "large": 2.0**53, "int": 2**53 - 1, "text": "\u00e9"}
    )
    entry = encode_entry(record)
    assert decode_entry(entry) == (record, "")
    bound = encode_entry(record, "ef" * 32)
    assert decode_entry(bound) == (record, "ef" * 32)
    assert encode_entry(*decode_entry(bound)) == bound != entry
    assert b"fox" not in entry
    for damaged in (
        b"{}",
        b"[1]",
        b"no json",
        entry.replace(b'"v":2', b'"v":3'),
        entry.replace(b"generation", b"other"),
    ):
        with pytest.raises(LedgerCorrupt):
            decode_entry(damaged)


# A busy machine may keep one example waiting.
@settings(deadline=None)
@given(st.lists(st.text(max_size=8), min_size=6, max_size=6), st.integers(0, 5), st.text(max_size=8))
def test_the_names_that_an_entry_says_are_told_without_decoding_it(names: list[str], place: int, other: str) -> None:
    record_id, created_at, mark_id, manifest_id, image_sha256, fact = names
    record = Record(
        id=record_id,
        kind=RecordKind.GENERATION,
        created_at=created_at,
        policy=dataclasses.replace(POLICY, version=fact),
        mark_id=mark_id,
        manifest_id=manifest_id,
        image_sha256=image_sha256,
        commitments={fact: '},"created_at":"'},
        # What stands in the facts must not pass for what stands at the top.
        facts={"id": other, "mark_id": other, "z": {"payload": other, "created_at": other, "policy": fact}},
    )
    said = Names.of(record)
    entry = encode_entry(record, "ab" * 32)
    assert named_payload(entry, said) == "ab" * 32
    assert named_payload(encode_entry(record), said) == ""
    changed = Names(*(other if index == place else name for index, name in enumerate(said)))
    assert named_payload(entry, changed) == ("ab" * 32 if changed == said else None)


class TestRelease:
    def stage(self, tmp_path: Path, data: bytes = b"picture") -> tuple[Record, Path, Path]:
        return record_of(data), files.stage(tmp_path / "out", data), tmp_path / "out" / "picture.png"

    def test_a_file_gets_its_name_only_after_its_record(self, ledger: Ledger, tmp_path: Path) -> None:
        record, staged, final = self.stage(tmp_path)
        ledger.append(record, release=(staged, final))
        assert not final.exists()
        ledger.finish_release(record.id)
        assert final.read_bytes() == b"picture"
        assert not staged.exists()
        ledger.finish_release(record.id)
        assert ledger.recover() == []

    def test_a_crash_before_the_rename_is_finished_by_recovery(self, ledger: Ledger, tmp_path: Path) -> None:
        record, staged, final = self.stage(tmp_path)
        ledger.append(record, release=(staged, final))
        with Ledger.open(tmp_path / "ledger") as other:
            recovery = other.recover()
            assert [(r.record_id, r.outcome, r.path) for r in recovery] == [
                (record.id, RecoveryOutcome.PUBLISHED, final)
            ]
            assert other.recover() == []
        assert final.read_bytes() == b"picture"
        ledger.finish_release(record.id)
        assert ledger.fsck() == 1

    def test_images_staged_in_the_ledgers_own_folder_survive_its_opening(self, ledger: Ledger, tmp_path: Path) -> None:
        recorded, not_yet = (files.stage(tmp_path / "ledger", data) for data in (b"picture", b"other"))
        final = tmp_path / "ledger" / "picture.png"
        ledger.append(record_of(b"picture"), release=(recorded, final))
        with Ledger.open(tmp_path / "ledger") as other:
            assert [r.outcome for r in other.recover()] == [RecoveryOutcome.PUBLISHED]
        assert (final.read_bytes(), not_yet.read_bytes()) == (b"picture", b"other")

    def test_a_crash_after_the_rename_only_closes_the_books(self, ledger: Ledger, tmp_path: Path) -> None:
        record, staged, final = self.stage(tmp_path)
        ledger.append(record, release=(staged, final))
        files.publish(staged, final)
        assert [r.outcome for r in ledger.recover()] == [RecoveryOutcome.ALREADY_PUBLISHED]
        assert (ledger.recover(), ledger.fsck()) == ([], 1)

    @pytest.mark.parametrize("damage", ["gone", "torn"])
    def test_an_image_that_is_gone_or_torn_is_never_published_and_recorded_as_lost(
        self, ledger: Ledger, tmp_path: Path, damage: str
    ) -> None:
        record, staged, final = self.stage(tmp_path)
        ledger.append(record, release=(staged, final))
        if damage == "gone":
            staged.unlink()
        else:
            staged.write_bytes(b"pict")
        assert [r.outcome for r in ledger.recover()] == [RecoveryOutcome.LOST]
        assert not final.exists()
        loss = ledger.prove(1)
        assert verify_inclusion(loss)
        lost = ledger.find_by_id(str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:guardrails:loss:{record.id}")))
        assert lost is not None
        assert lost.record.kind is RecordKind.LOSS
        assert lost.record.facts == {"lost_record": record.id}
        with pytest.raises(LedgerError, match="recorded as lost"):
            ledger.finish_release(record.id)
        assert (ledger.recover(), ledger.fsck()) == ([], 2)

    def test_a_release_needs_its_file_and_its_digest(self, ledger: Ledger, tmp_path: Path) -> None:
        record, staged, final = self.stage(tmp_path)
        with pytest.raises(LedgerError, match="not there"):
            ledger.append(record, release=(staged.with_name("nothing"), final))
        with pytest.raises(LedgerError, match="without its digest"):
            ledger.append(dataclasses.replace(record, image_sha256=""), release=(staged, final))
        with pytest.raises(LedgerError, match="no record"):
            ledger.finish_release(record.id)
        assert len(ledger) == 0


class TestTampering:
    """Someone edits the database with ordinary tools and without the log's key."""

    @staticmethod
    def assert_noticed_by_fsck(folder: Path) -> None:
        with pytest.raises(LedgerCorrupt), Ledger.open(folder, create=False) as ledger:
            ledger.fsck()

    def test_a_changed_entry_is_noticed_when_it_is_verified(self, filled: list[Record], tmp_path: Path) -> None:
        folder = tmp_path / "ledger"
        sql(folder, "UPDATE records SET entry = CAST(replace(entry, '45.25', '99.25') AS BLOB) WHERE seq = 3")
        with Ledger.open(folder) as ledger:
            logged = ledger.find_by_id(filled[2].id)
            assert logged is not None
            with pytest.raises(LedgerCorrupt, match="index 2 is not what was logged"):
                ledger.verify_record(logged)
            untouched = ledger.find_by_id(filled[3].id)
            assert untouched is not None
            ledger.verify_record(untouched)
        self.assert_noticed_by_fsck(folder)

    def test_a_changed_entry_with_a_matching_leaf_hash_is_noticed(self, filled: list[Record], tmp_path: Path) -> None:
        folder = tmp_path / "ledger"
        forged = dataclasses.replace(filled[2], facts={"psnr": 99})
        with Ledger.open(folder) as ledger:
            logged = ledger.find_by_index(2)
            assert logged is not None
            entry = encode_entry(forged, logged.payload_sha256)
            tile = bytearray(ledger._store.tile(0, 0))
            tile[2 * 32 : 3 * 32] = leaf_hash(entry)
            sql(folder, f"UPDATE records SET entry = x'{entry.hex()}' WHERE seq = 3")
            sql(folder, f"UPDATE tiles SET hashes = x'{tile.hex()}'")
            logged = ledger.find_by_id(filled[2].id)
            assert logged is not None
            assert logged.record == forged
            with pytest.raises(LedgerCorrupt):
                ledger.verify_record(logged)
            with pytest.raises(LedgerCorrupt):
                ledger.append(record_of())
        self.assert_noticed_by_fsck(folder)

    @pytest.mark.parametrize(
        "statements",
        [
            ["DELETE FROM leaves WHERE idx = 4"],
            ["DELETE FROM leaves WHERE idx = 2"],
            ["DELETE FROM records WHERE seq = 2"],
            [
                "UPDATE leaves SET idx = -1 WHERE idx = 1",
                "UPDATE leaves SET idx = 1 WHERE idx = 2",
                "UPDATE leaves SET idx = 2 WHERE idx = -1",
            ],
            ["UPDATE records SET mark_id = (SELECT mark_id FROM records WHERE seq = 1) WHERE seq = 4"],
            ["UPDATE records SET manifest_id = '' WHERE seq = 4"],
            ["UPDATE records SET image_sha256 = 'other' WHERE seq = 4"],
            ["UPDATE records SET kind = 'refusal' WHERE seq = 4"],
            ["UPDATE records SET created_at = '2026-11-24T08:00:00.001Z' WHERE seq = 4"],
            ["UPDATE records SET record_id = 'another' WHERE seq = 4"],
            ["UPDATE leaves SET idx = 9 WHERE idx = 4"],
            ["UPDATE tiles SET hashes = zeroblob(160)"],
            ["UPDATE tiles SET hashes = CAST(hashes || zeroblob(32) AS BLOB)"],
            ["DELETE FROM tiles"],
            ["INSERT INTO tiles VALUES (1, 0, zeroblob(32))"],
            ["INSERT INTO leaves VALUES (5, 9)"],
            ["INSERT INTO staging SELECT seq + 1 FROM leaves WHERE idx = 4", "DELETE FROM leaves WHERE idx = 4"],
            ["UPDATE payloads SET seq = 77 WHERE seq = 1"],
            ["DELETE FROM payloads WHERE seq = 1"],
            ["UPDATE payloads SET data = NULL, wrapped_key = NULL, erased_by = 'nobody' WHERE seq = 1"],
            ["UPDATE payloads SET data = CAST(data || x'00' AS BLOB) WHERE seq = 1"],
            [
                "UPDATE payloads SET data = (SELECT data FROM payloads WHERE seq = 2),"
                " wrapped_key = (SELECT wrapped_key FROM payloads WHERE seq = 2) WHERE seq = 1"
            ],
            ["INSERT INTO releases VALUES ('nobody', '/a', '/b')"],
            [
                "INSERT INTO records (record_id, kind, created_at, mark_id, manifest_id, image_sha256, entry)"
                " VALUES ('stray', 'refusal', '', '', '', '', x'7b7d')"
            ],
            ["UPDATE checkpoint SET note = replace(note, char(10) || '5' || char(10), char(10) || '4' || char(10))"],
            ["DELETE FROM checkpoint"],
            ["UPDATE records SET entry = CAST(entry AS TEXT) WHERE seq = 1"],
            ["UPDATE tiles SET hashes = 5"],
        ],
    )
    def test_every_edit_of_the_tables_is_noticed(
        self, filled: list[Record], tmp_path: Path, statements: list[str]
    ) -> None:
        with Ledger.open(tmp_path / "ledger", create=False) as ledger:
            assert ledger.fsck() == 5
        sql(tmp_path / "ledger", *statements)
        self.assert_noticed_by_fsck(tmp_path / "ledger")

    @pytest.mark.parametrize("create", [True, False])
    def test_an_older_copy_of_the_database_is_refused(self, tmp_path: Path, create: bool) -> None:
        folder = tmp_path / "ledger"
        with Ledger.open(folder) as ledger:
            ledger.append(record_of())
        shutil.copy(folder / "ledger.db", tmp_path / "older.db")
        with Ledger.open(folder) as ledger:
            ledger.append(record_of())
        shutil.copy(tmp_path / "older.db", folder / "ledger.db")
        with pytest.raises(LedgerCorrupt, match="has 1 records, but 2 were signed for"):
            Ledger.open(folder, create=create)

    def test_another_history_of_the_same_length_by_the_same_key_is_refused(
        self, filled: list[Record], tmp_path: Path
    ) -> None:
        folder, fork = tmp_path / "ledger", tmp_path / "fork"
        fork.mkdir()
        for name in ("log.key", "log.vkey"):
            shutil.copy(folder / name, fork / name)
        with Ledger.open(fork) as ledger:
            for _ in range(6):
                ledger.append(record_of())
        shutil.copy(fork / "ledger.db", folder / "ledger.db")
        with pytest.raises(LedgerCorrupt, match="history is not the one that was signed"):
            Ledger.open(folder)

    def test_a_lost_database_is_not_replaced_by_an_empty_one(self, filled: list[Record], tmp_path: Path) -> None:
        (tmp_path / "ledger" / "ledger.db").unlink()
        with pytest.raises(LedgerCorrupt, match="no database"):
            Ledger.open(tmp_path / "ledger")

    def test_a_missing_or_damaged_checkpoint_file_is_refused(self, filled: list[Record], tmp_path: Path) -> None:
        path = tmp_path / "ledger" / "checkpoint"
        for damaged in (b"", b"\xff\xfe", path.read_bytes().replace(b"\n5\n", b"\n4\n")):
            path.write_bytes(damaged)
            with pytest.raises(LedgerCorrupt):
                Ledger.open(tmp_path / "ledger")
        path.unlink()
        with pytest.raises(LedgerCorrupt, match="is missing"):
            Ledger.open(tmp_path / "ledger")

    def test_a_tree_that_does_not_continue_the_signed_one_is_never_signed(self, ledger: Ledger, tmp_path: Path) -> None:
        for _ in range(3):
            ledger.append(record_of())
        sql(tmp_path / "ledger", "UPDATE tiles SET hashes = zeroblob(96)")
        with pytest.raises(LedgerCorrupt, match="does not give its signed root"):
            ledger.append(record_of())

    def test_the_private_key_is_needed_to_write_and_not_to_read(self, filled: list[Record], tmp_path: Path) -> None:
        (tmp_path / "ledger" / "log.key").unlink()
        with Ledger.open(tmp_path / "ledger", create=False) as ledger:
            assert ledger.fsck() == 5
        with pytest.raises(KeyMaterialError):
            Ledger.open(tmp_path / "ledger")


class TestReading:
    def test_reading_what_is_not_there_is_a_clear_error_and_creates_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerError, match="there is no ledger in") as caught:
            Ledger.open(tmp_path / "nowhere", create=False)
        assert caught.value.hint
        assert list(tmp_path.iterdir()) == []

    def test_a_reader_cannot_write_and_sees_what_a_writer_adds(self, filled: list[Record], tmp_path: Path) -> None:
        with Ledger.open(tmp_path / "ledger", create=False) as reader, Ledger.open(tmp_path / "ledger") as writer:
            with pytest.raises(LedgerError, match="opened for reading"):
                reader.append(record_of())
            record = record_of()
            writer.append(record)
            found = reader.find_by_id(record.id)
            assert found is not None
            reader.verify_record(found)
            assert len(reader) == 6

    def test_a_file_that_is_no_ledger_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        foreign = sqlite3.connect(tmp_path / "ledger.db")
        foreign.execute("CREATE TABLE theirs (x)")
        foreign.commit()
        foreign.close()
        for content in ((tmp_path / "ledger.db").read_bytes(), b"not a database at all" * 100):
            (tmp_path / "ledger.db").write_bytes(content)
            for create in (True, False):
                with pytest.raises(LedgerCorrupt):
                    Ledger.open(tmp_path, create=create)
            assert (tmp_path / "ledger.db").read_bytes() == content

    def test_another_origin_is_refused(self, filled: list[Record], tmp_path: Path) -> None:
        with pytest.raises(LedgerError, match="not 'other/log'"):
            Ledger.open(tmp_path / "ledger", origin="other/log", create=False)
        with pytest.raises(KeyMaterialError):
            Ledger.open(tmp_path / "ledger", origin="other/log")

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
    def test_only_the_owner_can_read_what_holds_prompts(self, tmp_path: Path) -> None:
        with Ledger.open(tmp_path / "ledger") as ledger:
            ledger.append(record_of())
            assert (tmp_path / "ledger").stat().st_mode & 0o077 == 0
            assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "ledger").glob("ledger.db*"))

    def test_a_user_who_was_given_read_access_can_verify(self) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            folder.chmod(0o755)
            record = record_of()
            with Ledger.open(folder / "ledger") as ledger:
                ledger.append(record)
            (folder / "ledger").chmod(0o755)
            for path in (folder / "ledger").glob("*.db*"):
                path.chmod(0o644)

            def verify_as_nobody() -> None:
                os.setuid(65534)
                with Ledger.open(folder / "ledger", create=False) as reader:
                    assert reader.fsck() == 1
                    logged = reader.find_by_id(record.id)
                    assert logged is not None
                    reader.verify_record(logged)
                with pytest.raises(StorageError):
                    Ledger.open(folder / "ledger")

            child = multiprocessing.get_context("fork").Process(target=verify_as_nobody)
            child.start()
            child.join()
            assert child.exitcode == 0
        finally:
            shutil.rmtree(folder)


class TestStorageFaults:
    def test_every_commit_is_flushed_to_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite_module, "SYNCHRONOUS", "FULL")
        with Ledger.open(tmp_path / "ledger") as ledger:
            assert ledger._store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert ledger._store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_full_disk_refuses_the_record_and_the_next_one_goes_through(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger.append(record_of())

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="No space left") as caught:
                ledger.append(record_of())
            assert caught.value.hint
        assert not list((tmp_path / "ledger").rglob(".staged-*"))
        assert ledger.append(record_of()).index == 1
        assert ledger.fsck() == 2

    def test_a_database_that_cannot_grow_refuses_the_record_whole(self, ledger: Ledger, tmp_path: Path) -> None:
        ledger.append(record_of())
        pages = ledger._store._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="full"):
            ledger.append(record_of(), {"prompt": "x" * 100_000})
        assert not list((tmp_path / "ledger").rglob(".staged-*"))
        assert ledger.fsck() == 1

    @pytest.mark.parametrize("step", ["stage", "waiting", "place", "write_tiles", "set_checkpoint"])
    def test_a_fault_at_any_step_leaves_nothing_of_the_record(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        ledger.append(record_of())
        staged = files.stage(tmp_path / "out", b"picture")

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ledger._store, step, fail)
            with pytest.raises(KeyboardInterrupt):
                ledger.append(record_of(b"picture"), {"a": 1}, release=(staged, tmp_path / "out" / "a.png"))
        assert (ledger.recover(), ledger.fsck()) == ([], 1)
        assert ledger.append(record_of()).index == 1
        with Ledger.open(tmp_path / "ledger") as again:
            assert again.fsck() == 2

    def test_a_crash_between_commit_and_checkpoint_file_is_not_taken_for_tampering(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        for size in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(log_module, "publish", crash)
                with pytest.raises(KeyboardInterrupt):
                    ledger.append(record_of())
            with Ledger.open(tmp_path / "ledger") as again:
                assert again.fsck() == size
        assert not list((tmp_path / "ledger").rglob(".staged-*"))

    def test_a_folder_that_cannot_be_made_is_a_storage_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match="cannot write in"):
            Ledger.open(tmp_path / "file" / "ledger")


def test_the_ledger_loads_no_heavy_module() -> None:
    script = (
        "import sys, guardrails.ledger; print([m for m in ('torch', 'scipy', 'numpy', 'pydantic') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_log_that_is_begun_while_it_is_opened_for_reading_is_whole(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, aside = tmp_path / "ledger" / log_module.CHECKPOINT_FILE, tmp_path / "aside"
    # As it is before the first checkpoint gets its name.
    path.rename(aside)
    read = log_module._read_if_there

    def begun_after_the_look(file: Path) -> str | None:
        text = read(file)
        if file == path and aside.exists():
            aside.rename(path)
            ledger.append(record_of())
        return text

    monkeypatch.setattr(log_module, "_read_if_there", begun_after_the_look)
    with Ledger.open(tmp_path / "ledger", create=False) as reader:
        assert len(reader) == 1
