from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from guardrails.domain.images import MarkVerdict
from guardrails.errors import OptionError, WatermarkError
from guardrails.imaging import Pixels
from guardrails.watermark.carrier import FLAT_INDEX, TILE
from guardrails.watermark.keys import Keyring
from guardrails.watermark.payload import FLAG_AI_EDITED, FLAG_AI_GENERATED
from guardrails.watermark.protocol import Scheme
from guardrails.watermark.scheme import PixelMark

MARK_ID = "0123456789abcdef"


def jpeg(quality: int) -> Callable[[Pixels], Pixels]:
    def attack(pixels: Pixels) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return attack


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def half(pixels: Pixels) -> Pixels:
    return resized(pixels, pixels.shape[0] // 2, pixels.shape[1] // 2)


def squeezed(pixels: Pixels) -> Pixels:
    return resized(pixels, pixels.shape[0], round(0.8 * pixels.shape[1]))


def cropped(pixels: Pixels) -> Pixels:
    """A quarter of the area removed, off centre."""
    height, width = pixels.shape[:2]
    top, left = height // 11, width // 23
    return pixels[top : top + round(0.866 * height), left : left + round(0.866 * width)].copy()


def framed(pixels: Pixels) -> Pixels:
    edge = pixels.shape[0] // 10
    return cv2.copyMakeBorder(pixels, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(30, 60, 90))


def mirrored(pixels: Pixels) -> Pixels:
    return pixels[:, ::-1].copy()


def turned(pixels: Pixels) -> Pixels:
    return np.rot90(pixels).copy()


def mirrored_and_cropped(pixels: Pixels) -> Pixels:
    return cropped(mirrored(pixels))


def turned_and_cropped(pixels: Pixels) -> Pixels:
    return cropped(turned(pixels))


def squeezed_and_cropped(pixels: Pixels) -> Pixels:
    return cropped(squeezed(pixels))


def rotated(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 3, 1)
    return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC)


def gray(pixels: Pixels) -> Pixels:
    return np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("attack", "mode"),
    [
        (np.copy, "fast"),
        (jpeg(60), "fast"),
        (jpeg(50), "fast"),
        (half, "fast"),
        (mirrored, "fast"),
        (turned, "fast"),
        (gray, "fast"),
        (cropped, "standard"),
        (squeezed, "standard"),
        (framed, "standard"),
        (mirrored_and_cropped, "standard"),
        (turned_and_cropped, "standard"),
        (squeezed_and_cropped, "standard"),
        (rotated, "deep"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_mark_survives(mark: PixelMark, marked: Pixels, attack: Callable[[Pixels], Pixels], mode: str) -> None:
    reading = mark.detect(attack(marked), mode)
    assert reading.verdict is MarkVerdict.PRESENT
    assert reading.mark_id == MARK_ID
    assert reading.p_value <= 1e-6


@pytest.mark.parametrize(
    ("attack", "mode", "expected"),
    [
        (mirrored, "fast", {"mirror": True, "scale_x": 1.0}),
        (turned, "fast", {"rotation": 90.0, "mirror": False}),
        (rotated, "deep", {"rotation": pytest.approx(357, abs=0.3)}),
    ],
    ids=["mirrored", "turned", "rotated"],
)
def test_the_reading_tells_the_geometry(
    mark: PixelMark, marked: Pixels, attack: Callable[[Pixels], Pixels], mode: str, expected: dict[str, object]
) -> None:
    found = mark.detect(attack(marked), mode).geometry
    assert {name: found[name] for name in expected} == expected


def test_an_embedding_reports_what_it_did(mark: PixelMark, pictures: list[Pixels]) -> None:
    for picture in pictures:
        result = mark.embed(picture, MARK_ID)
        error = np.mean((picture.astype(float) - result.pixels) ** 2)
        assert result.embedding.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=0.02)
        assert result.embedding.psnr >= 41
        assert result.embedding.robust
        assert result.embedding.p_value <= 1e-6


def test_a_flat_area_changes_by_about_one_level(mark: PixelMark) -> None:
    picture = np.full((256, 256, 3), (90, 140, 200), np.uint8)
    change = mark.embed(picture, MARK_ID).pixels.astype(float) - picture
    assert change.std() <= 1.1
    assert np.abs(change).max() <= 8


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_paper_carry_the_mark_or_say_that_they_do_not(mark: PixelMark, level: int) -> None:
    """Half of the mark is clipped there, so it is weaker than anywhere else."""
    result = mark.embed(np.full((256, 256, 3), level, np.uint8), MARK_ID)
    assert result.embedding.psnr >= 41
    assert mark.detect(result.pixels).mark_id == MARK_ID
    read = mark.detect(jpeg(50)(result.pixels)).mark_id == MARK_ID
    assert read or not result.embedding.robust


def test_what_cannot_be_made_robust_says_so(mark: PixelMark) -> None:
    """Halving 128 pixels leaves 64: too few for any mark."""
    result = mark.embed(np.full((128, 128, 3), 128, np.uint8), MARK_ID)
    assert not result.embedding.robust
    assert result.embedding.psnr >= 41


@pytest.mark.parametrize("shape", [(256, 1000), (700, 131), (257, 301), (513, 511)])
def test_odd_sizes_and_extreme_aspects_work(
    mark: PixelMark, shape: tuple[int, int], make_scene: Callable[..., Pixels]
) -> None:
    result = mark.embed(make_scene(7, *shape), MARK_ID, flags=FLAG_AI_EDITED)
    assert result.pixels.shape == (*shape, 3)
    reading = mark.detect(result.pixels, "fast")
    assert (reading.mark_id, reading.flags) == (MARK_ID, FLAG_AI_EDITED)


def test_a_foreign_key_sees_nothing(marked: Pixels) -> None:
    reading = PixelMark(Keyring(b"other key " * 3 + b"!!")).detect(marked, "standard")
    assert reading.verdict is MarkVerdict.NOT_DETECTED
    assert reading.mark_id == ""


def test_a_mark_of_an_older_epoch_is_read_and_counted(keyring: Keyring, marked: Pixels) -> None:
    reading = PixelMark(Keyring(bytes(range(32)), current_epoch=2)).detect(marked, "fast")
    assert (reading.mark_id, reading.epoch, reading.flags) == (MARK_ID, 0, FLAG_AI_GENERATED)
    assert reading.tests == 8 * 64 * 3


def test_a_forged_pilot_without_payload_is_only_suspected(mark: PixelMark, keyring: Keyring) -> None:
    """A picture with a pilot and no data, as averaging many marked pictures would make."""
    carrier = keyring.keys(0).carrier_of(MARK_ID)
    spectrum = np.zeros(TILE * (TILE // 2 + 1), complex)
    spectrum[FLAT_INDEX[carrier.pilot]] = carrier.phasors
    tile = np.fft.irfft2(spectrum.reshape(TILE, -1))
    forged = 128 + np.tile(2 * tile / tile.std(), (4, 4))[..., None].repeat(3, axis=2)
    reading = mark.detect(np.rint(forged).astype(np.uint8), "standard")
    assert reading.verdict is MarkVerdict.SUSPECTED
    assert reading.mark_id == ""
    assert reading.p_value <= 1e-6


def test_a_picture_marked_by_the_first_release_is_still_read(mark: PixelMark) -> None:
    """The golden file went through JPEG quality 60."""
    pixels = np.asarray(Image.open(Path(__file__).with_name("marked-by-release-1.jpg")))
    reading = mark.detect(pixels, "fast")
    assert (reading.verdict, reading.mark_id) == (MarkVerdict.PRESENT, "feedfacecafebeef")


def test_embedding_is_deterministic(mark: PixelMark, pictures: list[Pixels]) -> None:
    first, second = (mark.embed(pictures[0], MARK_ID).pixels for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((127, 300, 3), np.uint8),
        np.zeros((300, 127, 3), np.uint8),
        np.zeros((256, 256), np.uint8),
        np.zeros((256, 256, 4), np.uint8),
        np.zeros((256, 256, 3), np.float32),
    ],
    ids=["low", "narrow", "no channels", "alpha", "floats"],
)
def test_pixels_that_cannot_carry_a_mark_are_refused_with_a_reason(mark: PixelMark, pixels: Pixels) -> None:
    for attempt in (lambda: mark.embed(pixels, MARK_ID), lambda: mark.detect(pixels)):
        with pytest.raises(WatermarkError) as caught:
            attempt()
        assert caught.value.hint


def test_an_unknown_mode_is_refused(mark: PixelMark) -> None:
    with pytest.raises(OptionError):
        mark.detect(np.zeros((256, 256, 3), np.uint8), "thorough")


def test_the_mark_fulfils_the_protocol(mark: PixelMark) -> None:
    scheme: Scheme = mark
    assert scheme.name == "org.guardrails.watermark.1"
