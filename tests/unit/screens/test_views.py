"""No part of a picture stays unseen."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guardrails.screens.views import LETTERBOX_COLOUR, MAX_TILES, Box, cut, letterbox, tile_boxes, views

sides = st.integers(1, 4000)


@given(sides, sides)
def test_tiles_reach_both_edges_and_leave_no_gap(width: int, height: int) -> None:
    boxes = tile_boxes(width, height)
    spans = [(b.left, b.right) if width >= height else (b.top, b.bottom) for b in boxes]
    across = [(b.top, b.bottom) if width >= height else (b.left, b.right) for b in boxes]
    assert 1 <= len(boxes) <= MAX_TILES
    assert spans[0][0] == 0
    assert spans[-1][1] == max(width, height)
    assert all(now[0] <= following[0] <= now[1] for now, following in itertools.pairwise(spans))
    assert set(across) == {(0, min(width, height))}


@given(st.integers(8, 400), st.floats(2.01, 8))
def test_tiles_of_ordinary_panoramas_are_square_and_overlap_by_half(short: int, aspect: float) -> None:
    boxes = tile_boxes(round(short * aspect), short)
    assert all(box.right - box.left == box.bottom - box.top for box in boxes if aspect < 7.9)
    steps = [b.left - a.left for a, b in itertools.pairwise(boxes)]
    assert max(steps) <= short / 2 + 1


@given(st.integers(64, 700), st.integers(64, 700), st.floats(0, 1), st.floats(0, 1))
def test_a_patch_anywhere_stays_visible_in_a_centre_cut_view(width: int, height: int, x: float, y: float) -> None:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    size = max(8, max(width, height) // 16)
    left, top = int(x * max(0, width - size)), int(y * max(0, height - size))
    pixels[top : top + size, left : left + size] = (0, 255, 0)

    def centre(view: np.ndarray) -> np.ndarray:
        side = min(view.shape[:2])
        above, before = (view.shape[0] - side) // 2, (view.shape[1] - side) // 2
        return view[above : above + side, before : before + side]

    assert any((centre(view)[..., 1] > 200).any() for view in (v.pixels for v in views(pixels)))


def test_ordinary_pictures_are_looked_at_once_and_panoramas_in_tiles() -> None:
    assert len(views(np.zeros((64, 64, 3), dtype=np.uint8))) == 1
    assert len(views(np.zeros((64, 96, 3), dtype=np.uint8))) == 1
    assert len(views(np.zeros((64, 256, 3), dtype=np.uint8))) == 1 + 7


def test_letterbox_keeps_proportions_on_a_neutral_square() -> None:
    boxed = letterbox(np.full((10, 40, 3), 200, dtype=np.uint8))
    assert boxed.shape == (40, 40, 3)
    assert tuple(boxed[0, 0]) == LETTERBOX_COLOUR
    assert (boxed[15:25] == 200).all()
    assert letterbox(np.zeros((2000, 4000, 3), dtype=np.uint8)).shape == (512, 512, 3)
    assert letterbox(np.zeros((1, 5000, 3), dtype=np.uint8)).shape == (512, 512, 3)


def test_views_say_which_part_they_show() -> None:
    pixels = np.zeros((64, 256, 3), dtype=np.uint8)
    shown = views(pixels)
    assert shown[0].box == Box(left=0, top=0, right=256, bottom=64)
    assert [cut(pixels, view.box).shape for view in shown[1:]] == [(64, 64, 3)] * 7
    assert all(view.pixels.shape[0] == view.pixels.shape[1] for view in shown)
