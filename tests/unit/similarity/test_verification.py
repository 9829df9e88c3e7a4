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
