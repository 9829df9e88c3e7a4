"""The drop-in keeps what it saw, leaves pictures alone unless told, and refuses numbers of another range."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.findings import Action, Component
from guardrails.errors import ImageError, OptionError
from guardrails.policy.model import ScreenRule
from guardrails.screens.protocol import Reading
from guardrails.screens.safety_checker import SafetyChecker

RULE = ScreenRule(
    id="BRIGHT-01", category="light", action=Action.BLOCK, message="Too bright.", screen="light", concept="bright",
    threshold=0.5, error_rate="", when_unavailable=Action.BLOCK,
)  # fmt: skip


class Light:
    component = Component(name="light", version="1")

    def score(self, pixels: np.ndarray) -> Reading:
        return Reading(scores={"bright": float(pixels.mean()) / 255})


def batch() -> np.ndarray:
    pictures = np.zeros((2, 16, 16, 3), dtype=np.float32)
    pictures[1] = np.linspace(0.5, 1, 16)[:, None, None]
    return pictures


@pytest.mark.parametrize(("replacement", "left"), [("block", 0.0), ("none", None), ("blur", None)])
def test_what_becomes_of_a_held_picture(replacement: str, left: float | None) -> None:
    checker = SafetyChecker([Light()], [RULE], replacement=replacement)
    images, held = checker(images=batch(), clip_input=None)
    assert held == [False, True]
    np.testing.assert_array_equal(images[0], batch()[0])
    if replacement == "none":
        np.testing.assert_array_equal(images, batch())
    elif replacement == "block":
        assert images[1].max() == left
    else:
        assert images[1].std() < batch()[1].std()


def test_every_picture_keeps_its_scores_and_findings() -> None:
    checker = SafetyChecker([Light()], [RULE])
    checker(batch())
    dark, bright = checker.results
    assert (dark.action, bright.action) == (Action.ALLOW, Action.BLOCK)
    assert dark.checks[0].scores["bright"] == 0
    assert bright.findings[0].rule == "BRIGHT-01"


def test_lists_of_pictures_come_back_as_lists() -> None:
    pictures = [Image.new("RGB", (16, 16), "white"), Image.new("RGB", (16, 16), "black")]
    images, held = SafetyChecker([Light()], [RULE])(pictures)
    assert held == [True, False]
    assert images[0].getpixel((0, 0)) == (0, 0, 0)


def test_numbers_of_another_range_are_refused_and_not_screened_as_white() -> None:
    with pytest.raises(ImageError, match="numbers from 0 to 255"):
        SafetyChecker([Light()], [RULE])(np.rint(batch()) * 255)
    with pytest.raises(ImageError, match="numbers from nan"):
        SafetyChecker([Light()], [RULE])(np.full((1, 4, 4, 3), np.nan, np.float32))
    with pytest.raises(ImageError, match="uint8"):
        SafetyChecker([Light()], [RULE])(np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(OptionError):
        SafetyChecker([Light()], [RULE], replacement="pixelate")


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "P", "F"])
def test_pictures_of_which_a_part_would_not_be_seen_are_refused(mode: str) -> None:
    """Sixteen bits would be clipped to white, and what lies under a transparency be taken for what is shown."""
    with pytest.raises(ImageError, match=f"mode {mode}"):
        SafetyChecker([Light()], [RULE])([Image.new(mode, (4, 4))])
