"""The ledger: append records durably, release files only after them, find them again, prove them, and erase."""

from __future__ import annotations

import enum
import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from guardrails.domain.canonical import Json, canonical_json
from guardrails.domain.records import InclusionProof, Receipt, Record, RecordKind
from guardrails.errors import KeyMaterialError, LedgerCorrupt, LedgerError
from guardrails.files import publish, stage, sync_folder, write_atomically
from guardrails.ledger.entries import Names, decode_entry, encode_entry
from guardrails.ledger.groups import GroupCommit
from guardrails.ledger.merkle import consistency_path, inclusion_path, verify_inclusion
from guardrails.ledger.notes import VKEY_FILE, Checkpoint, LogKey, NoteSigner, NoteVerifier
from guardrails.ledger.offline import EMPTY_ROOT, leaf_hash
from guardrails.ledger.payloads import PayloadKey
from guardrails.ledger.proofs import format_tlog_proof
from guardrails.ledger.receipts import issue_receipt, now, read_receipt
from guardrails.ledger.sqlite import DATABASE_FILE, SqliteStore
from guardrails.ledger.store import Leaf, NewRecord, PendingRelease, Store
from guardrails.ledger.tiles import TileTree
from guardrails.ledger.walk import walk

DEFAULT_ORIGIN = "guardrails.local/log"
CHECKPOINT_FILE = "checkpoint"

# What a receipt promises, in seconds; a sequencer that runs at all keeps it many times over.
MAX_MERGE_DELAY = 5
# Leaves per merge: its transaction holds up SQLite's other writers for tens of milliseconds.
LARGEST_MERGE = 4096

_SEQUENCER = "sequencer"
# Checkpoints are written here before they get their name. A folder of its own, because whatever lies in it when the
# ledger is opened is rubbish, and images may be staged beside the ledger.
_STAGING_FOLDER = "staging"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRecord:
    """A record with its place in the log.

    Attributes:
        index: of the leaf, from 0.
        payload_sha256: digest of the encrypted payload that was kept beside it; "" when there was none.
    """

    index: int
    record: Record
    payload_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is asked to be recorded.

    Attributes:
        payload: private, erasable values: the prompt, salts of commitments, thumbnails as base64; kept encrypted.
        release: (staged file, final name) of the image, to be published by `finish_release`. `record.image_sha256`
            must be the staged file's digest; recovery relies on it.
    """

    record: Record
    payload: Mapping[str, Json] | None = None
    release: tuple[Path, Path] | None = None


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
    """An append-only log; open it with `Ledger.open`.

    One instance may be shared by threads, and several processes may append to one log at once.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        verifier: NoteVerifier,
        *,
        signer: NoteSigner | None,
        payload_key: PayloadKey | None,
        merges: bool,
    ) -> None:
        self._folder = folder
        self._store = store
        self._verifier = verifier
        self._signer = signer
        self._payload_key = payload_key
        self._merges = merges
        self._verified_note = ""
        self._write_group = GroupCommit(self._write)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        database: str = "",
        origin: str = DEFAULT_ORIGIN,
        create: bool = True,
        merges: bool = True,
        signer: NoteSigner | None = None,
    ) -> Ledger:
        """Open a ledger and check it against its last checkpoint.

        Args:
            folder: of the keys and the last checkpoint; of the database too, unless `database` is given.
            database: address of a PostgreSQL database, for many workers; "" is SQLite in the folder.
            origin: the log's name in its checkpoints.
            create: make the ledger when it is not there, and allow writing; False opens for reading only.
            merges: `append` also gives the record its place, so that the receipt has an index; False leaves that to a
                `Sequencer` and answers as soon as the record is durable.
            signer: signs checkpoints and receipts; the key in the folder, made on first use, when omitted.

        Raises:
            LedgerError: there is no ledger (create=False), or it has another origin.
            LedgerCorrupt: the database is smaller than, or disagrees with, a checkpoint that was signed for it.
            KeyMaterialError: the log's key cannot be used.
            StorageError: the folder cannot be written, or the database cannot be reached.
        """
        store = _open_store(folder, database, create=create)
        try:
            if create:
                with store.lock(_SEQUENCER):
                    signer = signer or LogKey.load_or_create(folder, origin)
                    key = PayloadKey.load_or_create(folder)
                    ledger = cls(folder, store, signer.verifier, signer=signer, payload_key=key, merges=merges)
                    ledger._begin()
            else:
                verifier = _read_verifier(folder, origin)
                ledger = cls(folder, store, verifier, signer=None, payload_key=None, merges=False)
            ledger._check_against_checkpoints()
        except BaseException:
            store.close()
            raise
        return ledger

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a ledger was begun whose keys and last checkpoint are in this folder, wherever its records are."""
        return (folder / CHECKPOINT_FILE).exists()

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
        """Add one record; durable when this returns. Threads that append at once share one commit.

        Args:
            payload, release: see `Submission`.

        Returns:
            The signed receipt; with index and checkpoint when this ledger merges.

        Raises:
            LedgerError: the id is already recorded, a release without its file or digest, or opened for reading.
            LedgerCorrupt: the database disagrees with its last checkpoint; nothing was written.
            StorageError: the disk is full or cannot be written. Nothing was written; or nothing but the record, when
                the disk or the server failed after the commit and before it was told of: `record` knows.
        """
        return self._write_group(self._prepared(Submission(record=record, payload=payload, release=release)))

    def append_many(self, submissions: Sequence[Submission]) -> list[Receipt]:
        """Add records in one transaction, all or none; see `append`."""
        return self._write([self._prepared(submission) for submission in submissions])

    def merge(self, limit: int = LARGEST_MERGE) -> int:
        """Give the oldest staged records their places, and sign the tree that holds them: the sequencer's step.

        Any number of processes may call it; only one at a time gets to work.

        Returns:
            How many records got a place.

        Raises:
            LedgerCorrupt: the database disagrees with its last checkpoint; nothing was written.
            StorageError: nothing was written.
        """
        return len(self._commit([], limit)[0])

    def lead(self) -> bool:
        """Whether this is the one that merges, of all ledgers open on the database that ask; until it is closed."""
        return self._store.lead()

    def backlog(self) -> tuple[int, str]:
        """How many records wait for their place, and when the oldest was made ("" when none does)."""
        return self._store.backlog()

    def read_receipt(self, note: str) -> tuple[Receipt, LoggedRecord | None]:
        """A receipt that this log signed, and the record that it promised, once that is in its place.

        Raises:
            LedgerCorrupt: not a receipt of this log, or the record in the log is another one than was promised.
        """
        receipt = read_receipt(note, self._verifier)
        logged = self.find_by_id(receipt.record_id)
        if logged is not None and leaf_hash(encode_entry(logged.record, logged.payload_sha256)) != receipt.leaf_hash:
            raise LedgerCorrupt(
                f"record {receipt.record_id} is not the one that the receipt promised",
                hint="keep the receipt: it shows that the log broke its word",
            )
        return receipt, logged

    def record(self, record_id: str) -> Record | None:
        """The record with this id once it is durable, in its place or waiting for it; or None."""
        entry = self._store.entry(record_id)
        return None if entry is None else decode_entry(entry)[0]

    def receipt(self, record_id: str) -> Receipt:
        """A receipt for a record that is durable, signed anew; with index and checkpoint when it is in its place.

        Raises:
            LedgerError: no such record, or opened for reading.
        """
        if self._signer is None:
            raise _read_only()
        with self._store.snapshot():
            entry, leaf = self._store.entry(record_id), self._store.leaf_by("record_id", record_id)
            if entry is None:
                raise LedgerError(f"no record {record_id} in the ledger", hint="append the record first")
            index, checkpoint = (None, "") if leaf is None else (leaf.position, self.checkpoint())
        return self._receipt(record_id, entry, index, checkpoint)

    def finish_release(self, record_id: str) -> None:
        """Give the image of a recorded release its final name; does nothing when recovery has done so already.

        Raises:
            LedgerError: no such record, or its file was lost meanwhile.
            StorageError: the file cannot be renamed; the release stays pending.
        """
        with self._store.lock(record_id):
            pending = self._store.release(record_id)
            if pending is not None:
                self._publish(pending)
                return
        if self._store.entry(record_id) is None:
            raise LedgerError(f"no record {record_id} in the ledger", hint="append the record before its release")
        if self._store.entry(_loss_id(record_id)) is not None:
            raise LedgerError(f"the image of record {record_id} is recorded as lost", hint="generate it again")

    def recover(self) -> list[Recovery]:
        """Finish every release that a crash interrupted; safe while other processes work.

        A staged file with the recorded digest is published. A final file with that digest only needs its outbox row
        dropped. Otherwise the image is gone, and a record of kind LOSS says so.
        """
        recoveries = []
        for listed in self._store.releases():
            with self._store.lock(listed.record_id):
                # Its own process may have finished it since the list was made.
                pending = self._store.release(listed.record_id)
                if pending is not None:
                    recoveries.append(self._recover(pending))
        return recoveries

    def staged_files(self) -> frozenset[Path]:
        """Absolute paths of recorded images that still wait for their final name."""
        return frozenset(pending.staged for pending in self._store.releases())

    def find_by_id(self, record_id: str) -> LoggedRecord | None:
        """The record with this id, or None; like all look-ups, of records that have their place."""
        return _logged(self._store.leaf_by("record_id", record_id))

    def find_by_index(self, index: int) -> LoggedRecord | None:
        """The record at this place of the log, or None."""
        return _logged(self._store.leaf_at(index)) if 0 <= index < len(self) else None

    def find_by_mark(self, mark_id: str) -> LoggedRecord | None:
        """The first record of an image that carries this watermark payload id (16 hexadecimal digits), or None."""
        return _logged(self._store.leaf_by("mark_id", mark_id))

    def find_by_manifest(self, manifest_id: str) -> LoggedRecord | None:
        """The first record of an image with this manifest ("urn:c2pa:<uuid>"), or None."""
        return _logged(self._store.leaf_by("manifest_id", manifest_id))

    def holds(self, record_id: str) -> bool:
        """Whether a record of this id is durable, in its place or still waiting for it."""
        return self._store.entry(record_id) is not None

    def find_by_image(self, image_sha256: str) -> LoggedRecord | None:
        """The first record of a file with these very bytes (SHA-256, hexadecimal), or None."""
        return _logged(self._store.leaf_by("image_sha256", image_sha256))

    def between(self, since: str, until: str, kind: RecordKind | None = None) -> Iterator[LoggedRecord]:
        """Records of a period, in the order of the log.

        Args:
            since, until: RFC 3339 UTC, or any beginning of it such as "2026-10"; until is not included.
            kind: None for all.
        """
        for page in self._store.leaves_between(since, until, kind.value if kind else ""):
            for leaf in page:
                logged = _logged(leaf)
                assert logged is not None
                yield logged

    def payload(self, record_id: str) -> Mapping[str, Json] | None:
        """The private part of a record, decrypted; None when there was none or it has been erased.

        Raises:
            KeyMaterialError: the payload key is not there or may not be read.
            LedgerCorrupt: what is kept is not what was sealed.
        """
        kept = self._store.payload(record_id)
        if kept is None or kept.sealed is None:
            return None
        if self._payload_key is None:
            self._payload_key = PayloadKey.load(self._folder)
        payload: Mapping[str, Json] = json.loads(self._payload_key.open(record_id, kept.sealed))
        return payload

    def erased_by(self, record_id: str) -> str:
        """Id of the record that tells of the erasure of this one's payload; "" when it was not erased."""
        kept = self._store.payload(record_id)
        return kept.erased_by if kept is not None else ""

    def erase(self, record_ids: Collection[str], *, ground: str) -> Receipt:
        """Destroy the private part of records: payload, key and salts. Their entries stay, and proofs still verify.

        One record of kind ERASURE names them and the ground, in the same transaction; payloads that are already
        gone are left as they are.

        Args:
            ground: why, for the permanent record: no personal data.

        Raises:
            LedgerError: one of the ids is not recorded, or there are none.
        """
        unknown = [record_id for record_id in record_ids if self._store.entry(record_id) is None]
        if unknown or not record_ids:
            raise LedgerError(f"no record {', '.join(unknown)} in the ledger", hint="see `guardrails ledger list`")
        wanted = sorted(set(record_ids))
        entry = self._store.entry(wanted[0])
        assert entry is not None
        event = Record(
            id=str(uuid.uuid4()),
            kind=RecordKind.ERASURE,
            created_at=now(),
            policy=decode_entry(entry)[0].policy,
            facts={"erased": wanted, "ground": ground},
        )
        (receipt,) = self._write(
            [self._prepared(Submission(record=event))], then=lambda: self._store.erase(wanted, event.id)
        )
        self._store.scrub()
        return receipt

    def due(self, created_before: str, limit: int) -> list[str]:
        """Ids of the oldest records from before a moment (RFC 3339 UTC) whose private part is still there."""
        return self._store.payloads_before(created_before, limit)

    def prove(self, index: int) -> InclusionProof:
        """That the leaf at `index` is in the tree of the latest checkpoint.

        Raises:
            LedgerError: there is no such leaf.
        """
        checkpoint, _ = self._signed_state()
        if not 0 <= index < checkpoint.size:
            raise LedgerError(f"no leaf {index} in a log of {checkpoint.size}", hint="use the index of a receipt")
        tree = self._tree(checkpoint.size)
        return _proof(index, tree.node(0, index), checkpoint, tree)

    def prove_consistency(self, earlier: str) -> tuple[bytes, ...]:
        """The hashes that show that the tree of an earlier checkpoint is a prefix of the latest one's (RFC 6962).

        Args:
            earlier: a checkpoint that this log signed.

        Raises:
            LedgerCorrupt: it is not of this log, or the log has another history: keep that checkpoint.
        """
        old, (new, _) = Checkpoint.parse(self._verifier.verify(earlier)), self._signed_state()
        tree = self._tree(new.size)
        if old.size > new.size or tree.root(old.size) != old.root:
            raise LedgerCorrupt(
                f"the log does not continue the tree of {old.size} that it signed",
                hint="keep that checkpoint: it shows that history was rewritten",
            )
        return consistency_path(old.size, new.size, tree.node) if old.size else ()

    def tlog_proof(self, index: int) -> str:
        """That the record at `index` is in the latest checkpoint's tree, as a text that is checked without the log.

        Raises:
            LedgerError: there is no such leaf.
        """
        with self._store.snapshot():
            proof, leaf = self.prove(index), self._store.leaf_at(index)
            if leaf is None:
                raise LedgerCorrupt(f"leaf {index} is missing", hint="restore from a backup")
            return format_tlog_proof(proof, self.checkpoint(), leaf.entry)

    def proofs(self, start: int, stop: int) -> Iterator[tuple[str, bytes, InclusionProof]]:
        """(checkpoint, entry, inclusion proof) of each leaf from `start` to before `stop`, all of one state."""
        with self._store.snapshot():
            checkpoint, note = self._signed_state()
            tree = self._tree(checkpoint.size)
            for page in self._store.leaves(start, min(stop, checkpoint.size)):
                for leaf in page:
                    yield note, leaf.entry, _proof(leaf.position, leaf_hash(leaf.entry), checkpoint, tree)

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
        leaf = leaf_hash(encode_entry(logged.record, logged.payload_sha256))  # 2
        if not 0 <= logged.index < checkpoint.size:
            raise LedgerCorrupt(
                f"record {logged.record.id} lies outside the signed tree", hint="run fsck on the ledger"
            )
        proof = _proof(logged.index, leaf, checkpoint, self._tree(checkpoint.size))  # 3
        if not verify_inclusion(proof):
            raise LedgerCorrupt(
                f"record {logged.record.id} at index {logged.index} is not what was logged",
                hint="run fsck on the ledger",
            )
        return proof

    def fsck(self) -> int:
        """Walk the whole log and recompute everything.

        1. The checkpoints are signed, and agree with the tree (as on opening).
        2. All of `guardrails.ledger.walk`: places, entries, names, tiles, payloads, erasures, strays.
        3. The recomputed root is the signed one.

        Returns:
            The number of leaves.

        Raises:
            LedgerCorrupt: names the first thing that is wrong.
        """
        self._check_against_checkpoints()  # 1
        with self._store.snapshot():
            checkpoint, _ = self._signed_state()
            size, root = walk(self._store)  # 2
        if (size, root) != (checkpoint.size, checkpoint.root):  # 3
            raise LedgerCorrupt("the leaves do not give the signed root", hint="restore from a backup")
        return size

    def _begin(self) -> None:
        """Clear what a crash left half written, and sign the empty tree of a new ledger. The caller holds the lock."""
        for leftover in (self._folder / _STAGING_FOLDER).glob("*"):
            leftover.unlink(missing_ok=True)
        path = self._folder / CHECKPOINT_FILE
        if self._store.checkpoint() is None:
            if path.exists():
                # A lost database must not be replaced by an empty one.
                raise LedgerCorrupt(
                    f"{path} is of a log that the database does not hold",
                    hint="restore the database, or open the ledger where it was made: in the folder, or by its address",
                )
            empty = Checkpoint(origin=self._verifier.name, size=0, root=EMPTY_ROOT)
            with self._store.transaction():
                self._store.set_checkpoint(self._sign(empty.body))
        checkpoint, note = self._signed_state()
        if checkpoint.size == 0 and not path.exists():
            write_atomically(path, note.encode())

    def _prepared(self, submission: Submission) -> NewRecord:
        """Encrypted and encoded, outside every lock."""
        record, sealed = submission.record, None
        if self._payload_key is None:
            raise _read_only()
        if submission.payload:
            sealed = self._payload_key.seal(record.id, canonical_json(submission.payload))
        return NewRecord(
            names=Names.of(record),
            entry=encode_entry(record, sealed.sha256 if sealed is not None else ""),
            payload=sealed,
            release=None if submission.release is None else _pending(record, *submission.release),
        )

    def _write(self, records: list[NewRecord], then: Callable[[], None] | None = None) -> list[Receipt]:
        """Make records durable, with what else belongs to their transaction; one receipt for each."""
        if self._merges:
            places, checkpoint = self._commit(records, None, then)
        elif then is None:
            places, checkpoint = {}, ""
            self._store.submit(records)
        else:
            places, checkpoint = {}, ""
            with self._store.transaction():
                self._store.stage(records)
                then()
        ids = [record.names.record_id for record in records]
        return [
            self._receipt(record_id, record.entry, places.get(record_id), checkpoint)
            for record_id, record in zip(ids, records, strict=True)
        ]

    def _receipt(self, record_id: str, entry: bytes, index: int | None, checkpoint: str) -> Receipt:
        assert self._signer is not None
        return issue_receipt(
            self._signer,
            record_id,
            leaf_hash(entry),
            index=index,
            checkpoint=checkpoint,
            max_merge_delay=MAX_MERGE_DELAY,
        )

    def _commit(
        self, records: list[NewRecord], limit: int | None, then: Callable[[], None] | None = None
    ) -> tuple[dict[str, int], str]:
        """Stage records and give all that wait their places, in one transaction.

        Returns:
            Record id -> index of what got a place, and the checkpoint.
        """
        staged_note: Path | None = None
        with self._store.lock(_SEQUENCER):
            try:
                with self._store.transaction():
                    if records:
                        self._store.stage(records)
                    if then is not None:
                        then()
                    places, note = self._sequence(limit)
                    if not places:
                        return {}, note
                    # Staged before the commit, renamed after it: a full disk shows while nothing is recorded yet, and
                    # the file can never be ahead of the database.
                    staged_note = stage(self._folder / _STAGING_FOLDER, note.encode())
                publish(staged_note, self._folder / CHECKPOINT_FILE)
            except BaseException:
                if staged_note is not None:
                    staged_note.unlink(missing_ok=True)
                raise
        self._verified_note = note
        return places, note

    def _sequence(self, limit: int | None) -> tuple[dict[str, int], str]:
        """The sequencer's work, inside a transaction.

        1. The tree of the last checkpoint is read and must have the root that was signed.
        2. Staged records get the next places, in the order in which they were staged.
        3. The tiles that changed and a signed checkpoint of the new tree are written.
        """
        tree, note = self._tree_as_signed()  # 1
        waiting = self._store.waiting(limit if limit is not None else 1 << 31)  # 2
        if not waiting:
            return {}, note
        first = tree.size
        self._store.place(first, [each.seq for each in waiting])
        tree.append([leaf_hash(each.entry) for each in waiting])
        self._store.write_tiles(tree.changed)  # 3
        checkpoint = Checkpoint(origin=self._verifier.name, size=tree.size, root=tree.root())
        note = self._sign(checkpoint.body)
        self._store.set_checkpoint(note)
        return {each.record_id: index for index, each in enumerate(waiting, first)}, note

    def _sign(self, body: str) -> str:
        assert self._signer is not None
        return self._signer.sign(body)

    def _tree(self, size: int) -> TileTree:
        return TileTree(size, self._store.tile)

    def _tree_as_signed(self) -> tuple[TileTree, str]:
        """The tree and its checkpoint; a log must never sign a tree that does not continue the one it signed before."""
        checkpoint, note = self._signed_state()
        size = self._store.size()
        if size != checkpoint.size:
            raise LedgerCorrupt(
                f"the ledger has {size} records, its checkpoint {checkpoint.size}", hint="restore from a backup"
            )
        tree = self._tree(size)
        if tree.root() != checkpoint.root:
            raise LedgerCorrupt("the ledger's tree does not give its signed root", hint="run fsck on the ledger")
        return tree, note

    def _publish(self, pending: PendingRelease) -> None:
        publish(pending.staged, pending.final)
        self._drop(pending)

    def _drop(self, pending: PendingRelease) -> None:
        with self._store.transaction():
            self._store.delete_release(pending.record_id)

    def _recover(self, pending: PendingRelease) -> Recovery:
        entry = self._store.entry(pending.record_id)
        if entry is None:
            raise LedgerCorrupt(f"release without a record: {pending.record_id}", hint="run fsck on the ledger")
        record, _ = decode_entry(entry)
        if _sha256_of(pending.staged) == record.image_sha256:
            self._publish(pending)
            outcome = RecoveryOutcome.PUBLISHED
        elif _sha256_of(pending.final) == record.image_sha256:
            # Whoever renamed it may have died before the disk promised to keep the name.
            sync_folder(pending.final.parent)
            self._drop(pending)
            outcome = RecoveryOutcome.ALREADY_PUBLISHED
        else:
            loss = self._prepared(Submission(record=_loss(record)))
            self._write([loss], then=lambda: self._store.delete_release(pending.record_id))
            outcome = RecoveryOutcome.LOST
        return Recovery(record_id=pending.record_id, outcome=outcome, path=pending.final)

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
            current, _ = self._tree_as_signed()  # 2
            if kept_note is None:  # 3
                # A log that was begun since the file was looked for has one by now.
                if current.size > 0 and not path.exists():
                    raise LedgerCorrupt(
                        f"{path} is missing", hint="restore it, or compare the log with a published checkpoint"
                    )
                return
            kept = Checkpoint.parse(self._verifier.verify(kept_note))  # 4
            if kept.size > current.size:
                raise LedgerCorrupt(
                    f"the ledger has {current.size} records, but {kept.size} were signed for",
                    hint="the database was replaced by an older copy; restore the newest one",
                )
            if current.root(kept.size) != kept.root:
                raise LedgerCorrupt("the ledger's history is not the one that was signed", hint="restore from a backup")


def _read_only() -> LedgerError:
    return LedgerError("this ledger was opened for reading", hint="open it with create=True to write")


def _open_store(folder: Path, database: str, *, create: bool) -> Store:
    if database:
        from guardrails.ledger.postgres import PostgresStore

        return PostgresStore(database, writes=create)
    if not create:
        return SqliteStore.open_for_reading(folder)
    if (folder / CHECKPOINT_FILE).exists() and not (folder / DATABASE_FILE).exists():
        # Without this check a lost database would be replaced by an empty one.
        raise LedgerCorrupt(
            f"{folder} has a checkpoint but no database",
            hint="restore ledger.db from a backup; a ledger in PostgreSQL is opened by its address",
        )
    return SqliteStore.open_for_writing(folder)


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


def _logged(leaf: Leaf | None) -> LoggedRecord | None:
    if leaf is None:
        return None
    record, payload_sha256 = decode_entry(leaf.entry)
    return LoggedRecord(index=leaf.position, record=record, payload_sha256=payload_sha256)


def _proof(index: int, leaf: bytes, checkpoint: Checkpoint, tree: TileTree) -> InclusionProof:
    path = inclusion_path(index, checkpoint.size, tree.node)
    return InclusionProof(index=index, size=checkpoint.size, leaf_hash=leaf, root=checkpoint.root, path=path)


def _loss(record: Record) -> Record:
    return Record(
        id=_loss_id(record.id),
        kind=RecordKind.LOSS,
        created_at=now(),
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
