"""Known answers of the Certificate Transparency reference tree, and properties of all small trees."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.domain.records import InclusionProof
from guardrails.errors import LedgerCorrupt
from guardrails.ledger.merkle import consistency_path, inclusion_path, verify_inclusion
from guardrails.ledger.offline import EMPTY_ROOT, consistent, leaf_hash, node_hash
from guardrails.ledger.tiles import HASH_BYTES, TILE_WIDTH, TileTree

REFERENCE_ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Tree:
    """A tree over entries in memory, and its roots at every size."""

    def __init__(self, entries: list[bytes]) -> None:
        self.tiles = TileTree(0, lambda level, index: b"")
        self.tiles.append([leaf_hash(entry) for entry in entries])
        self.roots = [self.tiles.root(size) for size in range(len(entries) + 1)]

    def read(self, level: int, index: int) -> bytes:
        return self.tiles.node(level, index)

    def proof(self, index: int, size: int) -> InclusionProof:
        return InclusionProof(
            index=index,
            size=size,
            leaf_hash=self.read(0, index),
            root=self.roots[size],
            path=inclusion_path(index, size, self.read),
        )


def tree_of(size: int) -> Tree:
    return Tree([index.to_bytes(2, "big") for index in range(size)])


BIG = tree_of(130)


def test_roots_are_those_of_the_reference_tree() -> None:
    assert [root.hex() for root in Tree(REFERENCE_ENTRIES).roots] == REFERENCE_ROOTS
    assert EMPTY_ROOT.hex() == REFERENCE_ROOTS[0]


def test_proofs_are_those_of_the_reference_tree() -> None:
    tree = Tree(REFERENCE_ENTRIES)
    assert [node.hex() for node in inclusion_path(0, 8, tree.read)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [node.hex() for node in consistency_path(6, 8, tree.read)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_roots_follow_the_recursive_definition() -> None:
    def definition(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        split = max(2**power for power in range(8) if 2**power < len(leaves))
        return node_hash(definition(leaves[:split]), definition(leaves[split:]))

    for size in range(1, 131):
        assert BIG.roots[size] == definition([BIG.read(0, index) for index in range(size)])


@given(st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_a_tree_grown_in_pieces_from_its_written_tiles_is_the_tree_grown_at_once(pieces: list[int]) -> None:
    leaves = [leaf_hash(index.to_bytes(2, "big")) for index in range(sum(pieces))]
    written: dict[tuple[int, int], bytes] = {}
    size = 0

    def read(level: int, index: int) -> bytes:
        return written.get((level, index), b"")

    for piece in pieces:
        tree = TileTree(size, read)
        tree.append(leaves[size : size + piece])
        written.update(tree.changed)
        size += piece
    at_once = TileTree(0, lambda level, index: b"")
    at_once.append(leaves)
    assert written == at_once.changed
    assert TileTree(size, read).root() == at_once.root()


def test_a_tile_holds_the_hashes_of_256_nodes_and_only_the_last_is_partial() -> None:
    tree = TileTree(0, lambda level, index: b"")
    tree.append([leaf_hash(bytes([index % 251])) for index in range(600)])
    assert {key: len(tile) // HASH_BYTES for key, tile in tree.changed.items()} == {
        (0, 0): TILE_WIDTH,
        (0, 1): TILE_WIDTH,
        (0, 2): 600 - 2 * TILE_WIDTH,
        (1, 0): 2,
    }
    assert tree.changed[1, 0][:HASH_BYTES] == tree.node(8, 0) == tree.root(256)


def test_a_missing_or_short_tile_is_noticed_before_anything_is_built_on_it() -> None:
    for tile in (b"", bytes(31), bytes(64)):
        tree = TileTree(3, lambda level, index, tile=tile: tile)
        with pytest.raises(LedgerCorrupt):
            tree.root()
        with pytest.raises(LedgerCorrupt):
            tree.append([leaf_hash(b"")])


def test_every_inclusion_proof_up_to_130_leaves_verifies() -> None:
    for size in range(1, 131):
        for index in range(size):
            assert verify_inclusion(BIG.proof(index, size))


def test_every_consistency_proof_up_to_130_leaves_verifies() -> None:
    for size in range(1, 131):
        for old in range(1, size + 1):
            path = consistency_path(old, size, BIG.read)
            assert consistent(old, BIG.roots[old], size, BIG.roots[size], path)


@given(st.data())
def test_no_altered_inclusion_proof_verifies(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 130))
    proof = BIG.proof(data.draw(st.integers(0, size - 1)), size)
    step = data.draw(st.integers(0, len(proof.path) - 1))
    other = data.draw(
        st.binary(min_size=32, max_size=32).filter(lambda node: node not in (proof.path[step], proof.root))
    )
    altered = [
        dataclasses.replace(proof, leaf_hash=other),
        dataclasses.replace(proof, root=other),
        dataclasses.replace(proof, index=proof.index ^ 1),
        dataclasses.replace(proof, index=-1),
        dataclasses.replace(proof, index=size),
        dataclasses.replace(proof, path=proof.path[:-1]),
        dataclasses.replace(proof, path=(*proof.path, other)),
        dataclasses.replace(proof, path=(*proof.path[:step], other, *proof.path[step + 1 :])),
    ]
    assert not any(verify_inclusion(proof) for proof in altered)


@given(st.data())
def test_no_altered_consistency_proof_verifies(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 130))
    old = data.draw(st.integers(1, size - 1))
    path = consistency_path(old, size, BIG.read)
    step = data.draw(st.integers(0, len(path) - 1))
    other = data.draw(st.binary(min_size=32, max_size=32).filter(lambda node: node != path[step]))
    roots = BIG.roots[old], BIG.roots[size]
    assert not consistent(old, other, size, roots[1], path)
    assert not consistent(old, roots[0], size, other, path)
    assert not consistent(old, roots[0], size, roots[1], path[:-1])
    assert not consistent(old, roots[0], size, roots[1], (*path, other))
    assert not consistent(old, roots[0], size, roots[1], (*path[:step], other, *path[step + 1 :]))


def test_a_log_that_rewrote_an_old_leaf_has_no_consistency_proof() -> None:
    entries = [index.to_bytes(2, "big") for index in range(20)]
    rewritten = Tree([*entries[:3], b"changed", *entries[4:]])
    path = consistency_path(10, 20, rewritten.read)
    assert not consistent(10, BIG.roots[10], 20, rewritten.roots[20], path)


def test_proofs_of_impossible_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="no leaf 5"):
        inclusion_path(5, 5, BIG.read)
    for old, size in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match="no consistency proof"):
            consistency_path(old, size, BIG.read)
        assert not consistent(old, BIG.roots[old], size, BIG.roots[size], ())


def test_an_inner_node_cannot_pass_for_a_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)
