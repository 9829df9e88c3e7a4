from __future__ import annotations

import cv2
import numpy as np
import pytest

from guardrails.similarity.hashes import oriented
from guardrails.similarity.levels import Level
from guardrails.similarity.verification import compare


def test_a_picture_agrees_with_itself_in_every_textured_tile(work_on):
    agreement = compare(work_on(1), work_on(1))
    assert agreement.share == 1.0
    assert agreement.level >= Level.CONFIRMED


@pytest.mark.parametrize("orientation", range(8))
def test_turned_and_imprecise_copies_confirm(work_on, copy_of, orientation):
    reference = work_on(2)
    agreement = compare(oriented(copy_of(reference, orientation), orientation), reference)
    assert agreement.level >= Level.CONFIRMED


def test_other_works_do_not_confirm(work_on):
    shares = [compare(work_on(seed), work_on(seed + 1)).share for seed in range(40, 70)]
    assert max(shares) < 0.5


def test_the_same_drawing_in_other_colours_does_not_confirm(work_on):
    reference = work_on(3)
    assert compare(np.ascontiguousarray(reference[..., ::-1]), reference).level < Level.CONFIRMED


def test_a_slight_tint_is_forgiven(work_on):
    reference = work_on(3)
    tinted = np.clip(reference * np.array([1.05, 0.97, 0.93]) - 6, 0, 255).astype(np.uint8)
    assert compare(tinted, reference).level >= Level.CONFIRMED


def test_a_flat_shape_does_not_confirm_by_its_outline():
    square = np.full((256, 256, 3), 255, np.uint8)
    square[60:196, 60:196] = (200, 30, 30)
    agreement = compare(square, square)
    assert agreement.share == 1.0
    assert agreement.inner.sum() == 0
    assert agreement.level < Level.CONFIRMED


def test_only_the_copied_half_agrees(work_on):
    reference = work_on(4)
    half = reference.copy()
    half[:, 128:] = cv2.GaussianBlur(work_on(9), (0, 0), 3)[:, 128:]
    agreement = compare(half, reference)
    left, right = agreement.agreeing[:, :5].sum(), agreement.agreeing[:, 5:].sum()
    assert left > 2 * right


def test_blank_pictures_count_no_tile():
    blank = np.full((64, 64, 3), 255, np.uint8)
    agreement = compare(blank, blank)
    assert agreement.counted.sum() == 0
    assert agreement.share == 0.0


def test_a_crop_is_found_by_keypoints_and_says_which_part_it_is(work_on):
    reference = work_on(5)
    agreement = compare(np.ascontiguousarray(reference[40:216, 30:206]), reference)
    assert agreement.level >= Level.CONFIRMED
    assert agreement.covered.sum() < 100


def test_a_mirrored_crop_is_found_too(work_on):
    reference = work_on(5)
    agreement = compare(np.ascontiguousarray(reference[40:216, 30:206][:, ::-1]), reference)
    assert agreement.level >= Level.REVIEW


def test_a_negative_is_found(work_on):
    agreement = compare(255 - work_on(6), work_on(6))
    assert agreement.level is Level.STRICT


def test_a_dark_border_is_peeled(work_on):
    reference = work_on(7)
    framed = cv2.copyMakeBorder(reference, 60, 60, 20, 20, cv2.BORDER_CONSTANT, value=(10, 10, 10))
    assert compare(framed, reference).level >= Level.CONFIRMED


def test_a_darker_copy_is_confirmed_and_not_strict(work_on):
    agreement = compare((work_on(8) * 0.6).astype(np.uint8), work_on(8))
    assert agreement.tone == "toned"
    assert agreement.level is Level.CONFIRMED


def test_turned_hues_need_more_structure_and_a_reference_of_several_hues(work_on):
    reference = work_on(8)
    hsv = cv2.cvtColor(reference, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 20) % 180
    agreement = compare(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)), reference)
    assert agreement.level < Level.STRICT


def test_a_plain_shape_is_unverifiable_even_against_itself():
    square = np.full((256, 256, 3), 255, np.uint8)
    square[60:196, 60:196] = (200, 30, 30)
    assert compare(square, square).plain
    assert compare(square, square).level is Level.UNVERIFIABLE


def test_other_colours_of_the_same_shapes_are_said_to_be_that(work_on):
    reference = work_on(3)
    agreement = compare(np.ascontiguousarray(reference[..., ::-1]), reference)
    assert agreement.other_colours


def test_the_region_is_where_the_picture_agrees(work_on):
    reference = work_on(4)
    half = reference.copy()
    half[:, 128:] = cv2.GaussianBlur(work_on(9), (0, 0), 3)[:, 128:]
    left, _, right, _ = compare(half, reference).region
    assert (left < 0.3, right < 0.9) == (True, True)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (900, 40, 3), (3, 3, 3)])
def test_odd_sizes_are_compared_without_failing(work_on, shape):
    assert compare(np.zeros(shape, np.uint8), work_on(1)).level < Level.REVIEW
    assert compare(work_on(1), np.zeros(shape, np.uint8)).level is Level.UNVERIFIABLE
