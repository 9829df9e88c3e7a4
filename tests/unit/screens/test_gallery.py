"""Who may be enrolled, what is kept of them, and that nobody else is ever named."""

from __future__ import annotations

import datetime
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardrails.errors import OptionError, StorageError
from guardrails.screens import gallery as gallery_module
from guardrails.screens.gallery import Embedded, Gallery, Matcher, Person, check_enrolment

TODAY = datetime.date(2026, 11, 25)


def person(person_id: str, *faces: np.ndarray, keep_until: str = "2027-01-01") -> Person:
    return Person(
        id=person_id,
        faces=np.stack(faces).astype(np.float32),
        born="1970-01-01",
        legal_basis="consent",
        note="form 1",
        keep_until=keep_until,
        enrolled_on="2026-11-25",
        sources=("ab",),
    )


def face(number: int, length: float = 1.0) -> np.ndarray:
    return np.eye(128, dtype=np.float32)[number] * length


def check(**changed: str) -> None:
    given = {"born": "1970-01-01", "legal_basis": "consent", "note": "form 1", "keep_until": "2027-01-01"} | changed
    check_enrolment(**given, today=TODAY)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"born": "2008-11-26"}, "minors are not enrolled"),
        ({"born": "2015-02-29"}, "not a date"),
        ({"legal_basis": "curiosity"}, "no legal basis"),
        ({"note": "  "}, "needs a note"),
        ({"keep_until": "2026-11-25"}, "is over"),
        ({"keep_until": "soon"}, "not a date"),
        ({"keep_until": "20261127"}, "another way to write a date"),
        ({"keep_until": "2026-W49-1"}, "another way to write a date"),
    ],
)
def test_an_enrolment_that_must_not_be_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check(**changed)


def test_adults_are_enrolled_from_their_birthday_on() -> None:
    check(born="2008-11-25")
    check_enrolment(born="2004-02-29", legal_basis="consent", note="n", keep_until="2027-01-01", today=TODAY)


@pytest.mark.parametrize(
    ("born", "minor_until"),
    [("2008-08-31", "2026-08-30"), ("2008-11-29", "2026-11-28"), ("2008-02-29", "2026-02-28")],
)
def test_nobody_is_enrolled_in_the_days_before_the_eighteenth_birthday(born: str, minor_until: str) -> None:
    last = datetime.date.fromisoformat(minor_until)
    rest = {"legal_basis": "consent", "note": "n", "keep_until": "2027-01-01"}
    with pytest.raises(OptionError, match="minors"):
        check_enrolment(born=born, **rest, today=last)
    check_enrolment(born=born, **rest, today=last + datetime.timedelta(days=1))


def test_only_numbers_and_facts_are_kept_for_the_owner_alone(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "faces")
    gallery.add(person("enwiki:Jane_Doe", face(1), face(1, 1.1)))
    (file,) = (tmp_path / "faces").iterdir()
    assert "Jane" not in file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size < 3000
    (kept,) = gallery.persons(TODAY)
    assert (kept.id, kept.legal_basis, kept.note, kept.sources) == ("enwiki:Jane_Doe", "consent", "form 1", ("ab",))
    np.testing.assert_array_equal(kept.faces, np.stack([face(1), face(1, 1.1)]))


def test_persons_are_forgotten_on_request_and_after_their_last_day(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.add(person("a", face(1), keep_until="2026-11-25"))
    gallery.add(person("b", face(2)))
    assert [one.id for one in gallery.persons(TODAY)] == ["a", "b"]
    assert [one.id for one in gallery.persons(TODAY + datetime.timedelta(days=1))] == ["b"]
    assert gallery.over(TODAY) == []
    assert gallery.over(TODAY + datetime.timedelta(days=1)) == ["a"]
    assert gallery.purge(TODAY + datetime.timedelta(days=1)) == ["a"]
    assert gallery.remove("b")
    assert not gallery.remove("b")
    assert list(tmp_path.iterdir()) == []


def test_a_gallery_in_use_sees_what_another_process_enrols_and_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    once = gallery_module._read
    monkeypatch.setattr(gallery_module, "_read", lambda path: read.append(path.name) or once(path))
    in_use, elsewhere = Gallery(tmp_path), Gallery(tmp_path)
    assert in_use.persons(TODAY) == []
    elsewhere.add(person("a", face(1)))
    elsewhere.add(person("b", face(2)))
    assert [one.id for one in in_use.persons(TODAY)] == ["a", "b"]
    assert in_use.persons(TODAY) == in_use.persons(TODAY)
    assert len(read) == 2
    elsewhere.add(person("a", face(3)))
    assert in_use.persons(TODAY)[0].faces[0].tolist() == face(3).tolist()
    assert len(read) == 3
    assert elsewhere.remove("b")
    assert [one.id for one in in_use.persons(TODAY)] == ["a"]
    assert "b" not in {known.id for _, known in in_use._read_before.values()}


def test_who_is_forgotten_while_the_folder_is_read_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, elsewhere = Gallery(tmp_path), Gallery(tmp_path)
    for step in ("_stamp", "_read"):
        elsewhere.add(person("a", face(1)))
        elsewhere.add(person("b", face(2)))
        real = getattr(gallery_module, step)

        def forgotten_before(path: Path, real: Callable[[Path], object] = real) -> object:
            elsewhere.remove("b")
            return real(path)

        with monkeypatch.context() as patched:
            patched.setattr(gallery_module, step, forgotten_before)
            assert [one.id for one in gallery.persons(TODAY)] == ["a"]


def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    Gallery(tmp_path / "faces").add(person("../../outside", face(1)))
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "faces"]


def test_a_damaged_entry_is_an_error_and_not_a_missing_person(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.add(person("a", face(1)))
    next(tmp_path.iterdir()).write_text('{"id": "a"}')
    with pytest.raises(StorageError, match="is damaged"):
        gallery.persons(TODAY)


def test_vectors_for_the_prior_are_kept_and_forgotten_with_the_faces(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    rows = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pictures, names = Embedded(encoder="clip:1", vectors=rows), Embedded(encoder="text:1", vectors=rows[:1])
    gallery.add(replace(person("a", face(1)), pictures=pictures, names=names))
    (kept,) = gallery.persons(TODAY)
    assert (kept.pictures.encoder, kept.names.encoder) == ("clip:1", "text:1")
    np.testing.assert_allclose(kept.pictures.vectors, rows, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(kept.names.vectors, axis=1), 1, atol=1e-6)
    assert gallery.remove("a")
    assert list(tmp_path.iterdir()) == []


def test_a_gallery_from_before_the_prior_goes_on_working(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.add(person("a", face(1)))
    (path,) = tmp_path.iterdir()
    document = json.loads(path.read_text())
    for key in ("format", "pictures", "names"):
        del document[key]
    path.write_text(json.dumps(document))
    (kept,) = gallery.persons(TODAY)
    assert (kept.id, kept.pictures, kept.names) == ("a", None, None)
    np.testing.assert_array_equal(kept.faces, person("a", face(1)).faces)


def test_a_file_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    gallery.add(person("a", face(1)))
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    with pytest.raises(StorageError, match="format 3, which is newer"):
        gallery.persons(TODAY)


def test_the_nearest_person_and_how_far_the_second_is() -> None:
    matcher = Matcher([person("a", face(1), face(3)), person("b", face(2))])
    match = matcher.nearest(face(3) + face(2, 0.1))
    assert match is not None
    assert match.person == "a"
    assert match.distance == pytest.approx(0.1, abs=1e-6)
    assert match.margin == pytest.approx(np.hypot(1, 0.9) - 0.1, abs=1e-6)
    assert matcher.nearest(face(3), among=["b"]).person == "b"
    assert matcher.nearest(face(3), among=["c"]) is None


def test_one_person_alone_has_no_rival_and_nobody_matches_nobody() -> None:
    match = Matcher([person("a", face(1))]).nearest(face(1))
    assert match is not None
    assert match.margin == float("inf")
    assert Matcher([]).nearest(face(1)) is None
