from __future__ import annotations

import numpy as np
import pytest

from guardrails.errors import IndexFormatError, OptionError
from guardrails.similarity.semantic import SemanticIndex, write_vectors


@pytest.fixture
def vectors():
    made = np.random.default_rng(1).normal(size=(500, 32)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_neighbours_are_those_of_another_library(vectors, tmp_path):
    import faiss

    ids = [f"work:{number}" for number in range(len(vectors))]
    write_vectors(tmp_path, ids, vectors, "test/1")
    index = SemanticIndex(tmp_path, "test/1")
    flat = faiss.IndexFlatIP(32)
    flat.add(vectors.astype(np.float16).astype(np.float32))
    for query in vectors[:5]:
        scores, rows = flat.search(query[None], 7)
        found = index.nearest(query, 7)
        assert [one for one, _ in found] == [ids[row] for row in rows[0]]
        assert np.allclose([score for _, score in found], scores[0], atol=1e-5)
    assert len(index) == 500


def test_vectors_that_cannot_be_compared_are_refused(vectors, tmp_path):
    write_vectors(tmp_path, ["a", "b"], vectors[:2], "test/1")
    with pytest.raises(IndexFormatError, match="test/1"):
        SemanticIndex(tmp_path, "test/2")
    (tmp_path / "ids.txt").write_text("a\nc\n")
    with pytest.raises(IndexFormatError, match="not what was published"):
        SemanticIndex(tmp_path, "test/1")
    with pytest.raises(IndexFormatError, match="cannot open"):
        SemanticIndex(tmp_path / "nothing", "test/1")
    for ids, given in ((["a", "a"], vectors[:2]), (["a"], vectors[:2]), (["a"], 2 * vectors[:1])):
        with pytest.raises(OptionError):
            write_vectors(tmp_path / "bad", ids, given, "test/1")


def test_an_empty_side_index_finds_nothing(vectors, tmp_path):
    write_vectors(tmp_path, [], vectors[:0], "test/1")
    assert SemanticIndex(tmp_path, "test/1").nearest(vectors[0], 3) == []
