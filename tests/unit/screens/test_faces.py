"""The real detector and embedding on one public-domain portrait; the decision on vectors that a test chooses."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.findings import Action, CheckStatus, Component, Finding
from guardrails.pipeline.evidence import public_facts
from guardrails.policy import load_policy
from guardrails.screens import faces, judge, run_screens
from guardrails.screens.concepts import Concept, shipped_pack
from guardrails.screens.faces import MARGIN, THRESHOLD, Face, FaceFinder, Faces
from guardrails.screens.gallery import Gallery
from guardrails.screens.persons import NAMED, UNNAMED, join_persons
from guardrails.screens.prior import Hint
from guardrails.screens.protocol import Reading
from guardrails.testing.faces import Finder, enrol, vector

PORTRAIT = Path(__file__).parent / "assets" / "astronaut.jpg"
PICTURE = np.zeros((200, 200, 3), dtype=np.uint8)


def installed() -> bool:
    try:
        return importlib.metadata.version(faces.CARRIER) == faces.CARRIER_VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


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


class NeverAsked:
    def find(self, pixels: np.ndarray, *, closer: bool = False) -> list[Face]:
        raise AssertionError("no face is looked for")


def test_without_an_enrolment_nobody_is_looked_for_and_nothing_is_known(tmp_path: Path) -> None:
    screen = Faces(Gallery(tmp_path / "none"), finder=NeverAsked())
    (check,) = join_persons(run_screens([screen], PICTURE), [])
    assert check.status is CheckStatus.RAN
    assert check.scores == {}
    assert dict(check.abstained) == dict.fromkeys(("enrolled", NAMED, UNNAMED), "nobody is enrolled")


def test_who_is_enrolled_while_the_screen_is_in_use_is_found_in_the_next_picture(tmp_path: Path) -> None:
    screen = Faces(Gallery(tmp_path / "later"), finder=Finder(vector(1)))
    assert screen.score(PICTURE).scores == {}
    gallery = enrol(tmp_path / "later", a=vector(1))
    assert screen.score(PICTURE).scores["enrolled"] == pytest.approx(1)
    gallery.remove("a")
    assert screen.score(PICTURE).scores == {}


def test_a_concept_of_persons_who_are_not_enrolled_is_not_known(tmp_path: Path) -> None:
    of_b = Concept(id="b-alone", kind="face", category="public_figures", action=Action.REVIEW, persons=("b",))
    pack = replace(shipped_pack(), concepts=(of_b,))
    gallery = enrol(tmp_path, a=vector(1))
    reading = Faces(gallery, packs=[pack], finder=Finder(vector(1))).score(PICTURE)
    assert (set(reading.scores), set(reading.abstained)) == ({"enrolled"}, {"b-alone"})
    enrol(tmp_path, b=vector(2))
    assert set(Faces(gallery, packs=[pack], finder=Finder(vector(1))).score(PICTURE).scores) == {"enrolled", "b-alone"}


def test_two_persons_about_equally_near_are_not_told_apart(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, a=vector(1), b=vector(1) + (0.9 * MARGIN) * vector(7))
    reading = Faces(gallery, finder=Finder(vector(1))).score(PICTURE)
    assert reading.scores == {}
    assert "about equally near" in reading.abstained["enrolled"]


def test_a_face_that_is_clearly_somebody_elses_is_not_about_equally_near(tmp_path: Path) -> None:
    of_a = Concept(id="a-alone", kind="face", category="public_figures", action=Action.REVIEW, persons=("a",))
    gallery = enrol(tmp_path, a=vector(1), b=vector(1) + 0.5 * vector(7))
    face_of_b = Finder(vector(1) + 0.45 * vector(7))
    reading = Faces(gallery, packs=[replace(shipped_pack(), concepts=(of_a,))], finder=face_of_b).score(PICTURE)
    assert [one["person"] for one in reading.evidence["enrolled"]["persons"]] == ["b"]
    assert reading.scores["a-alone"] < 1 - THRESHOLD
    assert reading.abstained == {}


def test_persons_who_are_not_enrolled_are_not_known_in_a_picture_without_faces_either(tmp_path: Path) -> None:
    of_b = Concept(id="b-alone", kind="face", category="public_figures", action=Action.REVIEW, persons=("b",))
    pack = replace(shipped_pack(), concepts=(of_b,))
    reading = Faces(enrol(tmp_path, a=vector(1)), packs=[pack], finder=Finder()).score(PICTURE)
    assert reading.scores == {"enrolled": 0.0}
    assert "none of the persons" in reading.abstained["b-alone"]


def test_a_second_face_that_cannot_be_told_leaves_the_person_whom_nobody_named_not_known(tmp_path: Path) -> None:
    class Two(Finder):
        def find(self, pixels: np.ndarray, *, closer: bool = False) -> list[Face]:
            return [*Finder(vector(1)).find(pixels), *Finder(vector(9), height=40).find(pixels)]

    screen = Faces(enrol(tmp_path, a=vector(1)), finder=Two())
    names_a = Finding(
        rule="P",
        category="public_figures",
        action=Action.FLAG,
        message="",
        detector=Component(name="prompts", version="1"),
        evidence={"spans": [{"field": "prompt", "registry_id": "a"}]},
    )
    (check,) = join_persons(run_screens([screen], PICTURE), [names_a])
    assert (check.scores["enrolled"], check.scores[NAMED], check.scores[UNNAMED]) == (1.0, 1.0, 0.0)
    assert "smaller than 60" in check.abstained[UNNAMED]
    rules = load_policy("public-figures-by-face").screen_rules
    findings = judge([check], [rule for rule in rules if rule.screen == "faces"])
    assert [(one.rule, one.action, one.score) for one in findings] == [
        ("FACE-01", Action.BLOCK, 1.0), ("FACE-02", Action.REVIEW, None)]  # fmt: skip


def test_faces_too_small_to_compare_are_not_called_strangers(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, a=vector(1))
    assert "smaller than 60" in Faces(gallery, finder=Finder(vector(9), height=59)).score(PICTURE).abstained["enrolled"]
    assert "enrolled" in Faces(gallery, finder=Finder(vector(9), height=60)).score(PICTURE).scores
    assert Faces(gallery, finder=Finder(vector(1), height=18)).score(PICTURE).scores["enrolled"] == pytest.approx(1)
    assert "smaller than 60" in Faces(gallery, finder=Finder(vector(1), height=17)).score(PICTURE).abstained["enrolled"]


def test_a_picture_without_faces_shows_nobody(tmp_path: Path) -> None:
    reading = Faces(enrol(tmp_path, a=vector(1)), finder=Finder()).score(PICTURE)
    assert reading.scores["enrolled"] == 0.0
    assert reading.abstained == {}


class Closer(Finder):
    """Finds other faces when it looks closer, and counts its looks."""

    def __init__(self, first: Finder, second: Finder) -> None:
        self._looks = {False: first, True: second}
        self.looks: list[bool] = []

    def find(self, pixels: np.ndarray, *, closer: bool = False) -> list[Face]:
        self.looks.append(closer)
        return self._looks[closer].find(pixels)


class Hinting:
    """A prior that says what a test wants."""

    def __init__(self, hint: Hint) -> None:
        self._hint = hint
        self.asked = 0

    def look(self, pixels: np.ndarray, persons: object, concepts: object) -> Hint:
        self.asked += 1
        return self._hint


POINTING = Hint(concepts={"enrolled": 0.995}, persons={"a": {"by_pictures": 0.995}})
QUIET = Hint(concepts={"enrolled": 0.98}, persons={"a": {"by_pictures": 0.98}})
NOBODY, STRANGER, ENROLLED = Finder(), Finder(vector(9)), Finder(vector(1))
SMALL, BETWEEN = Finder(vector(9), height=20), Finder(0.5 * (vector(1) + vector(2)) + 0.5 * vector(1))


def looked(folder: Path, first: Finder, second: Finder, hint: Hint) -> tuple[Reading, Closer, Hinting]:
    finder, prior = Closer(first, second), Hinting(hint)
    gallery = enrol(folder, a=vector(1), b=vector(1) + (0.9 * MARGIN) * vector(7))
    gallery.remove("b" if first is not BETWEEN else "c")
    return Faces(gallery, finder=finder, prior=prior).score(PICTURE), finder, prior


def test_where_no_face_was_found_the_prior_asks_for_a_closer_look(tmp_path: Path) -> None:
    found, finder, _ = looked(tmp_path / "1", NOBODY, ENROLLED, POINTING)
    assert finder.looks == [False, True]
    assert found.scores == {"enrolled": pytest.approx(1)}
    (seen,) = found.evidence["enrolled"]["persons"]
    assert (seen["person"], seen["prior"]) == ("a", {"by_pictures": 0.995})
    stranger, _, _ = looked(tmp_path / "2", NOBODY, STRANGER, POINTING)
    assert stranger.scores["enrolled"] < 1 - THRESHOLD
    assert stranger.abstained == {}


@pytest.mark.parametrize("first", [NOBODY, SMALL, BETWEEN])
@pytest.mark.parametrize("second", [NOBODY, SMALL])
def test_what_stays_undecided_is_not_known_and_never_a_finding(tmp_path: Path, first: Finder, second: Finder) -> None:
    reading, finder, _ = looked(tmp_path, first, second, POINTING)
    assert finder.looks == [False, True]
    assert reading.scores == {}
    assert "like pictures of enrolled persons" in reading.abstained["enrolled"]
    assert reading.evidence["enrolled"] == {"prior": [{"person": "a", "by_pictures": 0.995}]}


def test_a_closer_look_clears_nobody_whom_the_first_look_could_not_tell(tmp_path: Path) -> None:
    for number, first in enumerate((SMALL, BETWEEN)):
        reading, _, _ = looked(tmp_path / str(number), first, STRANGER, POINTING)
        assert reading.scores == {}


@pytest.mark.parametrize("hint", [QUIET, Hint(unavailable="no encoder")])
def test_a_prior_that_does_not_point_changes_nothing(tmp_path: Path, hint: Hint) -> None:
    for number, first in enumerate((NOBODY, SMALL, BETWEEN, STRANGER, ENROLLED)):
        folder = tmp_path / str(number)
        reading, finder, _ = looked(folder, first, ENROLLED, hint)
        alone = Faces(Gallery(folder), finder=first).score(PICTURE)
        assert finder.looks == [False]
        assert (reading.scores, reading.abstained) == (alone.scores, alone.abstained)


def test_a_face_that_decides_is_not_overruled(tmp_path: Path) -> None:
    for number, first in enumerate((STRANGER, ENROLLED)):
        folder = tmp_path / str(number)
        reading, finder, prior = looked(folder, first, SMALL, POINTING)
        assert finder.looks == [False]
        assert reading.scores == Faces(Gallery(folder), finder=first).score(PICTURE).scores
        assert prior.asked == (first is ENROLLED)


@pytest.mark.parametrize(("side", "looks"), [(127, [True]), (128, [False, True])])
def test_a_narrow_picture_is_looked_at_closer_at_once(tmp_path: Path, side: int, looks: list[bool]) -> None:
    finder = Closer(NOBODY, NOBODY)
    screen = Faces(enrol(tmp_path, a=vector(1)), finder=finder, prior=Hinting(POINTING))
    reading = screen.score(np.zeros((300, side, 3), dtype=np.uint8))
    assert finder.looks == looks
    assert "by a closer look neither" in reading.abstained["enrolled"]


def test_that_there_is_no_prior_is_said(tmp_path: Path) -> None:
    silent, _, _ = looked(tmp_path / "1", NOBODY, NOBODY, Hint(unavailable="no encoder"))
    assert silent.scores == {"enrolled": 0.0}
    assert silent.evidence["enrolled"] == {"prior": {"not_available": "no encoder"}}
    found, _, _ = looked(tmp_path / "2", ENROLLED, NOBODY, Hint(unavailable="no encoder"))
    assert found.evidence["enrolled"]["persons"][0]["prior"] == {"not_available": "no encoder"}


def test_a_rule_holds_back_what_is_not_known_and_records_name_nobody(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, **{"enwiki:Jane_Doe": vector(1)})
    hint = Hint(concepts={"enrolled": 0.995}, persons={"enwiki:Jane_Doe": {"by_pictures": 0.995}})
    screen = Faces(gallery, finder=Closer(NOBODY, NOBODY), prior=Hinting(hint))
    checks = join_persons(run_screens([screen], PICTURE), [])
    rules = load_policy("public-figures-by-face").screen_rules
    findings = judge(checks, [rule for rule in rules if rule.screen == "faces"])
    assert [(one.action, one.score) for one in findings] == [(Action.REVIEW, None)] * 2
    assert "Jane" in repr([one.evidence for one in findings])
    assert "Jane" not in repr(public_facts(findings=findings, checks=checks, action=Action.REVIEW))


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


@pytest.mark.skipif(not installed(), reason="the weights carrier of the faces is not installed")
def test_a_closer_look_finds_a_face_that_is_too_small_for_the_first(tmp_path: Path) -> None:
    portrait = Image.open(PORTRAIT).convert("RGB")
    finder = FaceFinder()
    (face,) = finder.find(np.asarray(portrait))
    scale = 20 / (face.box.bottom - face.box.top)
    small = np.asarray(portrait.resize((round(portrait.width * scale), round(portrait.height * scale))))
    assert finder.find(small) == []
    (closer,) = finder.find(small, closer=True)
    assert 15 < closer.box.bottom - closer.box.top < 30
    assert 0 <= closer.box.left < closer.box.right <= small.shape[1]


@pytest.mark.skipif(not installed(), reason=f"the weights carrier {faces.CARRIER} is not installed")
@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000)])
def test_a_picture_that_is_one_line_is_looked_at(size: tuple[int, int]) -> None:
    assert FaceFinder().find(np.zeros((*size, 3), np.uint8)) == []


@pytest.mark.skipif(not installed(), reason=f"the weights carrier {faces.CARRIER} is not installed")
def test_a_face_at_the_end_of_a_panorama_is_found_as_in_the_picture_alone() -> None:
    portrait = Image.open(PORTRAIT).convert("RGB").resize((300, 300))
    panorama = Image.new("RGB", (3600, 300), "grey")
    panorama.paste(portrait, (3300, 0))
    (alone,) = FaceFinder().find(np.asarray(portrait))
    found = FaceFinder().find(np.asarray(panorama))
    assert found
    assert all(face.box.left > 3300 for face in found)
    assert min(float(np.linalg.norm(face.vector - alone.vector)) for face in found) < 0.3
