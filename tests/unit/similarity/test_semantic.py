from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from PIL import Image

from guardrails.errors import IndexFormatError, OptionError
from guardrails.similarity.semantic import SemanticIndex, build_semantic, write_vectors
from guardrails.similarity.sources import Item, read_source


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


class Small:
    """An encoder of 48 numbers: the picture, small."""

    id, dim = "small/1", 48

    def embed(self, images):
        small = [np.asarray(Image.fromarray(pixels).resize((4, 4)), np.float32).ravel() - 128 for pixels in images]
        return np.stack([one / np.linalg.norm(one) for one in small])


def test_a_collection_is_embedded_and_what_cannot_be_read_is_told(work_on, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(20):
        Image.fromarray(work_on(seed)).save(pictures / f"{seed:02}.png")
    (pictures / "bad.png").write_bytes(b"no picture")
    told: list[int] = []
    twice = chain(read_source(pictures), [Item("03.png", b"")])
    report = build_semantic(tmp_path / "index", twice, Small(), told.append)
    assert (report.embedded, report.repeated, [one.id for one in report.unreadable]) == (20, 1, ["bad.png"])
    assert told == [16, 22]
    index = SemanticIndex(tmp_path / "index", "small/1")
    (best, cosine), *_ = index.nearest(Small().embed([work_on(7)])[0], 3)
    assert (best, len(index)) == ("07.png", 20)
    assert cosine == pytest.approx(1, abs=1e-3)
    assert build_semantic(tmp_path / "none", [], Small()).embedded == 0
