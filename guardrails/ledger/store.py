"""What a ledger asks of a database. `guardrails.testing.store_contract` checks that one keeps to it.

A store holds rows and knows nothing of hashes or keys. Records are written once, to a staging area that any number of
writers fill; the sequencer alone gives them their places in the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from guardrails.ledger.entries import Names
from guardrails.ledger.payloads import SealedPayload


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRelease:
    """One row of the outbox: a recorded image whose file may not have its final name yet."""

    record_id: str
    staged: Path
    final: Path


class NewRecord(NamedTuple):
    """What is staged for one record: its entry, the names to find it by, its encrypted payload, its release."""

    names: Names
    entry: bytes
    payload: SealedPayload | None = None
    release: PendingRelease | None = None


class Waiting(NamedTuple):
    """A staged record without a place yet; `seq` is the store's own number for it, rising but not gapless."""

    seq: int
    record_id: str
    entry: bytes


class Leaf(NamedTuple):
    """A record in its place of the log, counted from 0."""

    position: int
    names: Names
    entry: bytes


class KeptPayload(NamedTuple):
    """What is kept beside a record: the encrypted payload, or the id of the record that tells of its erasure."""

    sealed: SealedPayload | None
    erased_by: str


class KeptLeaf(NamedTuple):
    """A leaf and what is kept beside it, in one flat row: a walk reads millions of them.

    Attributes:
        wrapped_key, data: the encrypted payload; None when there is none, or none any more.
        erased_by: "" while the payload is there, the id of the record that tells of its erasure, or None when there
            never was one.
    """

    position: int
    record_id: str
    kind: str
    created_at: str
    mark_id: str
    manifest_id: str
    image_sha256: str
    entry: bytes
    wrapped_key: bytes | None
    data: bytes | None
    erased_by: str | None


class Store(Protocol):
    """One connection to a ledger's database; threads may share it.

    Every method raises StorageError when the database cannot be reached or has no room, LedgerCorrupt when it is
    damaged, and LedgerError for a write to a store that was opened for reading.
    """

    def close(self) -> None:
        """Give the connection back."""

    def lock(self, what: str) -> AbstractContextManager[None]:
        """Be the only one among all threads and processes that holds the lock of this name."""

    def lead(self) -> bool:
        """Whether this store leads; at most one of all that are open on the database does, until it is closed or dies.

        Whoever asks first leads. Of a leader whose machine vanished the database may take some seconds to hear.
        """

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; durable when the block has ended, even if the power goes. Not to be nested."""

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads inside see one state, whatever others write meanwhile."""

    def stage(self, records: Sequence[NewRecord]) -> None:
        """Write records, to wait for their places. Inside a transaction.

        Raises:
            LedgerError: one of the ids is taken, in the staging area or in the log.
        """

    def submit(self, records: Sequence[NewRecord]) -> None:
        """Stage records in a transaction of their own; durable when this returns. Raises as `stage` does."""

    def waiting(self, limit: int) -> list[Waiting]:
        """The staged records that everyone can see, the oldest first."""

    def backlog(self) -> tuple[int, str]:
        """How many records are staged, and `created_at` of the oldest, "" when there are none."""

    def place(self, first_index: int, seqs: Sequence[int]) -> None:
        """Take records out of the staging area and give them the places from `first_index` on. In a transaction."""

    def write_tiles(self, tiles: Mapping[tuple[int, int], bytes]) -> None:
        """Write or replace tiles, by (level, index). Inside a transaction."""

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile; empty when it is not there."""

    def tile_count(self) -> int:
        """Number of tiles."""

    def set_checkpoint(self, note: str) -> None:
        """Replace the signed checkpoint. Inside a transaction."""

    def checkpoint(self) -> str | None:
        """The signed checkpoint; None in a new store."""

    def size(self) -> int:
        """Number of leaves, taking the last index at its word; `leaves` shows gaps."""

    def leaf_at(self, index: int) -> Leaf | None:
        """The leaf at a place."""

    def leaf_by(self, name: str, value: str) -> Leaf | None:
        """The first leaf with this `record_id`, `mark_id`, `manifest_id` or `image_sha256`; "" finds none."""

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[list[KeptLeaf]]:
        """Every leaf from `start` to before `stop`, in order, in pages."""

    def leaves_between(self, since: str, until: str, kind: str = "") -> Iterator[list[Leaf]]:
        """Leaves with since <= created_at < until, of one kind or all, in the order of the log, in pages."""

    def entry(self, record_id: str) -> bytes | None:
        """The entry of a record, staged or in its place."""

    def payload(self, record_id: str) -> KeptPayload | None:
        """What is kept beside a record, staged or in its place; None when there never was anything."""

    def payloads_before(self, created_at: str, limit: int) -> list[str]:
        """Ids of the oldest records from before a moment whose payload is still there."""

    def erase(self, record_ids: Collection[str], erased_by: str) -> None:
        """Overwrite payloads and keys of records, and note by which record. Inside a transaction."""

    def scrub(self) -> None:
        """Take what was erased out of the database's own files as well, as far as the database allows."""

    def release(self, record_id: str) -> PendingRelease | None:
        """The outbox row of a record."""

    def releases(self) -> list[PendingRelease]:
        """The outbox."""

    def delete_release(self, record_id: str) -> None:
        """Close an outbox row. Inside a transaction."""

    def strays(self) -> list[str]:
        """What no record explains: payloads and releases of nobody, records neither staged nor in a place."""
