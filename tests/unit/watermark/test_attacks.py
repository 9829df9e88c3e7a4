from __future__ import annotations

import numpy as np
import pytest

from guardrails.imaging import Pixels
from guardrails.watermark.attacks import ATTACKS, Attack, chain, cropped, rotated, rotated_and_cropped
from guardrails.watermark.hosts import scene

PICTURE = scene(1, 192)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_deterministic_and_keeps_the_pixel_contract(attack: Attack) -> None:
    before = PICTURE.copy()
    first, second = (attack.apply(PICTURE, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(PICTURE, before)
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert attack.name == "png" or first.shape != before.shape or not np.array_equal(first, before)


def test_names_are_unique_and_most_attacks_are_mild() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 53
    assert sum(attack.mild for attack in ATTACKS) >= 32


def test_a_crop_removes_the_share_it_names() -> None:
    left = cropped(0.5)(PICTURE, np.random.default_rng(0))
    assert left.size / PICTURE.size == pytest.approx(0.5, abs=0.02)


def test_cropping_a_rotated_picture_leaves_no_black_corner() -> None:
    white: Pixels = np.full((200, 300, 3), 255, np.uint8)
    rng = np.random.default_rng(0)
    assert rotated(12)(white, rng).min() == 0
    assert rotated_and_cropped(12)(white, rng).min() > 200


def test_a_chain_applies_its_steps_in_order() -> None:
    rng = np.random.default_rng(1)
    assert chain(cropped(0.5), cropped(0.5))(PICTURE, rng).shape[0] == pytest.approx(96, abs=2)
