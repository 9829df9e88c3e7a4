"""The tree as tiles of up to 256 hashes (C2SP tlog-tiles): one row for 256 leaves, and any node within one row.

Tile (level, index) holds the hashes of nodes (8 * level, 256 * index) and following; the last one of a level is
partial. A full tile never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeAlias

from guardrails.errors import LedgerCorrupt
from guardrails.ledger.merkle import tree_root

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES

# RFC 6962 section 2.1.
_NODE = b"\x01"

TileReader: TypeAlias = Callable[[int, int], bytes]
"""(level, index) -> the concatenated hashes of that tile; empty when it is not there."""


class TileTree:
    """A tree that reads its tiles when it needs them, once each, and keeps those that it changes in `changed`.

    Args:
        size: number of leaves.
        read: where the tiles are.
    """

    def __init__(self, size: int, read: TileReader) -> None:
        self.size = size
        self.changed: dict[tuple[int, int], bytes] = {}
        self._read = read
        self._seen: dict[tuple[int, int], bytes] = {}

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete node; level 0 are the leaves.

        Raises:
            LedgerCorrupt: its tile is missing or too short.
        """
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        start = (first % TILE_WIDTH) * HASH_BYTES
        hashes = self._tile(tile_level, first // TILE_WIDTH)[start : start + (HASH_BYTES << height)]
        if len(hashes) != HASH_BYTES << height:
            raise LedgerCorrupt(f"tree node {level}/{index} is missing", hint="run fsck, then restore from a backup")
        return subtree_root(hashes)

    def root(self, size: int | None = None) -> bytes:
        """The Merkle tree hash of all leaves, or of the first `size`."""
        return tree_root(self.size if size is None else size, self.node)

    def append(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes at the end; the tiles to be written are in `changed`."""
        self._extend(0, leaves)
        self.size += len(leaves)

    def _extend(self, level: int, hashes: Sequence[bytes]) -> None:
        """Add hashes to the tiles of a level, and the root of each tile that is full now to the level above."""
        count = self.size >> TILE_HEIGHT * level
        index, filled = divmod(count, TILE_WIDTH)
        tile = self._tile(level, index)[: filled * HASH_BYTES] if filled else b""
        if len(tile) != filled * HASH_BYTES:
            raise LedgerCorrupt(f"tile {level}/{index} is too short", hint="run fsck, then restore from a backup")
        data = tile + b"".join(hashes)
        full = []
        for start in range(0, len(data), TILE_BYTES):
            tile = data[start : start + TILE_BYTES]
            self._seen[level, index] = self.changed[level, index] = tile
            index += 1
            if len(tile) == TILE_BYTES:
                full.append(subtree_root(tile))
        if full:
            self._extend(level + 1, full)

    def _tile(self, level: int, index: int) -> bytes:
        key = level, index
        if key not in self._seen:
            self._seen[key] = self._read(level, index)
        return self._seen[key]


def subtree_root(hashes: bytes) -> bytes:
    """The root of a complete subtree over a power of two of concatenated hashes."""
    while len(hashes) > HASH_BYTES:
        starts = range(0, len(hashes), 2 * HASH_BYTES)
        # As offline.node_hash of each two neighbours, which lie side by side already: a walk does this for every leaf.
        hashes = b"".join([sha256(_NODE + hashes[start : start + 2 * HASH_BYTES]).digest() for start in starts])
    return hashes
