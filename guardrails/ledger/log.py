"""The ledger: append records durably, release files only after them, find them again, and prove them."""

from __future__ import annotations

import enum
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from guardrails.domain.canonical import Json, canonical_json
from guardrails.domain.records import InclusionProof, Receipt, Record, RecordKind
from guardrails.errors import KeyMaterialError, LedgerCorrupt, LedgerError
from guardrails.files import publish, stage, write_atomically
from guardrails.ledger.entries import decode_entry, encode_entry
from guardrails.ledger.merkle import Frontier, inclusion_path, leaf_hash, verify_inclusion
from guardrails.ledger.notes import VKEY_FILE, Checkpoint, LogKey, NoteVerifier
from guardrails.ledger.proofs import format_tlog_proof
from guardrails.ledger.store import DATABASE_FILE, Leaf, PendingRelease, Store

DEFAULT_ORIGIN = "guardrails.local/log"
CHECKPOINT_FILE = "checkpoint"

# Checkpoints are written here before they get their name. A folder of its own, because whatever lies in it when the
# ledger is opened is rubbish, and images may be staged beside the ledger.
_STAGING_FOLDER = "staging"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRecord:
    """A record with its place in the log.

    Attributes:
        index: of the leaf, from 0.
        payload: what was kept beside the record; None when nothing was, or when it has been erased.
    """

    index: int
    record: Record
    payload: Mapping[str, Json] | None


class RecoveryOutcome(enum.Enum):
    """What became of a release that a crash interrupted."""

    PUBLISHED = "published"
    ALREADY_PUBLISHED = "already_published"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One interrupted release and how it ended; `path` is the file's final name."""

    record_id: str
    outcome: RecoveryOutcome
    path: Path


class Ledger:
    """An append-only log in a folder; open it with `Ledger.open`.

    One instance may be shared by threads, and several processes may append to one folder at once.
    """

    def __init__(self, folder: Path, store: Store, verifier: NoteVerifier, key: LogKey | None) -> None:
        self._folder = folder
        self._store = store
        self._verifier = verifier
        self._key = key
        self._verified_note = ""

    @classmethod
    def open(cls, folder: Path, *, origin: str = DEFAULT_ORIGIN, create: bool = True) -> Ledger:
        """Open the ledger in `folder` and check it against its last checkpoint.

        Args:
            origin: the log's name in its checkpoints.
            create: make the ledger when it is not there, and allow writing; False opens for reading only.

        Raises:
            LedgerError: there is no ledger (create=False), or it has another origin.
            LedgerCorrupt: the database is smaller than, or disagrees with, a checkpoint that was signed for it.
            KeyMaterialError: the log's key cannot be used.
            StorageError: the folder cannot be written.
        """
        if create:
            # Without this check a lost database would be replaced by an empty one.
            if (folder / CHECKPOINT_FILE).exists() and not (folder / DATABASE_FILE).exists():
                raise LedgerCorrupt(
                    f"{folder} has a checkpoint but no database", hint="restore ledger.db from a backup"
                )
            store = Store.open_for_writing(folder)
        else:
            store = Store.open_for_reading(folder)
        try:
            if create:
                with store.writing():
                    key = LogKey.load_or_create(folder, origin)
                    ledger = cls(folder, store, key.verifier, key)
                    ledger._begin()
            else:
                ledger = cls(folder, store, _read_verifier(folder, origin), None)
            ledger._check_against_checkpoints()
        except BaseException:
            store.close()
            raise
        return ledger

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._signed_state()[0].size

    @property
    def vkey(self) -> str:
        """The log's public key as a C2SP verifier key."""
        return self._verifier.vkey

    def checkpoint(self) -> str:
        """The latest checkpoint, a signed note over the whole tree."""
        return self._signed_state()[1]

    def append(
        self, record: Record, payload: Mapping[str, Json] | None = None, *, release: tuple[Path, Path] | None = None
    ) -> Receipt:
        """Add one record; durable when this returns.

        Leaf, tree nodes, payload, release and the new signed checkpoint are one transaction.

        Args:
            payload: private, erasable values: the prompt, salts of commitments.
            release: (staged file, final name) of the image, to be published by `finish_release`. `record.image_sha256`
                must be the staged file's digest; recovery relies on it.

        Raises:
            LedgerError: the id is already recorded, a release without its file or digest, or opened for reading.
            LedgerCorrupt: the database disagrees with its last checkpoint; nothing was written.
            StorageError: the disk is full or cannot be written; nothing was written.
        """
        pending = None if release is None else _pending(record, *release)
        with self._store.writing():
            return self._append(record, payload, pending)

    def finish_release(self, record_id: str) -> None:
        """Give the image of a recorded release its final name; does nothing when recovery has done so already.

        Raises:
            LedgerError: no such record, or its file was lost meanwhile.
            StorageError: the file cannot be renamed; the release stays pending.
        """
        with self._store.writing():
            pending = self._store.release(record_id)
            if pending is not None:
                self._publish(pending)
                return
        if self._store.leaf_by_record(record_id) is None:
            raise LedgerError(f"no record {record_id} in the ledger", hint="append the record before its release")
        if self._store.leaf_by_record(_loss_id(record_id)) is not None:
            raise LedgerError(f"the image of record {record_id} is recorded as lost", hint="generate it again")

    def recover(self) -> list[Recovery]:
        """Finish every release that a crash interrupted; safe while other processes work.

        A staged file with the recorded digest is published. A final file with that digest only needs its outbox row
        dropped. Otherwise the image is gone, and a record of kind LOSS says so.
        """
        recoveries = []
        for listed in self._store.releases():
            with self._store.writing():
                # Its own process may have finished it since the list was made.
                pending = self._store.release(listed.record_id)
                if pending is not None:
                    recoveries.append(self._recover(pending))
        return recoveries

    def staged_files(self) -> frozenset[Path]:
        """Absolute paths of recorded images that still wait for their final name."""
        return frozenset(pending.staged for pending in self._store.releases())

    def find_by_id(self, record_id: str) -> LoggedRecord | None:
        """The record with this id, or None."""
        return self._logged(self._store.leaf_by_record(record_id))

    def find_by_index(self, index: int) -> LoggedRecord | None:
        """The record at this place of the log, or None."""
        return self._logged(self._store.leaf_by_index(index)) if 0 <= index < len(self) else None

    def find_by_mark(self, mark_id: str) -> LoggedRecord | None:
        """The first record of an image that carries this watermark payload id (16 hexadecimal digits), or None."""
        return self._logged(self._store.leaf_by_mark(mark_id))

    def find_by_manifest(self, manifest_id: str) -> LoggedRecord | None:
        """The first record of an image with this manifest ("urn:c2pa:<uuid>"), or None."""
        return self._logged(self._store.leaf_by_manifest(manifest_id))

    def find_by_image(self, image_sha256: str) -> LoggedRecord | None:
        """The first record of a file with these very bytes (SHA-256, hexadecimal), or None."""
        return self._logged(self._store.leaf_by_image(image_sha256))

    def prove(self, index: int) -> InclusionProof:
        """That the leaf at `index` is in the tree of the latest checkpoint.

        Raises:
            LedgerError: there is no such leaf.
        """
        checkpoint, _ = self._signed_state()
        if not 0 <= index < checkpoint.size:
            raise LedgerError(f"no leaf {index} in a log of {checkpoint.size}", hint="use the index of a receipt")
        return InclusionProof(
            index=index,
            size=checkpoint.size,
            leaf_hash=self._store.node(0, index),
            root=checkpoint.root,
            path=inclusion_path(index, checkpoint.size, self._store.node),
        )

    def tlog_proof(self, index: int) -> str:
        """That the leaf at `index` is in the tree of the latest checkpoint, as a text that is checked without the log.

        Raises:
            LedgerError: there is no such leaf.
        """
        with self._store.snapshot():
            return format_tlog_proof(self.prove(index), self.checkpoint())

    def verify_record(self, logged: LoggedRecord) -> InclusionProof:
        """Check one record against the signed checkpoint, trusting nothing stored with it.

        1. The latest checkpoint carries a right signature by the log's key.
        2. The record's canonical bytes are hashed anew.
        3. An inclusion proof leads from that hash, at the record's index, to the signed root.

        Returns:
            The proof.

        Raises:
            LedgerCorrupt: any of these fails.
        """
        checkpoint, _ = self._signed_state()  # 1
        leaf = leaf_hash(encode_entry(logged.record))  # 2
        if not 0 <= logged.index < checkpoint.size:
            raise LedgerCorrupt(
                f"record {logged.record.id} lies outside the signed tree", hint="run fsck on the ledger"
            )
        proof = InclusionProof(  # 3
            index=logged.index,
            size=checkpoint.size,
            leaf_hash=leaf,
            root=checkpoint.root,
            path=inclusion_path(logged.index, checkpoint.size, self._store.node),
        )
        if not verify_inclusion(proof):
            raise LedgerCorrupt(
                f"record {logged.record.id} at index {logged.index} is not what was logged",
                hint="run fsck on the ledger",
            )
        return proof

    def fsck(self) -> int:
        """Walk the whole log and recompute everything.

        1. The checkpoints are signed, and agree with the tree (as on opening).
        2. Indexes are gapless; every leaf hash is that of its entry; the columns to search by repeat the entry.
        3. Every tree node is what its children give, and there are no others.
        4. The recomputed root is the signed one.
        5. No payload or release without a record.

        Returns:
            The number of leaves.

        Raises:
            LedgerCorrupt: names the first thing that is wrong.
        """
        self._check_against_checkpoints()  # 1
        with self._store.snapshot():
            checkpoint, _ = self._signed_state()
            frontier, nodes_above = Frontier(), 0
            for leaf in self._store.all_leaves():
                _check_leaf(leaf, frontier.size)  # 2
                _, *above = frontier.append(leaf.leaf_hash)
                for level, index, node in above:  # 3
                    if self._store.node(level, index) != node:
                        raise LedgerCorrupt(f"tree node {level}/{index} is wrong", hint="restore from a backup")
                nodes_above += len(above)
            if self._store.node_count() != nodes_above:
                raise LedgerCorrupt("the tree has nodes that no leaf explains", hint="restore from a backup")
            if (frontier.size, frontier.root()) != (checkpoint.size, checkpoint.root):  # 4
                raise LedgerCorrupt("the leaves do not give the signed root", hint="restore from a backup")
            strays = self._store.strays()  # 5
        if strays:
            raise LedgerCorrupt(f"payload or release without a record: {strays[0]}", hint="restore from a backup")
        return frontier.size

    def _begin(self) -> None:
        """Clear what a crash left half written, and sign the empty tree of a new ledger."""
        assert self._key is not None
        for leftover in (self._folder / _STAGING_FOLDER).glob("*"):
            leftover.unlink(missing_ok=True)
        if self._store.checkpoint() is None:
            empty = Checkpoint(origin=self._verifier.name, size=0, root=Frontier().root())
            with self._store.transaction():
                self._store.set_checkpoint(self._key.sign(empty.body))
        path = self._folder / CHECKPOINT_FILE
        checkpoint, note = self._signed_state()
        if checkpoint.size == 0 and not path.exists():
            write_atomically(path, note.encode())

    def _append(
        self, record: Record, payload: Mapping[str, Json] | None, pending: PendingRelease | None, settles: str = ""
    ) -> Receipt:
        """Write one record; `settles` names the release that it closes. The caller holds the write lock."""
        assert self._key is not None
        if self._store.leaf_by_record(record.id) is not None:
            raise LedgerError(f"record {record.id} is already in the ledger", hint="give each image its own id")
        frontier = self._frontier_as_signed()
        entry = encode_entry(record)
        leaf = _leaf(record, entry, frontier.size)
        _, *nodes = frontier.append(leaf.leaf_hash)
        checkpoint = Checkpoint(origin=self._verifier.name, size=frontier.size, root=frontier.root())
        note = self._key.sign(checkpoint.body)
        # Staged before the commit, renamed after it: a full disk shows while nothing is recorded yet, and the file
        # can never be ahead of the database.
        staged = stage(self._folder / _STAGING_FOLDER, note.encode())
        try:
            with self._store.transaction():
                self._store.insert_leaf(leaf)
                self._store.insert_nodes(nodes)
                if payload:
                    self._store.insert_payload(record.id, canonical_json(payload))
                if pending is not None:
                    self._store.insert_release(pending)
                if settles:
                    self._store.delete_release(settles)
                self._store.set_checkpoint(note)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        publish(staged, self._folder / CHECKPOINT_FILE)
        self._verified_note = note
        return Receipt(record_id=record.id, index=leaf.index, leaf_hash=leaf.leaf_hash, checkpoint=note)

    def _frontier_as_signed(self) -> Frontier:
        """The tree's right edge; a log must never sign a tree that does not continue the one it signed before."""
        checkpoint, _ = self._signed_state()
        size = self._store.size()
        if size != checkpoint.size:
            raise LedgerCorrupt(
                f"the ledger has {size} records, its checkpoint {checkpoint.size}", hint="restore from a backup"
            )
        frontier = Frontier.read(size, self._store.node)
        if frontier.root() != checkpoint.root:
            raise LedgerCorrupt("the ledger's tree does not give its signed root", hint="run fsck on the ledger")
        return frontier

    def _publish(self, pending: PendingRelease) -> None:
        publish(pending.staged, pending.final)
        self._drop(pending)

    def _drop(self, pending: PendingRelease) -> None:
        with self._store.transaction():
            self._store.delete_release(pending.record_id)

    def _recover(self, pending: PendingRelease) -> Recovery:
        logged = self.find_by_id(pending.record_id)
        if logged is None:
            raise LedgerCorrupt(f"release without a record: {pending.record_id}", hint="run fsck on the ledger")
        expected = logged.record.image_sha256
        if _sha256_of(pending.staged) == expected:
            self._publish(pending)
            outcome = RecoveryOutcome.PUBLISHED
        elif _sha256_of(pending.final) == expected:
            self._drop(pending)
            outcome = RecoveryOutcome.ALREADY_PUBLISHED
        else:
            self._append(_loss(logged.record), None, None, settles=pending.record_id)
            outcome = RecoveryOutcome.LOST
        return Recovery(record_id=pending.record_id, outcome=outcome, path=pending.final)

    def _logged(self, leaf: Leaf | None) -> LoggedRecord | None:
        if leaf is None:
            return None
        payload = self._store.payload(leaf.record_id)
        return LoggedRecord(
            index=leaf.index,
            record=decode_entry(leaf.entry),
            payload=None if payload is None else json.loads(payload),
        )

    def _signed_state(self) -> tuple[Checkpoint, str]:
        """The database's checkpoint, its signature checked, and the note it came in."""
        note = self._store.checkpoint()
        if note is None:
            raise LedgerCorrupt("the ledger has no checkpoint", hint="restore ledger.db from a backup")
        if note == self._verified_note:
            # This very text was verified, or signed, by this instance.
            body = note[: note.rindex("\n\n") + 1]
        else:
            body = self._verifier.verify(note)
            self._verified_note = note
        checkpoint = Checkpoint.parse(body)
        if checkpoint.origin != self._verifier.name:
            raise LedgerCorrupt(f"the checkpoint is of another log: {checkpoint.origin}", hint="restore from a backup")
        return checkpoint, note

    def _check_against_checkpoints(self) -> None:
        """Compare the tree with the two checkpoints: in the database and in the file.

        1. Read the file first; a writer brings the database forward before the file, never after it.
        2. The database's checkpoint is signed and is that of its tree.
        3. The file is missing only while the log is empty.
        4. The file's checkpoint is signed, not larger, and the tree had its root at its size.
        """
        path = self._folder / CHECKPOINT_FILE
        kept_note = _read_if_there(path)  # 1
        with self._store.snapshot():
            current = self._frontier_as_signed()  # 2
            if kept_note is None:  # 3
                if current.size > 0:
                    raise LedgerCorrupt(
                        f"{path} is missing", hint="restore it, or compare the log with a published checkpoint"
                    )
                return
            kept = Checkpoint.parse(self._verifier.verify(kept_note))  # 4
            if kept.size > current.size:
                raise LedgerCorrupt(
                    f"the ledger has {current.size} records, but {kept.size} were signed for",
                    hint="ledger.db was replaced by an older copy; restore the newest one",
                )
            if Frontier.read(kept.size, self._store.node).root() != kept.root:
                raise LedgerCorrupt("the ledger's history is not the one that was signed", hint="restore from a backup")


def _read_verifier(folder: Path, origin: str) -> NoteVerifier:
    text = _read_if_there(folder / VKEY_FILE)
    if text is None:
        raise KeyMaterialError(f"{folder / VKEY_FILE} is missing", hint="restore the log's public key from a backup")
    verifier = NoteVerifier.from_vkey(text)
    if verifier.name != origin:
        raise LedgerError(
            f"{folder} holds the log {verifier.name!r}, not {origin!r}", hint=f"use origin {verifier.name!r}"
        )
    return verifier


def _read_if_there(path: Path) -> str | None:
    try:
        # Bytes that are no UTF-8 cannot carry a right signature; they fail there, as everything else does.
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"cannot read {path}: {error.strerror or error}", hint="check its permissions") from error


def _pending(record: Record, staged: Path, final: Path) -> PendingRelease:
    if not record.image_sha256:
        raise LedgerError(f"record {record.id} releases a file without its digest", hint="set image_sha256")
    if not staged.is_file():
        raise LedgerError(f"the staged image {staged} is not there", hint="stage the image before recording it")
    return PendingRelease(record_id=record.id, staged=staged, final=final)


def _leaf(record: Record, entry: bytes, index: int) -> Leaf:
    return Leaf(
        index=index,
        leaf_hash=leaf_hash(entry),
        entry=entry,
        record_id=record.id,
        mark_id=record.mark_id,
        manifest_id=record.manifest_id,
        image_sha256=record.image_sha256,
    )


def _check_leaf(leaf: Leaf, expected_index: int) -> None:
    if leaf.index != expected_index:
        raise LedgerCorrupt(f"leaf {expected_index} is missing", hint="restore from a backup")
    if leaf != _leaf(decode_entry(leaf.entry), leaf.entry, leaf.index):
        raise LedgerCorrupt(f"leaf {leaf.index} was changed", hint="restore from a backup")


def _loss(record: Record) -> Record:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Record(
        id=_loss_id(record.id),
        kind=RecordKind.LOSS,
        created_at=now,
        policy=record.policy,
        facts={"lost_record": record.id},
    )


def _loss_id(record_id: str) -> str:
    """One fixed id per lost record, so that a loss is recorded once and can be looked up."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:guardrails:loss:{record_id}"))


def _sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal; "" when it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
