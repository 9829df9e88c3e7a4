"""Real OCR on painted words: agency names are read, also small, across a panorama, in bands; others are not."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.findings import CheckStatus
from guardrails.screens import lettering, run_screens
from guardrails.screens.brands import Word
from guardrails.screens.lettering import THRESHOLD
from guardrails.screens.marks import VisibleMarks
from guardrails.screens.views import Box
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


def test_a_picture_without_lettering_is_not_read_and_the_finding_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = VisibleMarks()
    monkeypatch.setattr(screen, "_read_piece", lambda *_: pytest.fail("the reader was asked"))
    reading = screen.score(draw_shapes(5))
    assert reading.scores == {"stock-mark": 0.0}
    evidence = reading.evidence["stock-mark"]
    assert 0 <= evidence["lettering"] < evidence["least_lettering"] == THRESHOLD


def test_every_picture_is_read_when_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, read = VisibleMarks(read_all=True), list[Box]()
    monkeypatch.setattr(screen, "_read_piece", lambda _, piece: read.append(piece) or [])
    assert screen.score(draw_shapes(5)).evidence == {}
    assert len(read) == 1
    assert screen.component.digest != VisibleMarks().component.digest


def test_each_piece_of_a_panorama_is_looked_at_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, read = VisibleMarks(), list[Box]()
    real = screen._read_piece

    def counted(shown: np.ndarray, piece: Box) -> list[Word]:
        read.append(piece)
        return real(shown, piece)

    monkeypatch.setattr(screen, "_read_piece", counted)
    panorama = painted("shutterstock", (1600, 200), at=(1420, 150), height=20)
    assert screen.score(panorama).scores["stock-mark"] > 0.8
    assert 0 < len(read) < 15
    assert all(box.right > 1400 for box in read)


def test_without_the_weights_of_the_look_for_lettering_the_check_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = tmp_path / "lettering.onnx"
    damaged.write_bytes(b"damaged")
    monkeypatch.setattr(lettering, "datasets_path", lambda *_: damaged)
    (check,) = run_screens([VisibleMarks()], draw_shapes(1))
    assert check.status is CheckStatus.UNAVAILABLE
    assert "SHA-256" in check.reason


@pytest.mark.parametrize("size", [(96, 64), (24, 16), (640, 3)])
def test_small_and_thin_pictures_have_a_score(marks: VisibleMarks, size: tuple[int, int]) -> None:
    assert marks.score(np.full((size[1], size[0], 3), 200, np.uint8)).scores == {"stock-mark": 0.0}


@pytest.mark.parametrize("size", [(6400, 10), (10, 6400), (640, 1), (1, 1)])
def test_a_thin_picture_is_never_read_as_a_line_that_the_reader_would_blow_up(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, read = VisibleMarks(read_all=True), list[tuple[int, ...]]()

    class Below:
        """A word in what was continued at the edge."""

        boxes, txts, scores = [np.array([[90, 90], [99, 90], [99, 99], [90, 99]])], ["shutterstick"], [0.9]

    monkeypatch.setattr(screen, "_reader", lambda shown: read.append(shown.shape) or Below)
    assert set(screen.score(np.zeros((*size, 3), np.uint8)).scores) == {"stock-mark"}
    assert read
    assert all(max(shape[:2]) <= 8 * min(shape[:2]) for shape in read)


def test_a_mark_in_a_grey_picture_is_read(marks: VisibleMarks) -> None:
    grey = np.asarray(Image.fromarray(painted("shutterstock")).convert("L").convert("RGB"))
    assert marks.score(grey).scores["stock-mark"] > 0.8
