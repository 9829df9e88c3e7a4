"""RFC 6962 Merkle trees: roots, inclusion and consistency proofs; `offline.py` hashes and verifies.

A tree is known by its *complete* nodes: node (level, index) covers the 2**level leaves that start at leaf
index * 2**level. Complete nodes never change, so every root and proof of every past size can be computed from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from guardrails.domain.records import InclusionProof
from guardrails.ledger.offline import EMPTY_ROOT, included, node_hash

NodeReader: TypeAlias = Callable[[int, int], bytes]
"""(level, index) -> the 32-byte hash of that complete node."""


def tree_root(size: int, nodes: NodeReader) -> bytes:
    """RFC 6962 section 2.1, MTH(D[size]); the hash of nothing when the tree is empty."""
    return _range_hash(0, size, nodes) if size else EMPTY_ROOT


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
    """RFC 9162 section 2.1.3.2: does the leaf stand at `index` of the tree with this root?"""
    return included(proof.leaf_hash, proof.index, proof.size, proof.root, proof.path)


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
