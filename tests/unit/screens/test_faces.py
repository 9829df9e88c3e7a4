"""The real detector and embedding on one public-domain portrait; the decision on vectors that a test chooses."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.findings import CheckStatus
from guardrails.screens import faces, run_screens
from guardrails.screens.faces import MARGIN, THRESHOLD, Face, FaceFinder, Faces
from guardrails.screens.gallery import Gallery, Person
from guardrails.screens.views import Box

PORTRAIT = Path(__file__).parent / "assets" / "astronaut.jpg"
PICTURE = np.zeros((200, 200, 3), dtype=np.uint8)


def installed() -> bool:
    try:
        return importlib.metadata.version(faces.CARRIER) == faces.CARRIER_VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


def enrol(folder: Path, **people: np.ndarray) -> Gallery:
    gallery = Gallery(folder)
    for person_id, vector in people.items():
        gallery.add(
            Person(
                id=person_id,
                faces=vector[np.newaxis].astype(np.float32),
                born="1970-01-01",
                legal_basis="consent",
                note="n",
                keep_until="2999-01-01",
                enrolled_on="2026-01-01",
                sources=(),
            )
        )
    return gallery


def vector(number: int) -> np.ndarray:
    return np.eye(128, dtype=np.float32)[number]


class Finder:
    """Finds the faces that it was told."""

    def __init__(self, *found: np.ndarray, height: int = 100) -> None:
        self._faces = [Face(box=Box(left=0, top=0, right=height, bottom=height), vector=one) for one in found]

    def find(self, pixels: np.ndarray) -> list[Face]:
        return self._faces


def test_an_enrolled_person_is_found_and_another_is_not(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, a=vector(1), b=vector(2))
    reading = Faces(gallery, finder=Finder(vector(1) + 0.3 * vector(5))).score(PICTURE)
    assert reading.scores["enrolled"] == pytest.approx(0.7)
    assert reading.evidence["enrolled"]["persons"] == [
        {"person": "a", "distance": 0.3, "margin": pytest.approx(np.hypot(2**0.5, 0.3) - 0.3, abs=1e-4),
         "box": [0, 0, 100, 100]}
    ]  # fmt: skip
    stranger = Faces(gallery, finder=Finder(vector(9))).score(PICTURE)
    assert stranger.scores["enrolled"] < 1 - THRESHOLD
    assert stranger.evidence == {}


def test_two_persons_about_equally_near_are_not_told_apart(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, a=vector(1), b=vector(1) + (0.9 * MARGIN) * vector(7))
    reading = Faces(gallery, finder=Finder(vector(1))).score(PICTURE)
    assert reading.scores == {}
    assert "about equally near" in reading.abstained["enrolled"]


def test_faces_too_small_to_compare_are_not_called_strangers(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, a=vector(1))
    assert "smaller than 60" in Faces(gallery, finder=Finder(vector(9), height=59)).score(PICTURE).abstained["enrolled"]
    assert "enrolled" in Faces(gallery, finder=Finder(vector(9), height=60)).score(PICTURE).scores
    assert Faces(gallery, finder=Finder(vector(1), height=45)).score(PICTURE).scores["enrolled"] == pytest.approx(1)


def test_a_picture_without_faces_shows_nobody(tmp_path: Path) -> None:
    reading = Faces(enrol(tmp_path, a=vector(1)), finder=Finder()).score(PICTURE)
    assert reading.scores["enrolled"] == 0.0
    assert reading.abstained == {}


def test_missing_weights_make_the_check_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "CARRIER", "no-such-package")
    (check,) = run_screens([Faces(enrol(tmp_path, a=vector(1)))], PICTURE)
    assert check.status is CheckStatus.UNAVAILABLE


def test_the_aligner_whose_licence_forbids_commerce_is_not_read() -> None:
    assert "68" not in faces.ALIGNER[0] + faces.EMBEDDER[0]


@pytest.mark.skipif(not installed(), reason="the weights carrier of the faces is not installed")
def test_a_real_portrait_is_the_same_person_mirrored_smaller_and_recompressed(tmp_path: Path) -> None:
    portrait = Image.open(PORTRAIT).convert("RGB")
    finder = FaceFinder()
    (face,) = finder.find(np.asarray(portrait))
    gallery = enrol(tmp_path / "gallery", collins=face.vector, other=face.vector + 0.07)
    changed = tmp_path / "changed.jpg"
    portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((200, 200)).save(changed, quality=50)
    reading = Faces(gallery, finder=finder).score(np.asarray(Image.open(changed)))
    (seen,) = reading.evidence["enrolled"]["persons"]
    assert seen["person"] == "collins"
    assert seen["distance"] < 0.4
    left, top, right, bottom = seen["box"]
    assert 0 <= left < right <= 200
    assert 50 < bottom - top < 100
