"""The look for lettering: one answer for one picture of any shape, and never a silent pass without weights."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from guardrails.errors import DatasetUnavailable, ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.screens import lettering
from guardrails.screens.lettering import THRESHOLD, Lettering
from guardrails.testing.doubles import draw_shapes


@pytest.fixture(scope="module")
def gate() -> Lettering:
    return Lettering()


def lettered(pixels: Pixels, text: str = "dreamstime", *, size: int = 24) -> Pixels:
    image = Image.fromarray(pixels)
    font = ImageFont.load_default(size=size)
    place = (image.width // 8, image.height // 2)
    ImageDraw.Draw(image).text(place, text, font=font, fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(image)


@pytest.mark.parametrize("number", range(6))
def test_lettering_is_seen_and_shapes_are_not_taken_for_it(gate: Lettering, number: int) -> None:
    plain = np.asarray(Image.fromarray(draw_shapes(number, 640)).resize((640, 480)))
    assert gate.score(plain) < THRESHOLD <= gate.score(lettered(plain))


def test_the_answer_is_the_same_every_time(gate: Lettering) -> None:
    pixels = lettered(draw_shapes(2, 640))
    assert gate.score(pixels) == gate.score(pixels) == Lettering().score(pixels)


def test_grey_pictures_are_pictures(gate: Lettering) -> None:
    grey = np.asarray(Image.fromarray(lettered(draw_shapes(4, 640))).convert("L").convert("RGB"))
    assert gate.score(grey) >= THRESHOLD
    assert gate.score(np.full((480, 640, 3), 128, np.uint8)) < THRESHOLD


@pytest.mark.parametrize("shape", [(640, 1), (1, 640), (7, 640), (640, 31), (1, 1), (33, 640)])
def test_thin_pictures_have_a_score(gate: Lettering, shape: tuple[int, int]) -> None:
    assert 0 <= gate.score(np.full((*shape, 3), 90, np.uint8)) <= 1


@pytest.mark.parametrize("damage", [b"", b"no model at all", None])
def test_damaged_weights_are_refused(damage: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = lettering.datasets_path(*lettering.MODEL).read_bytes()
    other = tmp_path / "lettering.onnx"
    other.write_bytes(whole[:-1] if damage is None else damage)
    monkeypatch.setattr(lettering, "datasets_path", lambda *_: other)
    with pytest.raises(ScreenUnavailable, match="SHA-256") as caught:
        Lettering().score(draw_shapes(1))
    assert "reinstall" in caught.value.hint


def test_missing_weights_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*parts: str) -> Path:
        raise DatasetUnavailable(f"{'/'.join(parts)} is not part of this installation", hint="reinstall")

    monkeypatch.setattr(lettering, "datasets_path", missing)
    with pytest.raises(ScreenUnavailable, match="not part of this installation"):
        Lettering().score(draw_shapes(1))


def test_a_missing_runtime_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError(name="onnxruntime")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ScreenUnavailable, match="onnxruntime"):
        Lettering().score(draw_shapes(1))
