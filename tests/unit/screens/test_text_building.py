"""What the text side is measured on is never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from guardrails.screens.captioned import Captioned, Embedded, labelled, prepared, symbols
from guardrails.screens.text_building import centred, kept_aside
from guardrails.testing.spaces import AxisEncoder, axis


def picture(name: str) -> Captioned:
    return Captioned(id=name, names=(name,), load=lambda: np.zeros((8, 8, 3), dtype=np.uint8))


def test_one_drawing_of_each_thing_is_kept_aside() -> None:
    drawings = Embedded(
        pictures=tuple(picture(f"thing {number % 40}") for number in range(120)),
        vectors=np.arange(240, dtype=np.float32).reshape(120, 2),
    )
    aside = kept_aside(drawings)
    assert len({own[0] for own in aside.names}) == len(aside.names) == 6
    assert all(vector[0] < 80 for vector in aside.vectors)
    assert aside.names == kept_aside(drawings).names != drawings.names[:6]


def test_photographs_are_named_as_their_folder(tmp_path: Path) -> None:
    for name in ("sea_horse/image_0001", "Fruit/Golden-Delicious/a"):
        path = tmp_path / f"{name}.jpg"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (40, 20), (200, 10, 10)).save(path)
    found = labelled(tmp_path)
    assert [(one.id, one.names) for one in found] == [
        ("Fruit/Golden-Delicious/a.jpg", ("golden delicious",)),
        ("sea_horse/image_0001.jpg", ("sea horse",)),
    ]
    assert found[0].load().shape == (40, 40, 3)


def test_symbols_are_named_as_their_word(tmp_path: Path) -> None:
    for name in ("hot_chocolate", "air_steward_2a", "crush_garlic_,_to", "flag_Cuba"):
        Image.new("RGBA", (20, 20), (200, 10, 10, 255)).save(tmp_path / f"{name}.png")
    found = {name for one in symbols(tmp_path) for name in one.names}
    assert found == {"hot chocolate", "air steward", "crush garlic", "flag cuba"}
    assert symbols(tmp_path)[0].load().shape == (224, 224, 3)


def test_pictures_are_prepared_once_and_then_read(tmp_path: Path) -> None:
    pictures = [picture("a"), picture("b")]
    prepared(pictures, AxisEncoder(axis(1)), tmp_path)
    again = prepared([*pictures, picture("c")], None, tmp_path)
    assert [own[0] for own in again.names] == ["a", "b"]
    np.testing.assert_array_equal(Embedded.joined([again, again]).vectors, np.stack([axis(1)] * 4))


def test_what_all_pictures_share_is_taken_away() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(50, 8)).astype(np.float32)
    np.testing.assert_allclose(centred(rows + 7), centred(rows), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(centred(rows), axis=1), 1, atol=1e-5)
