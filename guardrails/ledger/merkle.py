"""RFC 6962 Merkle trees: hashes, roots, inclusion and consistency proofs; verification by RFC 9162.

A tree is known by its *complete* nodes: node (level, index) covers the 2**level leaves that start at leaf
index * 2**level. Complete nodes never change, so every root and proof of every past size can be computed from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

from guardrails.domain.records import InclusionProof

EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader: TypeAlias = Callable[[int, int], bytes]
"""(level, index) -> the 32-byte hash of that complete node."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: enough to append leaves and to know the root, in O(log n) memory.

    Args:
        size: number of leaves.
        peaks: hashes of the largest complete subtrees, left to right; one for each set bit of `size`.
    """

    def __init__(self, size: int = 0, peaks: tuple[bytes, ...] = ()) -> None:
        if size.bit_count() != len(peaks):
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(peaks)}")
        self.size = size
        self._peaks = list(peaks)

    @classmethod
    def read(cls, size: int, nodes: NodeReader) -> Frontier:
        """The frontier of the first `size` leaves."""
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        return cls(size, tuple(nodes(level, (size >> level) - 1) for level in levels))

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add one leaf hash; returns the nodes that became complete as (level, index, hash), the leaf first."""
        index, level, node = self.size, 0, leaf
        created = [(0, index, leaf)]
        while index & 1:
            node = node_hash(self._peaks.pop(), node)
            index, level = index >> 1, level + 1
            created.append((level, index, node))
        self._peaks.append(node)
        self.size += 1
        return created

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves; EMPTY_ROOT when there are none."""
        if not self._peaks:
            return EMPTY_ROOT
        *rest, node = self._peaks
        for peak in reversed(rest):
            node = node_hash(peak, node)
        return node


def inclusion_path(index: int, size: int, nodes: NodeReader) -> tuple[bytes, ...]:
    """RFC 6962 section 2.1.1, PATH(index, D[size]): from the leaf's sibling up.

    Raises:
        ValueError: not 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, nodes))
            end = middle
        else:
            path.append(_range_hash(start, middle, nodes))
            start = middle
    return tuple(reversed(path))


def consistency_path(old_size: int, size: int, nodes: NodeReader) -> tuple[bytes, ...]:
    """RFC 6962 section 2.1.2, PROOF(old_size, D[size]): that the first tree is a prefix of the second.

    Raises:
        ValueError: not 0 < old_size <= size.
    """
    if not 0 < old_size <= size:
        raise ValueError(f"no consistency proof from {old_size} to {size}")
    path: list[bytes] = []
    start, end = 0, size
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_range_hash(middle, end, nodes))
            end = middle
        else:
            path.append(_range_hash(start, middle, nodes))
            start = middle
    if start > 0:
        path.append(_range_hash(start, end, nodes))
    return tuple(reversed(path))


def verify_inclusion(proof: InclusionProof) -> bool:
    """RFC 9162 section 2.1.3.2: does the leaf stand at `index` of the tree with this root?

    1. The index must lie inside the tree.
    2. Set fn to the index and sn to size - 1: the positions of the leaf and of the last leaf, level by level.
    3. For each hash p of the path:
       a. sn = 0 means the path is too long: no.
       b. When fn is odd, or fn equals sn, p is on the left; then also climb past levels without a sibling.
       c. Otherwise p is on the right.
       d. Climb one level.
    4. All levels must be used up, and the computed root must be the given one.
    """
    if not 0 <= proof.index < proof.size:  # 1
        return False
    fn, sn, node = proof.index, proof.size - 1, proof.leaf_hash  # 2
    for p in proof.path:  # 3
        if sn == 0:  # 3a
            return False
        if fn & 1 or fn == sn:  # 3b
            node = node_hash(p, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:  # 3c
            node = node_hash(node, p)
        fn, sn = fn >> 1, sn >> 1  # 3d
    return sn == 0 and node == proof.root  # 4


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, path: tuple[bytes, ...]) -> bool:
    """RFC 9162 section 2.1.4.2: is the tree of `old_size` leaves a prefix of the tree of `size` leaves?

    1. The old tree must not be empty or larger; equal sizes need equal roots and an empty path.
    2. An empty path cannot connect different sizes. When old_size is a power of two, the path starts at the old root.
    3. Set fn to old_size - 1 and sn to size - 1; climb while fn is odd, to the top of the old tree's last peak.
    4. Both computed roots, fr and sr, start at the first hash of the path.
    5. For each further hash c of the path:
       a. sn = 0 means the path is too long: no.
       b. When fn is odd, or fn equals sn, c is on the left of both; then also climb past levels without a sibling.
       c. Otherwise c is on the right, and only the new tree has it.
       d. Climb one level.
    6. All levels must be used up, and both computed roots must be the given ones.
    """
    if not 0 < old_size <= size:  # 1
        return False
    if old_size == size:
        return old_root == root and not path
    if not path:  # 2
        return False
    if old_size.bit_count() == 1:
        path = (old_root, *path)
    fn, sn = old_size - 1, size - 1  # 3
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # 4
    for c in path[1:]:  # 5
        if sn == 0:  # 5a
            return False
        if fn & 1 or fn == sn:  # 5b
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:  # 5c
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1  # 5d
    return sn == 0 and fr == old_root and sr == root  # 6


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def _range_hash(start: int, end: int, nodes: NodeReader) -> bytes:
    """MTH(D[start:end]) for a range that the splits of RFC 6962 produce: complete, or at the tree's right edge."""
    count = end - start
    if count.bit_count() == 1:
        level = count.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range_hash(start, middle, nodes), _range_hash(middle, end, nodes))
