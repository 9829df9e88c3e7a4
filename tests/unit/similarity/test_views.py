from __future__ import annotations

import cv2
import numpy as np
import pytest

from guardrails.similarity.hashes import pdq256
from guardrails.similarity.views import Kind, isolate


def place(work, background, side, left, top):
    """The work at another size and place on a plain background; its own white surround becomes background."""
    drawing = np.where((work == 255).all(axis=2, keepdims=True), np.array(background, np.uint8), work)
    canvas = np.full((256, 256, 3), background, np.uint8)
    canvas[top : top + side, left : left + side] = cv2.resize(drawing, (side, side), interpolation=cv2.INTER_AREA)
    return canvas


@pytest.mark.parametrize("kind", [Kind.BOX, Kind.CENTRED])
@pytest.mark.parametrize("background", [(255, 255, 255), (20, 240, 240), (150, 20, 250)])
def test_views_do_not_depend_on_place_size_or_background(work_on, kind, background):
    work = work_on(7)
    expected = isolate(work).view(kind)
    seen = isolate(place(work, background, 170, 60, 20)).view(kind)
    assert pdq256(seen).upright - pdq256(expected).upright <= 40
    assert np.abs(seen.astype(int) - expected).mean() < 8


def test_views_do_not_depend_on_resolution(work_on):
    work = work_on(8)
    large = cv2.resize(work, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    for kind in (Kind.BOX, Kind.CENTRED):
        assert pdq256(isolate(large).view(kind)).upright - pdq256(isolate(work).view(kind)).upright <= 20


def test_the_surround_of_a_drawing_is_painted_white(work_on):
    drawing = isolate(place(work_on(7), (20, 240, 240), 170, 60, 20))
    assert (drawing.pixels[:15] == 255).all()
    assert (drawing.pixels[:, :50] == 255).all()


def test_a_hole_is_painted_white_but_belongs_to_the_silhouette():
    picture = np.full((256, 256, 3), (20, 240, 240), np.uint8)
    cv2.circle(picture, (128, 128), 80, (200, 60, 10), 40)
    on_white = np.full((256, 256, 3), 255, np.uint8)
    cv2.circle(on_white, (128, 128), 80, (200, 60, 10), 40)
    drawing, expected = isolate(picture), isolate(on_white)
    assert (drawing.pixels[120:136, 120:136] == 255).all()
    assert drawing.box == expected.box
    assert drawing.centred == expected.centred


def test_nothing_is_isolated_from_a_blank_picture_or_a_busy_border():
    assert isolate(np.full((64, 64, 3), 90, np.uint8)) is None
    assert isolate(np.random.default_rng(1).integers(0, 256, (128, 128, 3)).astype(np.uint8)) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 2000), (3, 3)])
def test_extreme_shapes_do_not_fail(shape):
    picture = np.full((*shape, 3), 255, np.uint8)
    picture[shape[0] // 2, shape[1] // 2] = 0
    drawing = isolate(picture)
    assert drawing is None or drawing.view(Kind.BOX).shape == (64, 64, 3)
