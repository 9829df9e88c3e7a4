"""Real OCR on painted words: agency names are read, also small, across a panorama, in bands; others are not."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.findings import CheckStatus
from guardrails.screens import run_screens
from guardrails.screens.marks import VisibleMarks
from guardrails.testing.doubles import draw_shapes


@pytest.fixture(scope="module")
def marks() -> VisibleMarks:
    return VisibleMarks()


def painted(text: str, size: tuple[int, int] = (640, 420), *, at: tuple[int, int] = (30, 360), alpha: int = 200,
            height: int = 24) -> np.ndarray:  # fmt: skip
    shapes = Image.fromarray(draw_shapes(3, max(size))).resize(size).convert("RGBA")
    layer = Image.new("RGBA", size)
    canvas = ImageDraw.Draw(layer)
    canvas.rectangle((at[0] - 8, at[1] - 6, size[0], at[1] + height + 8), fill=(20, 20, 20, alpha))
    canvas.text(at, text, font=ImageFont.load_default(size=height), fill=(255, 255, 255, alpha))
    return np.asarray(Image.alpha_composite(shapes, layer).convert("RGB"))


@pytest.mark.parametrize("brand", ["shutterstock", "gettyimages", "Adobe Stock", "alamy"])
def test_a_painted_agency_name_is_read_with_its_place(marks: VisibleMarks, brand: str) -> None:
    reading = marks.score(painted(brand))
    assert reading.scores["stock-mark"] > 0.8
    evidence = reading.evidence["stock-mark"]
    left, top, right, bottom = evidence["box"]
    assert 5 < left < 50
    assert 340 < top < bottom < 410
    assert right < 300
    assert evidence["votes"] == 1


def test_other_words_are_no_marks(marks: VisibleMarks) -> None:
    assert marks.score(painted("Gettysburg 1863")).scores == {"stock-mark": 0.0}
    assert marks.score(draw_shapes(5)).scores == {"stock-mark": 0.0}


def test_a_name_at_the_end_of_a_panorama_is_read_in_a_tile(marks: VisibleMarks) -> None:
    reading = marks.score(painted("shutterstock", (1600, 200), at=(1420, 150), height=20))
    assert reading.scores["stock-mark"] > 0.8
    assert reading.evidence["stock-mark"]["box"][0] > 1400


def test_a_missing_reader_makes_the_check_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "rapidocr":
            raise ModuleNotFoundError(name="rapidocr")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    (check,) = run_screens([VisibleMarks()], draw_shapes(1))
    assert check.status is CheckStatus.UNAVAILABLE
    assert "rapidocr" in check.reason
