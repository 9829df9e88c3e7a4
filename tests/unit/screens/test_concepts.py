"""Packs say what is looked for; what they cannot mean is refused with file and line, and nothing is unpickled."""

from __future__ import annotations

import datetime
import pickle
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from guardrails.concurrency import together
from guardrails.domain.findings import Action
from guardrails.errors import GuardrailsError, ModelUnavailable, PolicyError, ScreenUnavailable
from guardrails.policy.model import ScreenRule
from guardrails.screens.clip_concepts import ClipConcepts
from guardrails.screens.concepts import make_heads, read_pack, shipped_pack
from guardrails.screens.faces import Faces
from guardrails.screens.gallery import Gallery
from guardrails.screens.heads import Contrast, Linear, Mlp
from guardrails.screens.judge import judge
from guardrails.screens.marks import VisibleMarks
from guardrails.screens.run import run_screens
from guardrails.screens.views import views
from guardrails.testing.faces import Finder, enrol, vector
from guardrails.testing.spaces import DIM, DRILL, ENCODER, GUN, PHOTO, AxisEncoder, AxisWords, axis, cloud, unit

PICTURE = np.zeros((256, 256, 3), dtype=np.uint8)
HEADER = "api_version: concepts/v1\nid: p\nversion: '1'\nowner: o\nconcepts:\n"


def write(path: Path, concept: str) -> Path:
    path.write_text(f"{HEADER}  - {concept}\n")
    return path


def rule(threshold: float) -> ScreenRule:
    return ScreenRule(id="W-1", category="weapons", action=Action.BLOCK, message="A weapon.", screen="clip-concepts",
                      concept="weapon", threshold=threshold, error_rate="", when_unavailable=Action.REVIEW)  # fmt: skip


def gun_in_a_photo(share: float) -> np.ndarray:
    return unit(axis(PHOTO) + share * axis(GUN))


def test_text_concept_must_come_nearer_than_what_is_mistaken_for_it(pack_file: Path) -> None:
    (head,) = make_heads(read_pack(pack_file), ENCODER, DIM, AxisWords())
    assert isinstance(head, Contrast)
    assert (head.positives @ axis(GUN)).max() == pytest.approx(1)
    assert [(head.negatives @ axis(number)).max() for number in (DRILL, 4, GUN)] == pytest.approx([1, 1, 0])


def test_a_concept_is_found_and_explained(pack_file: Path, references: Path) -> None:
    encoder = AxisEncoder(gun_in_a_photo(0.5))
    screen = ClipConcepts(packs=[read_pack(pack_file)], encoder=encoder, references=references)
    reading = screen.score(PICTURE)
    assert reading.scores["weapon"] > 0.98
    evidence = reading.evidence["weapon"]
    assert evidence["nearest"] == [["gun", pytest.approx(0.447, abs=1e-3)]]
    assert (evidence["domain"], evidence["calibrated_on"], evidence["box"]) == ("photographs", 400, [0, 0, 256, 256])
    (nearest, cosine), *others = evidence["nearest_safe"]
    assert nearest.startswith("photographs ")
    assert [cosine, *(one for _, one in others)] == sorted((one for _, one in evidence["nearest_safe"]), reverse=True)
    assert len(others) == 2
    assert ClipConcepts(
        packs=[read_pack(pack_file)], encoder=AxisEncoder(gun_in_a_photo(0)), references=references
    ).score(PICTURE).scores["weapon"] < 0.95  # fmt: skip


def test_the_tile_that_caused_it_is_named(pack_file: Path, references: Path) -> None:
    plain, gun = gun_in_a_photo(0), gun_in_a_photo(0.9)
    encoder = AxisEncoder(*[plain] * 6, gun, plain)
    screen = ClipConcepts(packs=[read_pack(pack_file)], encoder=encoder, references=references)
    reading = screen.score(np.zeros((128, 512, 3), dtype=np.uint8))
    assert reading.evidence["weapon"]["box"] == [320, 0, 448, 128]


@pytest.mark.parametrize("width", [400, 1200, 3200])
def test_a_weapon_at_the_end_of_a_panorama_is_found_however_long_it_is(
    pack_file: Path, references: Path, width: int
) -> None:
    panorama = np.zeros((160, width, 3), dtype=np.uint8)
    plain, gun = axis(PHOTO), unit(axis(PHOTO) + axis(GUN))
    count = len(views(panorama))
    screen = ClipConcepts(
        packs=[read_pack(pack_file)], encoder=AxisEncoder(*[plain] * (count - 1), gun), references=references
    )
    (check,) = run_screens([screen], panorama)
    assert check.scores["weapon"] == check.ceilings["weapon"] == pytest.approx(0.985, abs=0.001)
    assert check.evidence["weapon"]["views"] == count
    assert check.evidence["weapon"]["rate_of_all_views"] == pytest.approx(min(1, count * 0.015), abs=0.01)
    (finding,) = judge([check], [rule(0.97)])
    assert (finding.action, finding.evidence["box"][2]) == (Action.BLOCK, width)
    # 400 references cannot speak about one in a hundred: not known, not passed.
    (finding,) = judge([check], [rule(0.99)])
    assert (finding.action, finding.score) == (Action.REVIEW, None)


def test_small_and_strange_pictures_get_no_score(pack_file: Path, references: Path) -> None:
    screen = ClipConcepts(packs=[read_pack(pack_file)], encoder=AxisEncoder(axis(9)), references=references)
    small = screen.score(np.zeros((127, 400, 3), dtype=np.uint8))
    strange = screen.score(PICTURE)
    assert small.scores == strange.scores == {}
    assert "127 pixels" in small.abstained["weapon"]
    assert "unlike all pictures" in strange.abstained["weapon"]


def test_an_expired_pack_is_not_known_instead_of_passed(pack_file: Path, references: Path) -> None:
    pack_file.write_text(pack_file.read_text().replace("owner: tests", "owner: tests\nexpires: 2020-01-31"))
    pack = read_pack(pack_file)
    assert pack.expired(datetime.date(2020, 2, 1))
    assert not pack.expired(datetime.date(2020, 1, 31))
    screen = ClipConcepts(packs=[pack], encoder=AxisEncoder(gun_in_a_photo(0.5)), references=references)
    reading = screen.score(PICTURE)
    assert reading.scores == {}
    assert "expired on 2020-01-31" in reading.abstained["weapon"]


def test_a_concept_is_added_while_running_in_under_100_ms(pack_file: Path, tmp_path: Path, references: Path) -> None:
    screen = ClipConcepts(packs=[read_pack(pack_file)], encoder=AxisEncoder(gun_in_a_photo(0.5)), references=references)
    screen.score(PICTURE)
    before = screen.component
    added = write(tmp_path / "more.yaml", "{id: tool, kind: text, category: x, action: flag, phrases: [drill]}")
    start = time.process_time()
    screen.use([read_pack(pack_file), read_pack(added)])
    assert time.process_time() - start < 0.1
    assert set(screen.score(PICTURE).scores) == {"weapon", "tool"}
    assert screen.component.digest != before.digest


def test_a_picture_under_way_is_read_by_the_concepts_that_it_was_seen_with(
    pack_file: Path, tmp_path: Path, references: Path
) -> None:
    added = write(tmp_path / "more.yaml", "{id: tool, kind: text, category: x, action: flag, phrases: [drill]}")

    class Interrupted(AxisEncoder):
        def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
            screen.use([read_pack(added)])
            return super().embed(images)

    screen = ClipConcepts(
        packs=[read_pack(pack_file), read_pack(added)],
        encoder=Interrupted(gun_in_a_photo(0.5)),
        references=references,
    )
    assert set(screen.score(PICTURE).scores) == {"weapon", "tool"}
    assert set(screen.score(PICTURE).scores) == {"tool"}


def test_screens_that_look_at_the_same_time_load_one_encoder(references: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[AxisEncoder] = []

    def slowly(_: str) -> AxisEncoder:
        time.sleep(0.05)
        loaded.append(AxisEncoder(axis(PHOTO)))
        return loaded[-1]

    monkeypatch.setattr("guardrails.screens.clip_concepts.load_encoder", slowly)
    screen = ClipConcepts(references=references)
    assert set(together(*[screen.encoder] * 4)) == set(loaded)
    assert len(loaded) == 1


def test_a_pack_that_does_not_fit_leaves_the_old_one_in_use(pack_file: Path, tmp_path: Path, references: Path) -> None:
    screen = ClipConcepts(packs=[read_pack(pack_file)], encoder=AxisEncoder(axis(PHOTO)), references=references)
    save_file({"a.weight": np.ones(3, np.float32), "a.bias": np.zeros(1, np.float32)}, tmp_path / "w.safetensors",
              metadata={"encoder": ENCODER})  # fmt: skip
    wrong = write(tmp_path / "wrong.yaml", "{id: a, kind: linear, category: x, action: flag, weights: w.safetensors}")
    with pytest.raises(ScreenUnavailable, match="no linear head for 'a' over 16 numbers"):
        screen.use([read_pack(wrong)])
    assert set(screen.score(PICTURE).scores) == {"weapon"}


def test_a_picture_under_way_is_scored_by_the_packs_that_it_was_begun_with(
    pack_file: Path, tmp_path: Path, references: Path
) -> None:
    """Also when the packs change while the encoder looks at it."""
    old = read_pack(pack_file)
    path = tmp_path / "new.yaml"
    path.write_text(pack_file.read_text().replace("weapon", "flower").replace("[gun]", "[flower]"))
    new = read_pack(path)

    class Changing(AxisEncoder):
        def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
            screen.use([new])
            return super().embed(images)

    screen = ClipConcepts(packs=[old], encoder=Changing(gun_in_a_photo(0.5)), references=references)
    before = screen.component
    (check,) = run_screens([screen], PICTURE)
    assert check.scores == {"weapon": pytest.approx(0.985, abs=0.001)}
    assert check.evidence["weapon"]["nearest"][0][0] == "gun"
    assert check.component == before
    (check,) = run_screens([screen], np.ones_like(PICTURE))
    assert set(check.scores) == {"flower"}
    assert check.component != before


def test_weights_that_were_exchanged_after_the_pack_was_read_are_refused(tmp_path: Path) -> None:
    """The record of a picture would name the pack by the digest of other weights."""
    weights = tmp_path / "w.safetensors"
    save_file({"c.weight": axis(GUN), "c.bias": np.zeros(1, np.float32)}, weights, metadata={"encoder": ENCODER})
    pack = read_pack(
        write(tmp_path / "p.yaml", "{id: c, kind: linear, category: x, action: flag, weights: w.safetensors}")
    )
    save_file({"c.weight": axis(DRILL), "c.bias": np.zeros(1, np.float32)}, weights, metadata={"encoder": ENCODER})
    with pytest.raises(ScreenUnavailable, match="has changed since the pack p was read"):
        make_heads(pack, ENCODER, DIM, None)


def test_examples_of_another_width_are_refused_before_they_are_to_explain_anything(tmp_path: Path) -> None:
    tensors = {"c.weight": axis(GUN), "c.bias": np.zeros(1, np.float32), "c.examples": np.ones((3, 5), np.float32)}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"encoder": ENCODER})
    path = write(tmp_path / "p.yaml", "{id: c, kind: linear, category: x, action: flag, weights: w.safetensors}")
    with pytest.raises(ScreenUnavailable, match=r"over 16 numbers: .*examples \(3, 5\)"):
        make_heads(read_pack(path), ENCODER, DIM, None)


OF_TWO = {
    "text": "{id: c, kind: text, category: x, action: flag, phrases: [gun]}",
    "ocr": "{id: c, kind: ocr, category: x, action: flag, words: [alamy]}",
    "face": "{id: c, kind: face, category: x, action: flag, persons: [a]}",
}


@pytest.mark.parametrize("kind", OF_TWO)
def test_a_concept_of_one_pack_never_hides_one_of_another(kind: str, tmp_path: Path, references: Path) -> None:
    one, other = (read_pack(write(tmp_path / f"{name}.yaml", OF_TWO[kind])) for name in "ab")
    make = {
        "text": lambda packs: ClipConcepts(packs=packs, encoder=AxisEncoder(axis(PHOTO)), references=references),
        "ocr": lambda packs: VisibleMarks(packs=packs),
        "face": lambda packs: Faces(Gallery(tmp_path), packs=packs),
    }[kind]
    make([one])
    with pytest.raises(PolicyError, match="calls a concept `c`, and so does the pack p"):
        make([one, other])


def test_packs_cannot_take_the_concepts_that_the_faces_have_for_themselves(tmp_path: Path) -> None:
    for name in ("enrolled", "named-in-prompt", "not-named-in-prompt"):
        pack = read_pack(write(tmp_path / "p.yaml", OF_TWO["face"].replace("id: c", f"id: {name}")))
        with pytest.raises(PolicyError, match="the screen itself"):
            Faces(Gallery(tmp_path), packs=[pack])


def test_words_and_persons_of_an_expired_pack_are_not_known_either(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        HEADER.replace("owner: o", "owner: o\nexpires: 2020-01-31")
        + "".join(f"  - {OF_TWO[kind].replace('id: c', f'id: {kind}')}\n" for kind in ("ocr", "face"))
    )
    packs = [read_pack(path)]
    marks = VisibleMarks(packs=packs).score(PICTURE)
    assert (marks.scores, dict(marks.abstained)) == ({}, {"ocr": "the concept pack p expired on 2020-01-31"})
    gallery = enrol(tmp_path / "faces", a=vector(1))
    faces = Faces(gallery, packs=packs, finder=Finder(vector(1))).score(PICTURE)
    assert (set(faces.scores), dict(faces.abstained)) == (
        {"enrolled"},
        {"face": "the concept pack p expired on 2020-01-31"},
    )


def test_a_pack_goes_on_working_with_another_encoder_without_the_weights_of_the_first(
    pack_file: Path, tmp_path: Path, references: Path
) -> None:
    """As the shipped pack does with a model of the hub: its words are read, the learned prompts are not known."""
    tensors, _ = TENSORS["prompts"]
    save_file(tensors, tmp_path / "w.safetensors", metadata={"encoder": "clip-of-somebody-else"})
    learned = "  - {id: c, kind: prompts, category: x, action: flag, weights: w.safetensors}\n"
    pack_file.write_text(pack_file.read_text() + learned)
    screen = ClipConcepts(packs=[read_pack(pack_file)], encoder=AxisEncoder(gun_in_a_photo(0.5)), references=references)
    reading = screen.score(PICTURE)
    assert set(reading.scores) == {"weapon"}
    assert dict(reading.abstained) == {"c": "its weights belong to encoder clip-of-somebody-else, not to test-axes:1"}
    alone = tmp_path / "alone.yaml"
    alone.write_text(HEADER + learned)
    with pytest.raises(ScreenUnavailable, match="no concept of the packs") as caught:
        screen.use([read_pack(alone)])
    assert "clip-of-somebody-else" in caught.value.hint
    assert set(screen.score(PICTURE).scores) == {"weapon"}


def test_packs_without_concepts_of_vectors_say_so(tmp_path: Path, references: Path) -> None:
    pack = read_pack(write(tmp_path / "p.yaml", OF_TWO["ocr"]))
    screen = ClipConcepts(packs=[pack], encoder=AxisEncoder(axis(PHOTO)), references=references)
    with pytest.raises(ScreenUnavailable, match="no concept of the packs is looked for in vectors"):
        screen.score(PICTURE)


def test_missing_safe_pictures_are_named(tmp_path: Path, pack_file: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"none\.npz cannot be read"):
        ClipConcepts(packs=[read_pack(pack_file)], references=tmp_path / "none.npz")


def test_references_of_another_encoder_are_refused(pack_file: Path, references: Path) -> None:
    encoder = AxisEncoder(axis(PHOTO))
    encoder.id = "test-axes:2"
    with pytest.raises(ScreenUnavailable, match="were embedded by test-axes:1, not by test-axes:2"):
        ClipConcepts(packs=[read_pack(pack_file)], encoder=encoder, references=references).score(PICTURE)


TENSORS = {
    "linear": ({"c.weight": axis(GUN), "c.bias": np.array([0.5], np.float32)}, Linear),
    "mlp": (
        {
            "c.0.weight": np.ones((4, DIM), np.float32),
            "c.0.bias": np.zeros(4, np.float32),
            "c.1.weight": np.ones((1, 4), np.float32),
            "c.1.bias": np.zeros(1, np.float32),
        },
        Mlp,
    ),
    "exemplar": ({"c.positives": cloud(axis(GUN), 3, 1)}, Contrast),
    "prompts": ({"c.positives": cloud(axis(GUN), 1, 1), "c.negatives": cloud(axis(DRILL), 1, 1)}, Contrast),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_every_kind_of_weights_becomes_a_head(kind: str, tmp_path: Path) -> None:
    tensors, head_type = TENSORS[kind]
    save_file(tensors, tmp_path / "w.safetensors", metadata={"encoder": ENCODER})
    path = write(tmp_path / "p.yaml", f"{{id: c, kind: {kind}, category: x, action: flag, weights: w.safetensors}}")
    (head,) = make_heads(read_pack(path), ENCODER, DIM, None)
    assert isinstance(head, head_type)


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_of_another_width_or_encoder_are_refused(kind: str, tmp_path: Path) -> None:
    tensors, _ = TENSORS[kind]
    save_file(tensors, tmp_path / "w.safetensors", metadata={"encoder": ENCODER})
    path = write(tmp_path / "p.yaml", f"{{id: c, kind: {kind}, category: x, action: flag, weights: w.safetensors}}")
    with pytest.raises(ScreenUnavailable, match="over 17 numbers"):
        make_heads(read_pack(path), ENCODER, DIM + 1, None)
    with pytest.raises(ScreenUnavailable, match="belongs to encoder test-axes:1, not to other"):
        make_heads(read_pack(path), "other", DIM, None)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (opened,))

    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Trap()))
    path = write(tmp_path / "p.yaml", "{id: c, kind: linear, category: x, action: flag, weights: w.safetensors}")
    with pytest.raises(ScreenUnavailable, match="no safetensors file"):
        make_heads(read_pack(path), ENCODER, DIM, None)
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(PolicyError, match="cannot hold weights here"):
        read_pack(write(path, "{id: c, kind: linear, category: x, action: flag, weights: w.pth}"))
    assert not opened.exists()


@pytest.mark.parametrize(
    ("concept", "message"),
    [
        ("{id: c, kind: text, category: x, action: flag}", "needs `phrases`"),
        ("{id: c, kind: ocr, category: x, action: flag}", "needs `words`"),
        ("{id: c, kind: linear, category: x, action: flag}", "needs `weights`"),
        ("{id: c, kind: dream, category: x, action: flag}", "`dream` is not known"),
        ("{id: c, kind: text, category: x, action: shout, phrases: [a]}", "`shout` is not known"),
        ("{id: c, kind: text, category: x, action: flag, phrase: [a], phrases: [a]}", "unknown key `phrase`"),
        ("{id: c, kind: linear, category: x, action: flag, weights: ../w.safetensors}", "cannot hold weights"),
        ("{id: c, kind: linear, category: x, action: flag, weights: w, phrases: [a]}", "unknown key `phrases`"),
        ("{id: c, kind: exemplar, category: x, action: flag, weights: w, negatives: [a]}", "unknown key `negatives`"),
        ("{id: c, kind: text, category: x, action: flag, phrases: [a], weights: w}", "unknown key `weights`"),
        ("{id: c, kind: ocr, category: x, action: flag, words: [a], persons: [b]}", "unknown key `persons`"),
    ],
)
def test_what_a_pack_cannot_mean_is_refused_with_its_place(concept: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        read_pack(write(tmp_path / "p.yaml", concept))
    assert f"{tmp_path / 'p.yaml'}:6:" in caught.value.message


def test_an_empty_pack_and_equal_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(HEADER.replace("concepts:\n", "concepts: []\n"))
    with pytest.raises(PolicyError, match="looks for nothing"):
        read_pack(path)
    one = "  - {id: c, kind: text, category: x, action: flag, phrases: [gun]}\n"
    path.write_text(HEADER + one + one)
    with pytest.raises(PolicyError, match="two concepts are called `c`"):
        read_pack(path)


def test_words_need_a_text_side(pack_file: Path) -> None:
    with pytest.raises(GuardrailsError, match="no text side"):
        make_heads(read_pack(pack_file), ENCODER, DIM, None)


def test_the_shipped_pack_covers_the_categories_and_blocks_nothing_by_itself() -> None:
    pack = shipped_pack()
    assert {"weapons", "violence", "hate", "self_harm", "drugs", "sexual", "trademark"} <= {
        concept.category for concept in pack.concepts
    }
    assert all(concept.action < Action.BLOCK for concept in pack.concepts)
    assert len(pack.digest) == 64
