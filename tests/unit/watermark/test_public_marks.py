from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from guardrails.imaging import Pixels
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.classic import ClassicMark
from guardrails.watermark.public_marks import MESSAGES, find_public_mark, share_of_ones, votes


def textured(seed: int, height: int = 320, width: int = 360) -> Pixels:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin((rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)) / 8) for _ in range(3)]
    noisy = 128 + 40 * np.stack(waves, axis=2) + rng.normal(0, 6, (height, width, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("length", [32, 46, 48, 136])
@pytest.mark.parametrize("picture", [textured(1), textured(2, 257, 403), draw_shapes(3, 512)], ids=["a", "b", "shapes"])
def test_the_reader_is_the_packages_bit_for_bit(picture: Pixels, length: int) -> None:
    shares = share_of_ones(votes(np.ascontiguousarray(picture[..., ::-1])), length)
    assert np.array_equal(shares * 255 > 127, ClassicMark("dwtDct", length).read(picture))


@pytest.mark.parametrize("program", MESSAGES)
@pytest.mark.parametrize("swapped", [False, True], ids=["as the package asks", "with swapped colours"])
def test_every_public_mark_is_recognised(program: str, swapped: bool) -> None:
    message, picture = MESSAGES[program], textured(4, 400, 480)
    step = -1 if swapped else 1
    marked = ClassicMark("dwtDct", len(message)).embed(np.ascontiguousarray(picture[..., ::step]), message)
    found = find_public_mark(np.ascontiguousarray(marked[..., ::step]))
    assert found is not None
    assert found.program == program
    assert found.bits == len(message)
    assert found.agreeing > 0.8 * found.bits


def test_the_messages_have_the_published_lengths() -> None:
    assert [len(message) for message in MESSAGES.values()] == [136, 224, 32, 48, 46]


def test_other_messages_and_unmarked_pictures_are_not_recognised() -> None:
    rng = np.random.default_rng(5)
    for seed in range(20):
        picture = textured(seed)
        assert find_public_mark(picture) is None
        other = ClassicMark("dwtDct", 48).embed(picture, rng.integers(0, 2, 48).astype(np.uint8))
        assert find_public_mark(other) is None


@pytest.mark.parametrize("text", ["made by someone..", "StableDiffusionXY", "somewhere", "SDV1"])
def test_another_programs_text_is_not_recognised(text: str) -> None:
    message = np.unpackbits(np.frombuffer(text.encode(), np.uint8))
    found = find_public_mark(ClassicMark("dwtDct", len(message)).embed(textured(6), message))
    # A message that differs in two letters of seventeen cannot be told from a damaged one.
    assert found is None or text == "StableDiffusionXY"


@pytest.mark.parametrize("shape", [(8, 8), (256, 255), (1, 70_000), (70_000, 1)])
def test_small_and_extreme_pictures_are_no_error(shape: tuple[int, int]) -> None:
    assert find_public_mark(np.full((*shape, 3), 90, np.uint8)) is None


def test_reading_loads_no_heavy_module() -> None:
    code = (
        "import sys, numpy; from guardrails.watermark.public_marks import find_public_mark as find;"
        "find(numpy.zeros((256, 256, 3), numpy.uint8)); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "scipy", "imwatermark", "pywt", "onnxruntime"} & set(loaded)
