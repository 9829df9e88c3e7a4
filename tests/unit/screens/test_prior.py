"""What whole pictures say about enrolled persons: a calibrated hint, from one pass, silent where it has nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from guardrails.errors import ModelUnavailable
from guardrails.screens import clip_concepts, default_screens, run_screens
from guardrails.screens.clip_concepts import ClipConcepts
from guardrails.screens.concepts import Concept, read_pack
from guardrails.screens.faces import EVERYBODY, FaceFinder, Faces
from guardrails.screens.gallery import Embedded, Gallery, Person
from guardrails.screens.prior import (
    ANYBODY,
    NAME,
    PHRASE,
    PICTURES,
    POINTS_AT,
    Hint,
    Prior,
    embed_names,
    embed_pictures,
)
from guardrails.screens.references import pack_references
from guardrails.testing.spaces import DRAWING, ENCODER, PHOTO, AxisEncoder, axis, cloud, safe_pictures, unit

PICTURE = np.zeros((160, 160, 3), dtype=np.uint8)
JANE, JOHN, NAMES = 7, 8, 9
SOME = Concept(id="some", kind="face", category="public_figures", action=EVERYBODY.action, persons=("john",))


class Words:
    """Reads phrases for anybody along the photographs' axis, and every name along `NAMES` too."""

    id = "test-names:1"
    dim = 16

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return unit(np.stack([axis(PHOTO) + (0.0 if text in ANYBODY else axis(NAMES)) for text in texts]))


class Encoder(AxisEncoder):
    text = Words()


def portrait(of: int, seed: int = 1) -> np.ndarray:
    return cloud(axis(PHOTO) + 0.6 * axis(of), 1, seed, 0.05)[0]


def person(person_id: str, of: int | None, *, encoder: str = ENCODER, names: Embedded | None = None) -> Person:
    pictures = None if of is None else Embedded(encoder=encoder, vectors=portrait(of, 2)[np.newaxis])
    return Person(
        id=person_id,
        faces=np.zeros((1, 128), np.float32),
        born="1970-01-01",
        legal_basis="consent",
        note="n",
        keep_until="2999-01-01",
        enrolled_on="2026-01-01",
        sources=(),
        pictures=pictures,
        names=names,
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough safe pictures to state one in a hundred."""
    path = tmp_path_factory.mktemp("references") / "references.npz"
    domains = {"photographs": cloud(axis(PHOTO), 800, 1), "drawings": cloud(axis(DRAWING), 800, 2)}
    path.write_bytes(pack_references(ENCODER, domains))
    return path


def look(references: Path, picture: np.ndarray, *people: Person, concepts: Sequence[Concept] = (EVERYBODY,)) -> Hint:
    prior = Prior(ClipConcepts(packs=[], encoder=Encoder(picture), references=references))
    return prior.look(PICTURE, people, concepts)


def test_a_picture_like_that_of_an_enrolled_person_points_and_a_safe_one_does_not(many: Path) -> None:
    people = (person("jane", JANE), person("john", JOHN))
    hint = look(many, portrait(JANE), *people)
    assert hint.points("enrolled")
    assert hint.persons["jane"][PICTURES] >= POINTS_AT > hint.persons["john"][PICTURES]
    assert hint.nearest(()) == [{"person": "jane", PICTURES: round(hint.persons["jane"][PICTURES], 4)}]
    safe = [look(many, row, *people).points("enrolled") for row in cloud(axis(PHOTO), 100, 3)]
    assert sum(safe) <= 1


def test_the_rate_of_a_concept_holds_however_many_are_enrolled(many: Path) -> None:
    crowd = [person(str(number), 3 + number % 12) for number in range(60)]
    pictures = cloud(axis(PHOTO), 200, 4)
    prior = Prior(ClipConcepts(packs=[], encoder=(encoder := Encoder(pictures[0])), references=many))
    pointed = 0
    for number, row in enumerate(pictures):
        encoder._vectors = (row,)
        pointed += prior.look(np.full((160, 160, 3), number, np.uint8), crowd, [EVERYBODY]).points("enrolled")
    assert pointed <= 2


def test_a_concept_is_pointed_at_by_its_own_persons_alone(many: Path) -> None:
    hint = look(many, portrait(JANE), person("jane", JANE), person("john", JOHN), concepts=[EVERYBODY, SOME])
    assert hint.points("enrolled")
    assert not hint.points("some")
    assert hint.nearest(SOME.persons) == []


def test_a_name_is_compared_with_phrases_for_anybody(many: Path) -> None:
    names = embed_names(Words(), ["Jane Doe", "J. Doe"])
    assert names.vectors.shape == (2, 16)
    hint = look(many, portrait(NAMES), person("jane", None, names=names))
    assert hint.points("enrolled")
    said = hint.of("jane")
    assert (said[NAME], said["text_side"]) == (round(hint.persons["jane"][NAME], 4), Words.id)
    assert PICTURES not in said
    assert not look(many, cloud(axis(PHOTO), 1, 9)[0], person("jane", None, names=names)).points("enrolled")
    assert "Jane" not in repr(hint)
    assert PHRASE.format("x") not in ANYBODY


def test_the_offline_text_side_is_called_weak(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guardrails.encoders.lit_text import LitText

    class Read(Words):
        pass

    weak = LitText(id="lit", reader=Read(), projection=np.eye(16, dtype=np.float32), bias=np.zeros(16, np.float32))
    monkeypatch.setattr(Encoder, "text", weak)
    hint = look(many, portrait(JANE), person("jane", None, names=embed_names(weak, ["Jane Doe"])))
    assert hint.of("jane")["text_side"] == "lit, weak"


def test_vectors_of_another_encoder_and_old_enrolments_say_nothing_and_say_so(many: Path) -> None:
    old, foreign = person("old", None), person("foreign", JANE, encoder="another:1")
    hint = look(many, portrait(JANE), old, foreign)
    assert not hint.points("enrolled")
    assert "nobody is enrolled with vectors" in hint.unavailable
    beside = look(many, portrait(JOHN), old, person("john", JOHN))
    assert beside.points("enrolled")
    assert "enrol again" in str(beside.of("old")["not_available"])


def test_without_an_encoder_there_is_no_prior(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(spec: str) -> None:
        raise ModelUnavailable("the weights are not installed")

    monkeypatch.setattr(clip_concepts, "load_encoder", missing)
    hint = Prior(ClipConcepts(packs=[], references=many)).look(PICTURE, [person("jane", JANE)], [EVERYBODY])
    assert hint == Hint(unavailable="the weights are not installed")


def test_too_few_safe_pictures_cannot_point(tmp_path: Path) -> None:
    (tmp_path / "few.npz").write_bytes(safe_pictures())
    hint = look(tmp_path / "few.npz", portrait(JANE), person("jane", JANE))
    assert "never reached" in hint.unavailable
    assert not hint.points("enrolled")


def test_a_picture_unlike_all_safe_ones_is_compared_without_the_promise_of_a_rate(many: Path) -> None:
    far = unit(axis(PHOTO) + 3 * axis(JANE))
    hint = look(many, far, person("jane", JANE))
    assert hint.of("jane")["outside"] is True


def test_the_default_screens_share_one_pass(
    many: Path, pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(AxisEncoder):
        def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
            # Long enough for the other screen, which runs at the same time, to ask meanwhile.
            time.sleep(0.3)
            return super().embed(images)

    encoder = Slow(portrait(JANE))
    monkeypatch.setattr(clip_concepts, "load_encoder", lambda _: encoder)
    monkeypatch.setattr(clip_concepts, "datasets_path", lambda *_: many)
    monkeypatch.setattr(FaceFinder, "find", lambda *_, **__: [])
    Gallery(tmp_path / "faces").add(person("jane", JANE))
    screens = default_screens(packs=[read_pack(pack_file)], gallery=tmp_path / "faces")
    checks = run_screens([one for one in screens if isinstance(one, (ClipConcepts, Faces))], PICTURE)
    assert [check.component.name for check in checks] == ["clip-concepts", "faces"]
    assert "weapon" in checks[0].scores
    assert "like pictures of enrolled persons" in checks[1].abstained["enrolled"]
    assert len(encoder.seen) == 1


def test_no_picture_is_taken_for_the_one_before_in_the_same_array(many: Path) -> None:
    encoder, pixels = Encoder(portrait(JANE)), PICTURE.copy()
    prior = Prior(ClipConcepts(packs=[], encoder=encoder, references=many))
    assert prior.look(pixels, [person("jane", JANE)], [EVERYBODY]).points("enrolled")
    pixels[:] = 9
    encoder._vectors = (cloud(axis(PHOTO), 1, 5)[0],)
    assert not prior.look(pixels, [person("jane", JANE)], [EVERYBODY]).points("enrolled")
    assert len(encoder.seen) == 2


def test_who_is_enrolled_or_forgotten_counts_from_the_next_picture_on(many: Path) -> None:
    prior = Prior(ClipConcepts(packs=[], encoder=Encoder(portrait(JANE)), references=many))
    john, jane = person("john", JOHN), person("jane", JANE)
    assert not prior.look(PICTURE, [john], [EVERYBODY]).points("enrolled")
    assert prior.look(PICTURE, [john, jane], [EVERYBODY]).points("enrolled")
    assert not prior.look(PICTURE, [john], [EVERYBODY]).points("enrolled")


def test_what_an_enrolment_keeps_names_its_encoder() -> None:
    kept = embed_pictures(Encoder(portrait(JANE)), [PICTURE, PICTURE])
    assert (kept.encoder, kept.vectors.shape) == (ENCODER, (2, 16))
