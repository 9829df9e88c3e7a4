from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardrails.imaging import Pixels
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.attacks import Transform, boxed, hue_turned, saturated
from guardrails.watermark.binding import SAME_PICTURE, EdgeMap
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

MARK_ID = "00000000000000aa"


@pytest.fixture(scope="module")
def mark() -> PixelMark:
    return PixelMark(Keyring(bytes(range(32))))


def rotated(degrees: float) -> Callable[[Pixels], Pixels]:
    return lambda p: np.asarray(Image.fromarray(p).rotate(degrees, Image.Resampling.BICUBIC))


def attack(transform: Transform) -> Callable[[Pixels], Pixels]:
    return lambda p: transform(p, np.random.default_rng(0))


EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda p: p,
    "half size": lambda p: np.asarray(Image.fromarray(p).resize((p.shape[1] // 2, p.shape[0] // 2))),
    "mirror": lambda p: p[:, ::-1],
    "quarter turn": np.rot90,
    "turned and mirrored": lambda p: np.rot90(p, 3)[:, ::-1],
    "half of the area": lambda p: p[90:452, 130:492],
    "a bar on top": lambda p: np.concatenate([np.full((76, p.shape[1], 3), 255, np.uint8), p]),
    "rotated by 5": rotated(5),
    "rotated by -11": rotated(-11),
    "darker": lambda p: (p * 0.6).astype(np.uint8),
    "gamma": lambda p: np.rint(255 * (p / 255) ** 0.6).astype(np.uint8),
    "more colour": attack(saturated(1.5)),
    "other hue": attack(hue_turned(20)),
    "a box": attack(boxed(0.1)),
    "grey": lambda p: np.repeat(p.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_copy_is_the_same_picture(mark: PixelMark, edit: Callable[[Pixels], Pixels]) -> None:
    marked = mark.embed(draw_shapes(3, 512), MARK_ID).pixels
    edited = np.ascontiguousarray(edit(marked))
    reading = mark.detect(edited, "deep")
    assert reading.mark_id == MARK_ID
    fit = EdgeMap.of(marked).fit(edited, reading.geometry)
    assert fit.same, fit.likeness


@pytest.mark.parametrize("edit", ["half of the area", "turned and mirrored", "rotated by 5"])
def test_registering_lays_the_picture_over_the_recorded_one(mark: PixelMark, edit: str) -> None:
    marked = mark.embed(draw_shapes(3, 512), MARK_ID).pixels
    edited = np.ascontiguousarray(EDITS[edit](marked))
    fit = EdgeMap.of(marked).fit(edited, mark.detect(edited, "deep").geometry)
    registered = fit.register(edited, 512, 512)
    middle = slice(200, 400)
    difference = np.abs(registered[middle, middle].astype(int) - marked[middle, middle]).mean()
    unrelated = np.abs(draw_shapes(4, 512)[middle, middle].astype(int) - marked[middle, middle]).mean()
    assert difference < unrelated / 4


def test_a_mark_that_was_lifted_is_on_another_picture(mark: PixelMark) -> None:
    source, target = draw_shapes(5, 512), draw_shapes(6, 512)
    marked = mark.embed(source, MARK_ID).pixels
    lifted = np.clip(target.astype(int) + marked - source, 0, 255).astype(np.uint8)
    reading = mark.detect(lifted)
    assert reading.mark_id == MARK_ID
    fit = EdgeMap.of(marked).fit(lifted, reading.geometry)
    assert not fit.same
    assert fit.likeness < SAME_PICTURE - 0.05


def test_flat_pictures() -> None:
    white, black = (np.full((256, 256, 3), level, np.uint8) for level in (255, 0))
    assert EdgeMap.of(white).fit(black, {}).same
    assert not EdgeMap.of(white).fit(draw_shapes(1), {}).same
    assert not EdgeMap.of(draw_shapes(1)).fit(white, {}).same


@pytest.mark.parametrize("shape", [(256, 256), (128, 1000), (1000, 128), (300, 200)])
def test_the_text_form_is_lossless_and_short(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = EdgeMap.of(pixels)
    text = found.to_text()
    assert np.array_equal(EdgeMap.parse(text).edges, found.edges)
    assert len(text) < 2800
    assert np.array_equal(EdgeMap.parse(text).colours, found.colours)


def test_a_record_of_version_1_is_read_and_compared() -> None:
    """Its cells are fewer and it says nothing about colour."""
    pixels = draw_shapes(3, 512)
    edges = np.zeros((2, 24, 24), np.int64)
    frame = Image.fromarray(pixels).convert("L").resize((24, 24), Image.Resampling.BOX)
    means = np.asarray(frame).astype(int)
    edges[0, :, :-1], edges[1, :-1] = np.diff(means, axis=1), np.diff(means, axis=0)
    digits = (np.sign(np.where(np.abs(edges) > 8, edges, 0)) + 1).reshape(-1, 4)
    padded = np.pad(digits.reshape(-1), (0, -digits.size % 5)).reshape(-1, 5)
    body = bytes(int(row @ 3 ** np.arange(5)) for row in padded)
    old = EdgeMap.parse(base64.b64encode(bytes([1, 24, 24]) + body).decode())
    assert old.cells == 24
    assert old.fit(pixels, {}).same
    assert old.fit(pixels, {}).colour is None
    assert not old.fit(draw_shapes(4, 512), {}).same


def test_the_same_outlines_in_other_colours_are_another_picture() -> None:
    """Luma is equal, so the edges agree; the chroma is turned about."""
    pixels = draw_shapes(3, 512)
    luma = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)[..., None]
    recoloured = np.clip(2 * luma - pixels, 0, 255).astype(np.uint8)
    fit = EdgeMap.of(pixels).fit(recoloured, {})
    assert fit.likeness >= SAME_PICTURE
    assert fit.colour is not None
    assert fit.colour < 0
    assert not fit.same


@pytest.mark.parametrize("text", ["", "?", "AAAA", "AgEB", "ARgYAA=="])
def test_foreign_texts_are_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="edge map"):
        EdgeMap.parse(text)
