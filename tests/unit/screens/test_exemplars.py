"""Each example finds its own small picture again, and nothing else is shown for it."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.errors import ImageError, ScreenUnavailable
from guardrails.screens.exemplars import MOST, SIDE, label, picture_of, to_grid


@pytest.mark.parametrize("count", [1, 8, 9, MOST])
def test_every_example_finds_its_picture(count: int) -> None:
    shades = [4 * number for number in range(count)]
    grid = to_grid([np.full((40, 60, 3), shade, dtype=np.uint8) for shade in shades])
    for row, shade in enumerate(shades):
        found = picture_of(grid, label(row))
        assert found.shape == (SIDE, SIDE, 3)
        assert abs(float(found[SIDE // 2, SIDE // 2].mean()) - shade) < 8


@pytest.mark.parametrize("name", ["example 0", "example 99", "example -1", "a gun", "example 1; x", ""])
def test_other_labels_have_no_picture(name: str) -> None:
    grid = to_grid([np.zeros((40, 40, 3), dtype=np.uint8)] * 3)
    with pytest.raises(ScreenUnavailable, match="hold no"):
        picture_of(grid, name)


def test_what_is_no_grid_is_refused() -> None:
    with pytest.raises(ImageError):
        picture_of(b"RIFF", "example 1")
