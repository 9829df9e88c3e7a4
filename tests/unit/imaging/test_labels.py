"""Visible labels: high enough, legible on every ground and in every format, and as small as they may be."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from guardrails.domain.labels import LabelProfile, VisibleLabel
from guardrails.errors import LabelError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.imaging.labels import LEAST_CONTRAST, draw_label, label_contrast
from guardrails.policy.labelling import label_profiles
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.hosts import drawn_hosts

PROFILES = label_profiles()
CHINA, EUROPE, CALIFORNIA = PROFILES["cn"], PROFILES["eu"], PROFILES["us"]
SIZES = [(64, 64), (96, 64), (128, 128), (512, 512), (300, 2000), (2000, 300), (2160, 3840)]


def flat(*colour: int, side: int = 256) -> Pixels:
    return np.full((side, side, 3), colour, np.uint8)


def grounds() -> list[Pixels]:
    """Backgrounds that text is hard to read on."""
    rng = np.random.default_rng(5)
    stripes = np.where(np.arange(256) // 3 % 2, 255, 0).astype(np.uint8)
    plain = [flat(*colour) for colour in itertools.product((0, 128, 255), repeat=3)]
    noise = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    lines = np.repeat(np.tile(stripes, (256, 1))[..., np.newaxis], 3, axis=2)
    return [*plain, noise, lines, lines.transpose(1, 0, 2), *(host.pixels for host in drawn_hosts(size=256, count=6))]


def letters(pixels: Pixels, label: VisibleLabel) -> NDArray[np.bool_]:
    """Where the plate is light, without its rim."""
    left, top, right, bottom = label.box
    light: NDArray[np.bool_] = pixels[top:bottom, left:right].mean(axis=2) > 128
    rim = max(3, (bottom - top) // 16)
    inside = light[rim:-rim, rim:-rim]
    assert inside.any()
    return inside


def rows_of_each_letter(ink: NDArray[np.bool_]) -> list[int]:
    """How high each run of inked columns is, in pixels."""
    columns = np.flatnonzero(np.diff(np.concatenate([[0], ink.any(axis=0).astype(int), [0]])))
    heights = []
    for start, end in zip(columns[::2], columns[1::2], strict=True):
        rows = np.flatnonzero(ink[:, start:end].any(axis=1))
        heights.append(int(rows[-1] - rows[0] + 1))
    return heights


@pytest.mark.parametrize("side", [256, 512, 1000, 2160])
def test_every_character_of_chinas_label_is_at_least_five_percent_of_the_shortest_side(side: int) -> None:
    pixels = np.full((side, side * 3 // 2, 3), 90, np.uint8)
    drawn, label = draw_label(pixels, [CHINA])
    assert label.text == "AI生成"
    heights = rows_of_each_letter(letters(drawn, label))
    assert len(heights) >= 4
    assert min(heights) >= math.ceil(0.05 * side)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("profiles", [[CHINA], [EUROPE], [CHINA, EUROPE, CALIFORNIA]], ids=["cn", "eu", "all"])
def test_the_label_lies_whole_in_a_corner_and_changes_nothing_else(
    height: int, width: int, profiles: list[LabelProfile]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = pixels.copy()
    drawn, label = draw_label(pixels, profiles)
    np.testing.assert_array_equal(pixels, before)
    left, top, right, bottom = label.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    # The upper right corner, as near to both edges as its margin.
    assert width - right == top <= max(2, min(height, width) // 32)
    outside = np.ones((height, width), bool)
    outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(drawn[outside], before[outside])
    assert all(line.height >= 6 for line in label.lines)


def test_it_is_legible_on_every_ground() -> None:
    for ground in grounds():
        drawn, label = draw_label(ground, [CHINA, EUROPE])
        assert label_contrast(drawn, label) > 15
        # The rim keeps a dark plate apart from a dark picture.
        left, top, right, bottom = label.box
        assert (drawn[top, left:right] == 255).all()
        assert (drawn[top:bottom, left] == 255).all()


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("format", [each for each in ImageFormat if each.writable])
def test_it_is_legible_in_every_format(format: ImageFormat, side: int) -> None:
    drawn, label = draw_label(draw_shapes(4, side), [CHINA, EUROPE])
    assert label_contrast(decode(encode(drawn, format, quality=60)).pixels, label) >= LEAST_CONTRAST


def test_contrast_is_that_of_wcag() -> None:
    drawn, label = draw_label(flat(10, 10, 10), [EUROPE])
    left, top, right, bottom = label.box

    def with_colours(light: int, dark: int) -> float:
        changed = drawn.copy()
        plate = changed[top:bottom, left:right]
        changed[top:bottom, left:right] = np.where(plate == 24, dark, np.where(plate == 255, light, plate))
        return label_contrast(changed, label)

    # White on black has 21, and #767676 is the lightest grey that white text can stand on.
    assert with_colours(255, 0) == pytest.approx(21)
    assert with_colours(255, 0x76) == pytest.approx(4.54, abs=0.01)
    assert with_colours(255, 0x77) == pytest.approx(4.48, abs=0.01)


def test_a_label_that_is_not_there_has_no_contrast() -> None:
    pixels = draw_shapes(2)
    drawn, label = draw_label(pixels, [EUROPE])
    assert label_contrast(flat(200, 200, 200), label) == 1
    assert label_contrast(drawn[:, ::-1].copy(), label) < LEAST_CONTRAST
    assert label_contrast(drawn[:20, :20], label) == 1


def test_equal_words_are_drawn_once_for_both_who_want_them() -> None:
    _, label = draw_label(draw_shapes(1, 512), [EUROPE, CALIFORNIA])
    assert [line.text for line in label.lines] == ["AI GENERATED"]
    assert set(label.profiles) == {"eu", "us"}


def test_what_a_model_changed_is_not_called_made() -> None:
    _, label = draw_label(draw_shapes(1, 512), [CHINA, EUROPE, CALIFORNIA], edited=True)
    assert [line.text for line in label.lines] == ["AI合成", "AI MODIFIED", "AI GENERATED"]


@pytest.mark.parametrize(("height", "width"), [(63, 20), (9, 400), (1, 1)])
def test_a_picture_without_room_is_refused(height: int, width: int) -> None:
    with pytest.raises(LabelError, match="no room"):
        draw_label(np.zeros((height, width, 3), np.uint8), [EUROPE])


def test_a_text_that_the_letters_cannot_write_is_refused() -> None:
    with pytest.raises(LabelError, match="no outline"):
        draw_label(draw_shapes(1), [dataclasses.replace(EUROPE, generated="AI \u751f\u6210 \ud55c")])


def test_equal_pictures_get_equal_labels() -> None:
    first, second = (draw_label(draw_shapes(7), [CHINA])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
