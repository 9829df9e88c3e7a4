"""The walk over a whole store that fsck makes: everything is recomputed, a tile of leaves at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from guardrails.domain.records import RecordKind
from guardrails.errors import LedgerCorrupt
from guardrails.ledger.entries import decode_entry, named_payload
from guardrails.ledger.offline import leaf_hash
from guardrails.ledger.payloads import payload_digest
from guardrails.ledger.store import Store
from guardrails.ledger.tiles import HASH_BYTES, TILE_BYTES, TILE_WIDTH, TileTree, subtree_root

_RESTORE = "restore from a backup"
_ERASURE = RecordKind.ERASURE.value


@dataclass(slots=True)
class _Erasures:
    """Which payloads are gone, and which erasures tell of them."""

    gone: dict[str, str] = field(default_factory=dict)
    told: dict[str, frozenset[str]] = field(default_factory=dict)


def walk(store: Store) -> tuple[int, bytes]:
    """Check every row of a store against every other; inside a snapshot.

    1. Places are gapless; the names to find a record by are those that its entry says.
    2. Every payload is the one that its entry names; one that is gone is named by a record of kind ERASURE.
    3. Every tile is what the leaves give, level by level, and there are no others.
    4. Nothing lies about that no record explains.

    Returns:
        Number of leaves and the root of their tree.

    Raises:
        LedgerCorrupt: names the first thing that is wrong.
    """
    erasures = _Erasures()
    size, tiles = _check_level(store, 0, _leaf_hashes(store, erasures))  # 1, 2
    for record_id, event in erasures.gone.items():
        # A record that still waits for its place may tell of it.
        if record_id not in erasures.told.get(event, frozenset()) and not _told_by_staged(store, event, record_id):
            raise LedgerCorrupt(f"the payload of record {record_id} is gone without an erasure", hint=_RESTORE)
    level, nodes, count = 1, tiles, (size + TILE_WIDTH - 1) // TILE_WIDTH  # 3
    while nodes:
        width, above = _check_level(store, level, iter(nodes))
        count += (width + TILE_WIDTH - 1) // TILE_WIDTH
        level, nodes = level + 1, above
    if store.tile_count() != count:
        raise LedgerCorrupt("the tree has tiles that no leaf explains", hint=_RESTORE)
    strays = store.strays()  # 4
    if strays:
        raise LedgerCorrupt(f"payload, release or record out of place: {strays[0]}", hint=_RESTORE)
    return size, TileTree(size, store.tile).root()


def _check_level(store: Store, level: int, hashes: Iterator[bytes]) -> tuple[int, list[bytes]]:
    """Compare the tiles of a level; its width, and the roots of its full tiles, which are the level above."""
    index, width, above = 0, 0, []
    while tile := b"".join(itertools.islice(hashes, TILE_WIDTH)):
        if store.tile(level, index) != tile:
            raise LedgerCorrupt(f"tile {level}/{index} is wrong", hint=_RESTORE)
        if len(tile) == TILE_BYTES:
            above.append(subtree_root(tile))
        index, width = index + 1, width + len(tile) // HASH_BYTES
    return width, above


def _leaf_hashes(store: Store, erasures: _Erasures) -> Iterator[bytes]:
    expected = 0
    for page in store.leaves():
        for leaf in page:
            position, record_id, kind, _, _, _, _, entry, _, data, erased_by = leaf
            if position != expected:
                raise LedgerCorrupt(f"leaf {position} stands where another is missing", hint=_RESTORE)
            expected += 1
            digest = named_payload(entry, leaf[1:7])
            if digest is None:
                raise LedgerCorrupt(f"leaf {position} was changed", hint=_RESTORE)
            if erased_by is not None and data is None:
                erasures.gone[record_id] = erased_by
            elif digest != ("" if data is None else payload_digest(data)):
                raise LedgerCorrupt(f"the payload of leaf {position} is not the one that was logged", hint=_RESTORE)
            if kind == _ERASURE:
                erasures.told[record_id] = _erased(entry)
        yield from [leaf_hash(leaf.entry) for leaf in page]


def _told_by_staged(store: Store, event: str, record_id: str) -> bool:
    entry = store.entry(event)
    return entry is not None and record_id in _erased(entry)


def _erased(entry: bytes) -> frozenset[str]:
    record, _ = decode_entry(entry)
    return frozenset(record.facts["erased"]) if record.kind is RecordKind.ERASURE else frozenset()
