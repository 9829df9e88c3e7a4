"""Every shipped safe picture says whose it is, and is shown only where its licence allows it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from guardrails.resources import datasets_path
from guardrails.screens.catalogue import SafePicture, read_catalogue, shipped, thumbnail, write_catalogue
from guardrails.screens.clip_concepts import REFERENCES
from guardrails.screens.exemplars import SIDE
from guardrails.screens.references import References, read_references

OPEN = {"Apache-2.0", "public domain"}


@pytest.fixture(scope="module")
def references() -> References:
    return read_references(datasets_path(*REFERENCES))


def test_the_catalogue_is_in_step_with_the_vectors(references: References) -> None:
    rows = read_catalogue(datasets_path("screens"))
    listed = [(row.domain, row.row, row.id) for row in rows]
    assert listed == [(one.name, row, id) for one in references.domains for row, id in enumerate(one.ids)]
    assert len(shipped()) == len(rows)


def test_every_picture_has_a_source_and_a_licence() -> None:
    for picture in shipped().values():
        assert picture.source, picture
        assert picture.licence, picture
        assert picture.domain == "photographs" or picture.licence in OPEN, picture


def test_only_openly_licensed_pictures_are_shown(references: References) -> None:
    photographs, drawings = (list(group) for _, group in itertools.groupby(shipped().values(), lambda one: one.domain))
    assert {thumbnail(one) for one in photographs} == {None}
    shown = [thumbnail(one) for one in drawings]
    assert {one.shape for one in shown if one is not None} == {(SIDE, SIDE, 3)}
    # A drawing fills its square: a grid that ended early would show black ones.
    assert min(float(one.max()) for one in shown if one is not None) > 100
    assert len(shown) == len(references.domains[1].ids)


def test_small_pictures_are_those_of_their_vectors(references: References) -> None:
    from guardrails.encoders import load_encoder

    tower = load_encoder("offline-clip")
    drawings = references.domains[1]
    for id in (drawings.ids[0], drawings.ids[-1]):
        small = thumbnail(shipped()[drawings.name, id])
        assert small is not None
        (vector,) = tower.embed([small])
        assert id in [found for found, _ in drawings.nearest(vector)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    pictures = [
        SafePicture(domain="drawings", id=f"a, {row}", row=row, source="x", licence="CC0-1.0") for row in range(9)
    ]
    shades = [np.full((40, 60, 3), 20 * row, dtype=np.uint8) for row in range(9)]
    write_catalogue(tmp_path, pictures, {"drawings": shades})
    assert read_catalogue(tmp_path) == pictures
    assert sorted(path.name for path in tmp_path.iterdir()) == ["references-drawings.webp", "references.csv"]
