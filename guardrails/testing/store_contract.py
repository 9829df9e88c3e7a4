"""The contract of a ledger's database, as a check that people run on their own.

Wrap a foreign database in the methods of `guardrails.ledger.store.Store` and ask::

    assert store_violations(new_database) == []

where `new_database()` makes an empty database and returns a function that opens one more connection to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from guardrails.errors import LedgerError
from guardrails.ledger.entries import Names
from guardrails.ledger.payloads import SealedPayload
from guardrails.ledger.store import Leaf, NewRecord, PendingRelease, Store

OpenStore: TypeAlias = Callable[[], Store]
NewDatabase: TypeAlias = Callable[[], OpenStore]

_PATIENCE = 0.2
# More than fit in any page or batch of an implementation.
_MANY = 5000


class _Interrupted(Exception):
    """Raised inside transactions, to see what is left of them."""


def store_violations(new_database: NewDatabase) -> list[str]:
    """Every way in which a store breaks the contract, one sentence each; empty when it keeps it."""
    found = []
    for check in _CHECKS:
        with contextlib.ExitStack() as opened:
            open_store = new_database()

            def open_and_close_later(
                open_store: OpenStore = open_store, opened: contextlib.ExitStack = opened
            ) -> Store:
                return opened.enter_context(contextlib.closing(open_store()))

            try:
                found += list(check(open_and_close_later))
            except Exception as error:
                found.append(f"{check.__name__.strip('_')}: {type(error).__name__}: {error}")
    return found


def new_record(number: int = 0, *, payload: bool = False, kind: str = "generation", created_at: str = "") -> NewRecord:
    """A record to stage; names and entry are made of a fresh id, the store need not understand them."""
    record_id = str(uuid.uuid4())
    names = Names(
        record_id=record_id,
        kind=kind,
        created_at=created_at or "2026-11-24T08:00:00.000Z",
        mark_id=f"{number:016x}",
        manifest_id=f"urn:c2pa:{record_id}",
        image_sha256=hashlib.sha256(record_id.encode()).hexdigest(),
    )
    sealed = SealedPayload(wrapped_key=b"key of " + record_id.encode(), data=b"\x00\xff" * 40) if payload else None
    return NewRecord(names=names, entry=f"entry of {record_id}\u00e9\x00".encode(), payload=sealed)


def _stage(store: Store, *records: NewRecord) -> None:
    with store.transaction():
        store.stage(records)


def _place_all(store: Store) -> None:
    with store.lock("sequencer"), store.transaction():
        store.place(store.size(), [each.seq for each in store.waiting(1 << 30)])


def _keeps_what_is_staged(open_store: OpenStore) -> Iterator[str]:
    writer, other = open_store(), open_store()
    records = [new_record(number) for number in range(5)]
    _stage(writer, *records[:2])
    _stage(writer, *records[2:])
    waiting = other.waiting(100)
    if [(each.record_id, each.entry) for each in waiting] != [(each.names.record_id, each.entry) for each in records]:
        yield "another connection does not see the staged records as they were, oldest first"
    if [each.seq for each in waiting] != sorted({each.seq for each in waiting}):
        yield "the numbers of staged records do not rise"
    if len(other.waiting(2)) != 2:
        yield "waiting() does not keep to its limit"
    if other.backlog() != (5, records[0].names.created_at):
        yield f"the backlog is {other.backlog()}, not 5 records"
    if other.entry(records[3].names.record_id) != records[3].entry or other.entry("nobody") is not None:
        yield "entry() does not find a staged record, or finds a stranger"
    if other.size() or other.leaf_by("record_id", records[0].names.record_id) is not None:
        yield "a staged record is in the log before the sequencer gave it a place"


def _takes_an_id_once(open_store: OpenStore) -> Iterator[str]:
    store = open_store()
    staged, placed = new_record(), new_record()
    _stage(store, placed)
    _place_all(store)
    _stage(store, staged)
    for taken in (staged, placed):
        try:
            _stage(store, new_record(), taken)
        except LedgerError:
            pass
        else:
            yield "an id is taken twice"
    if store.backlog()[0] != 1:
        yield "a refused batch left some of its records"


def _undoes_a_transaction_whole(open_store: OpenStore) -> Iterator[str]:
    store = open_store()
    kept = new_record(payload=True)
    _stage(store, kept)
    release = PendingRelease(record_id=kept.names.record_id, staged=Path("/a"), final=Path("/b"))
    with contextlib.suppress(_Interrupted), store.transaction():
        store.stage([new_record(payload=True)._replace(release=release)])
        store.place(0, [each.seq for each in store.waiting(10)])
        store.write_tiles({(0, 0): b"tile"})
        store.set_checkpoint("note")
        store.erase([kept.names.record_id], "event")
        raise _Interrupted
    left = (store.backlog()[0], store.size(), store.tile(0, 0), store.checkpoint(), store.releases())
    if left != (1, 0, b"", None, []):
        yield f"an interrupted transaction left {left}"
    payload = store.payload(kept.names.record_id)
    if payload is None or payload.sealed != kept.payload:
        yield "an interrupted erasure erased"


def _gives_places_and_finds_by_name(open_store: OpenStore) -> Iterator[str]:
    store, other = open_store(), open_store()
    first, second, third = new_record(7), new_record(7), new_record(8)
    _stage(store, first, second)
    _place_all(store)
    _stage(store, third)
    _place_all(store)
    expected = [Leaf(index, each.names, each.entry) for index, each in enumerate((first, second, third))]
    if [other.leaf_at(index) for index in range(4)] != [*expected, None]:
        yield "leaf_at does not give what was placed there"
    if (other.size(), other.backlog(), other.waiting(10)) != (3, (0, ""), []):
        yield "placed records are not counted, or still wait"
    for name in ("record_id", "mark_id", "manifest_id", "image_sha256"):
        for leaf in expected:
            # The second one shares the first one's mark, and the first counts.
            wanted = expected[0] if name == "mark_id" and leaf is expected[1] else leaf
            if other.leaf_by(name, getattr(leaf.names, name)) != wanted:
                yield f"leaf_by {name} does not find the first record of that name"
        if other.leaf_by(name, "") is not None or other.leaf_by(name, "nobody") is not None:
            yield f"leaf_by {name} finds a record by an empty or unknown name"


def _walks_all_leaves_in_order(open_store: OpenStore) -> Iterator[str]:
    store = open_store()
    records = [new_record(number, payload=number % 2 == 0) for number in range(_MANY)]
    _stage(store, *records)
    _place_all(store)
    walked = [leaf for page in store.leaves() for leaf in page]
    if [leaf[:8] for leaf in walked] != [(index, *each.names, each.entry) for index, each in enumerate(records)]:
        yield "leaves() does not give every leaf once, in order"
    if [leaf[8:] for leaf in walked] != [(*each.payload, "") if each.payload else (None,) * 3 for each in records]:
        yield "leaves() does not give the payloads beside their leaves"
    part = [leaf.position for page in store.leaves(17, 2100) for leaf in page]
    if part != list(range(17, 2100)):
        yield "leaves(start, stop) does not keep to its bounds"


def _finds_a_period(open_store: OpenStore) -> Iterator[str]:
    store = open_store()
    days = [f"2026-11-{day:02}T00:00:00.000Z" for day in range(1, 9)]
    records = [new_record(kind=("generation", "refusal")[n % 2], created_at=day) for n, day in enumerate(days)]
    _stage(store, *records)
    _place_all(store)
    for kind, wanted in (("", records[2:5]), ("refusal", records[3:5:2])):
        found = [leaf.names for page in store.leaves_between(days[2], days[5], kind) for leaf in page]
        if found != [each.names for each in wanted]:
            yield f"leaves_between does not give the records of kind {kind!r} of a period"


def _keeps_and_replaces_tiles_and_checkpoint(open_store: OpenStore) -> Iterator[str]:
    store, other = open_store(), open_store()
    if store.checkpoint() is not None or store.tile(0, 0) or store.tile_count():
        yield "a new store is not empty"
    for version in (b"one", b"two"):
        with store.transaction():
            store.write_tiles({(0, 0): version, (1, 0): bytes(8192)})
            store.set_checkpoint(version.decode() + "\n\n\u2014")
    if (other.tile(0, 0), other.tile(1, 0), other.tile_count()) != (b"two", bytes(8192), 2):
        yield "a tile is not what was written last"
    if other.checkpoint() != "two\n\n\u2014":
        yield "the checkpoint is not what was written last"


def _erases(open_store: OpenStore) -> Iterator[str]:
    store, other = open_store(), open_store()
    days = [f"2026-11-{day:02}T00:00:00.000Z" for day in range(1, 6)]
    records = [new_record(payload=True, created_at=day) for day in days]
    bare = new_record(created_at=days[0])
    _stage(store, bare, *records)
    _place_all(store)
    ids = [each.names.record_id for each in records]
    if other.payloads_before(days[3], 10) != ids[:3] or other.payloads_before(days[3], 2) != ids[:2]:
        yield "payloads_before does not give the oldest payloads from before that moment"
    with store.transaction():
        store.erase(ids[:2], "event")
    store.scrub()
    for record in records[:2]:
        kept = other.payload(record.names.record_id)
        if kept is None or kept.sealed is not None or kept.erased_by != "event":
            yield "an erased payload is still there, or does not tell by which record"
        if other.entry(record.names.record_id) != record.entry:
            yield "erasure touched an entry"
    kept = other.payload(ids[2])
    if kept is None or kept.sealed != records[2].payload or kept.erased_by:
        yield "erasure touched another payload"
    if other.payload(bare.names.record_id) is not None:
        yield "a record without a payload has one"
    if other.payloads_before(days[4], 10) != ids[2:4]:
        yield "erased payloads are still listed"


def _keeps_the_outbox(open_store: OpenStore) -> Iterator[str]:
    store, other = open_store(), open_store()
    record = new_record()
    release = PendingRelease(record_id=record.names.record_id, staged=Path("/tmp/\u00e9 a"), final=Path("/tmp/b"))  # noqa: S108
    _stage(store, record._replace(release=release), new_record())
    if other.releases() != [release] or other.release(record.names.record_id) != release:
        yield "the outbox does not give a pending release back"
    with store.transaction():
        store.delete_release(record.names.record_id)
    if other.releases() or other.release(record.names.record_id) is not None:
        yield "a closed release is still pending"


def _tells_strays(open_store: OpenStore) -> Iterator[str]:
    store = open_store()
    record = new_record(payload=True)
    _stage(store, record)
    _place_all(store)
    if store.strays():
        yield f"strays in a sound store: {store.strays()}"
    stray = PendingRelease(record_id="nobody", staged=Path("/a"), final=Path("/b"))
    _stage(store, new_record()._replace(release=stray))
    if store.strays() != ["nobody"]:
        yield "a release of nobody is not told"


def _reads_one_state_in_a_snapshot(open_store: OpenStore) -> Iterator[str]:
    reader, writer = open_store(), open_store()
    _stage(writer, new_record())
    with reader.snapshot():
        before = reader.backlog()[0]
        _stage(writer, new_record())
        if reader.backlog()[0] != before:
            yield "a snapshot sees what was written after it began"
    if reader.backlog()[0] != before + 1:
        yield "after a snapshot the new state is not seen"


def _excludes_others_by_lock(open_store: OpenStore) -> Iterator[str]:
    one, other = open_store(), open_store()
    entered = threading.Event()

    def wait_for_lock() -> None:
        with other.lock("sequencer"):
            entered.set()

    waiter = threading.Thread(target=wait_for_lock)
    with one.lock("sequencer"):
        waiter.start()
        if entered.wait(_PATIENCE):
            yield "two connections hold one lock"
    waiter.join(30)
    if not entered.is_set():
        yield "a lock that was given back cannot be had"


def _has_one_leader(open_store: OpenStore) -> Iterator[str]:
    one, other = open_store(), open_store()
    if not one.lead() or not one.lead():
        yield "the first that asks does not lead, or not for long"
    if other.lead():
        yield "two lead at once"
    one.close()
    until = time.monotonic() + 30
    while not other.lead():
        if time.monotonic() > until:
            yield "nobody leads after the leader is gone"
            return
        time.sleep(0.01)


def _loses_nothing_of_two_writers(open_store: OpenStore) -> Iterator[str]:
    reader, stores = open_store(), [open_store() for _ in range(3)]
    batches = [[new_record() for _ in range(40)] for _ in stores]

    def write(store: Store, batch: list[NewRecord]) -> None:
        for record in batch:
            _stage(store, record)

    threads = [
        threading.Thread(target=write, args=(store, batch)) for store, batch in zip(stores, batches, strict=True)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        _place_all(reader)
    for thread in threads:
        thread.join()
    _place_all(reader)
    placed = [leaf.record_id for page in reader.leaves() for leaf in page]
    if sorted(placed) != sorted(record.names.record_id for batch in batches for record in batch):
        yield "records of several writers are lost or doubled on their way to their places"
    if [leaf.position for page in reader.leaves() for leaf in page] != list(range(len(placed))):
        yield "the places of several writers' records have gaps"


_CHECKS: tuple[Callable[[OpenStore], Iterator[str]], ...] = (
    _keeps_what_is_staged,
    _takes_an_id_once,
    _undoes_a_transaction_whole,
    _gives_places_and_finds_by_name,
    _walks_all_leaves_in_order,
    _finds_a_period,
    _keeps_and_replaces_tiles_and_checkpoint,
    _erases,
    _keeps_the_outbox,
    _tells_strays,
    _reads_one_state_in_a_snapshot,
    _excludes_others_by_lock,
    _has_one_leader,
    _loses_nothing_of_two_writers,
)
