"""The projection learns a map that is there, and names things that it never saw."""

from __future__ import annotations

import io

import numpy as np
import pytest

from guardrails.encoders.lit_text import LitText, load_lit_text
from guardrails.encoders.offline_clip import ENCODER_ID
from guardrails.errors import ModelUnavailable
from guardrails.screens.text_training import Settings, make_captions, ridge, to_bytes, train, zero_shot

TEXT_DIM, DIM = 24, 16


class Reader:
    """A fixed random vector for every word of a text, summed."""

    id, dim = "reader:1", TEXT_DIM

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = np.stack(
            [
                sum(np.random.default_rng(list(word.encode())).normal(size=TEXT_DIM) for word in text.split())
                for text in texts
            ]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(count: int) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Names, and pictures that are a hidden map of them plus what all pictures share."""
    names = [(f"thing{number}",) for number in range(count)]
    hidden = np.random.default_rng(8).normal(size=(TEXT_DIM, DIM))
    pictures = Reader().embed([name[0] for name in names]) @ hidden + 3.0
    return names, (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).astype(np.float32)


def test_things_that_were_never_seen_are_named() -> None:
    names, pictures = world(400)
    captions = make_captions(names[:300], Reader())
    anchors = Reader().embed([name[0] for name in names[:40]]), pictures[:40]
    projection, bias = train(captions, pictures[:300], anchors, Settings(epochs=20, batch=128))
    words = LitText(id="x", reader=Reader(), projection=projection, bias=bias).embed([n[0] for n in names[300:]])
    seen = pictures[300:] - pictures[:300].mean(axis=0)
    first, five = zero_shot(words, seen, ways=50, rounds=5)
    assert first > 0.5
    assert five >= first
    chance, _ = zero_shot(np.roll(words, 1, axis=0), seen, ways=50, rounds=5)
    assert chance < 0.2


def test_ridge_finds_the_map_between_centred_rows() -> None:
    random = np.random.default_rng(5)
    texts, weight = random.normal(size=(200, 6)).astype(np.float32), random.normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_allclose(ridge(texts, texts @ weight + 2, 1e-6), weight, atol=1e-4)


def test_drawings_of_one_thing_share_a_number() -> None:
    captions = make_captions([("cat", "pet"), ("dog",), ("cat",)], Reader())
    assert captions.images.tolist() == [0, 0, 1, 2]
    assert captions.things.tolist() == [0, 0, 1, 0]


def test_no_caption_has_a_name_that_must_stay_unseen() -> None:
    class Listening(Reader):
        heard: list[str]

        def embed(self, texts: list[str]) -> np.ndarray:
            self.heard = texts
            return super().embed(texts)

    reader = Listening()
    captions = make_captions([("cat", "pet"), ("dog", "cat"), ("cow", "animal")], reader, unseen={"cat", "animal"})
    assert captions.images.tolist() == [1, 2]
    assert not any("cat" in text or "animal" in text for text in reader.heard)


def test_shipped_text_side_belongs_to_the_offline_tower() -> None:
    text = load_lit_text()
    assert (text.images, text.dim) == (ENCODER_ID, 512)
    cat, kitten, lorry = text.embed(["a cat", "a kitten", "a lorry"])
    assert cat @ kitten > cat @ lorry + 0.2
    np.testing.assert_allclose(np.linalg.norm(cat), 1, atol=1e-5)


def test_a_file_of_another_shape_is_refused(tmp_path) -> None:
    path = tmp_path / "lit.npz"
    path.write_bytes(to_bytes(np.ones((3, 4), np.float32), np.ones(4, np.float32)))
    with pytest.raises(ModelUnavailable, match="no text projection"):
        load_lit_text(path)
    assert set(np.load(io.BytesIO(path.read_bytes()))) == {"projection", "bias"}
