"""Pictures made from pictures: the original is checked, screened, and becomes the parent."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardrails import home as homes
from guardrails.domain.images import ManifestStatus, ManifestVerdict
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import ImageError, OptionError
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.editing import DiffusersEditor
from guardrails.pipeline import Guard, Original, Sealed
from guardrails.policy import load_policy
from guardrails.provenance import TrustStore, Verifier
from guardrails.screens.faces import Faces
from guardrails.screens.protocol import Reading
from guardrails.similarity.banks import Role
from guardrails.similarity.hash_lists import RULE
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import ShapeGenerator, draw_shapes, fixed_screen, passing_screens
from guardrails.testing.faces import Finder, enrol, vector
from guardrails.testing.pipelines import tiny_pipeline

REQUEST = PromptRequest(prompt="a red apple", seed=3)


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def window(side: int = 256) -> bytes:
    pixels = np.full((side, side, 4), 255, np.uint8)
    pixels[side // 4 : side // 2, side // 4 : side // 2, 3] = 0
    return png(pixels)


def test_the_original_is_the_parent_and_stands_in_the_record(guard: Guard) -> None:
    first = guard.generate("a red apple", seed=1)
    assert isinstance(first, Sealed)
    (edited,) = guard.generate_all(REQUEST, original=Original.read(first.data, strength=0.7))
    assert isinstance(edited, Sealed)
    assert edited.manifest.status is ManifestStatus.TRUSTED
    assert edited.manifest.ancestry == (f"{first.id.urn} (parentOf): no objection",)
    logged = guard.ledger.find_by_id(str(edited.id))
    assert logged is not None
    assert logged.record.facts["parent"] == {
        "sha256": first.sha256,
        "manifest_id": first.id.urn,
        "manifest": "trusted",
        "mark_id": first.id.mark_id,
        "strength": 0.7,
        "masked": False,
    }


def test_outside_the_mask_the_original_stays(guard: Guard) -> None:
    below = draw_shapes(5)
    (edited,) = guard.generate_all(REQUEST, original=Original.read(png(below), mask=window(), strength=1.0))
    assert isinstance(edited, Sealed)
    difference = np.abs(edited.pixels.astype(int) - below)
    assert difference[:48].mean() < 6
    assert difference[70:120, 70:120].mean() > 20


def test_an_original_that_was_tampered_with_is_refused_before_anything_is_drawn(guard: Guard) -> None:
    first = guard.generate("a red apple", seed=1, format="jpeg")
    assert isinstance(first, Sealed)
    data = bytearray(first.data)
    data[-200] ^= 0xFF
    size = len(guard.ledger)
    with pytest.raises(ImageError):
        guard.generate_all(REQUEST, original=Original.read(bytes(data)))
    assert len(guard.ledger) == size


def test_an_original_that_a_screen_blocks_is_refused(home: Path, guard_in: Callable[..., Guard]) -> None:
    screens = (fixed_screen("open-nsfw", nsfw=0.99), *passing_screens()[1:])
    guard = guard_in(home, screens=screens)
    (outcome,) = guard.generate_all(REQUEST, original=Original.read(png(draw_shapes(5))))
    assert isinstance(outcome, Refusal)
    assert (outcome.stage, outcome.findings[0].rule) == (Stage.SCREENING, "SCREEN-NSFW-01")


@pytest.mark.parametrize(
    ("shown", "prompt", "rule"),
    [(9, "a red apple", ""), (1, "a red apple", "FACE-02"), (1, "Joe Biden eats a red apple", "FACE-01")],
)
def test_persons_of_an_original_are_joined_with_the_prompt(
    home: Path, guard_in: Callable[..., Guard], shown: int, prompt: str, rule: str
) -> None:
    faces = Faces(enrol(home / "faces", **{"enwiki:Joe_Biden": vector(1)}), finder=Finder(vector(shown)))
    guard = guard_in(home, screens=(*passing_screens(), faces), policy=load_policy("public-figures-by-face"))
    original = Original.read(png(draw_shapes(5)))
    (outcome,) = guard.generate_all(replace(REQUEST, prompt=prompt), original=original)
    if rule:
        assert isinstance(outcome, Refusal)
        assert (outcome.stage, outcome.findings[0].rule) == (Stage.SCREENING, rule)
    else:
        assert isinstance(outcome, Sealed)


def test_an_original_too_small_for_a_mark_can_be_changed(guard: Guard) -> None:
    (edited,) = guard.generate_all(REQUEST, original=Original.read(png(draw_shapes(5, 16)[:1, :1])))
    assert isinstance(edited, Sealed)


def test_a_generator_that_cannot_edit_says_so(home: Path, guard_in: Callable[..., Guard]) -> None:
    class Plain:
        draw = ShapeGenerator().draw

    with pytest.raises(OptionError, match="cannot change pictures"):
        guard_in(home, Plain()).generate_all(REQUEST, original=Original.read(png(draw_shapes(5))))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"strength": 0.0}, OptionError),
        ({"strength": 1.5}, OptionError),
        ({"mask": window(128)}, ImageError),
        ({"mask": png(draw_shapes(1))}, ImageError),
        ({"mask": b"nothing"}, ImageError),
    ],
)
def test_what_no_original_can_be(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Original.read(png(draw_shapes(5)), **options)


@pytest.mark.parametrize("masked", [False, True])
def test_a_diffusers_pipeline_changes_pictures_with_its_own_weights(masked: bool) -> None:
    generator = DiffusersGenerator(tiny_pipeline("sd1"), name="tiny", device="cpu")
    editor = DiffusersEditor(generator)
    request = PromptRequest(prompt="a fox", seed=3, count=2, steps=4)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    drawn = editor.edit(request, "a fox", draw_shapes(1, 64), 0.8, mask if masked else None)
    assert [one.facts.seed for one in drawn] == [3, 4]
    assert drawn[0].pixels.shape == (64, 64, 3)
    assert ("Inpaint" if masked else "Img2Img") in drawn[0].facts.pipeline
    assert not np.array_equal(drawn[0].pixels, drawn[1].pixels)
    again = editor.edit(request, "a fox", draw_shapes(1, 64), 0.8, mask if masked else None)
    assert np.array_equal(drawn[0].pixels, again[0].pixels)


def hidden(beneath: Any) -> bytes:
    """A file that is white wherever transparency is drawn, and shows a picture where software drops it."""
    return png(np.dstack([beneath, np.zeros(beneath.shape[:2], np.uint8)]))


class Recognising:
    """A screen that objects to one picture."""

    component = fixed_screen("open-nsfw").component

    def __init__(self, pixels: Any) -> None:
        self._pixels = pixels

    def score(self, pixels: Any) -> Reading:
        return Reading(scores={"nsfw": 0.99 if np.array_equal(pixels, self._pixels) else 0.01})


def test_what_an_original_hides_under_its_transparency_is_screened(home: Path, guard_in: Callable[..., Guard]) -> None:
    beneath = draw_shapes(5)
    guard = guard_in(home, screens=(Recognising(beneath), *passing_screens()[1:]))
    (outcome,) = guard.generate_all(REQUEST, original=Original.read(hidden(beneath)))
    assert isinstance(outcome, Refusal)
    assert (outcome.stage, outcome.findings[0].rule) == (Stage.SCREENING, "SCREEN-NSFW-01")


def test_what_an_original_hides_is_looked_up_in_hash_lists(home: Path, guard_in: Callable[..., Guard]) -> None:
    bank_of(homes.hash_lists_folder(home) / "example-list", Role.SENSITIVE, {"entry-17": draw_shapes(5)})
    (outcome,) = guard_in(home).generate_all(REQUEST, original=Original.read(hidden(draw_shapes(5))))
    assert isinstance(outcome, Refusal)
    assert outcome.findings[0].rule == RULE


def test_a_fault_while_the_history_is_read_is_a_recorded_refusal(home: Path, guard_in: Callable[..., Guard]) -> None:
    class Broken(Verifier):
        def verify(self, data: bytes) -> ManifestVerdict:
            raise RuntimeError("out of handles")

    guard = guard_in(home, verifier=Broken(TrustStore.dev(homes.keys_folder(home))))
    (outcome,) = guard.generate_all(REQUEST, original=Original.read(png(draw_shapes(5))))
    assert isinstance(outcome, Refusal)
    assert (outcome.stage, outcome.fault) == (Stage.PROVENANCE, "RuntimeError: out of handles")
    assert guard.ledger.holds(outcome.id)
