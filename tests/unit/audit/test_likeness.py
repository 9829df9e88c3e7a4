"""A mark proves an origin only for pixels that look like the recorded picture."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from guardrails.audit import FileVerdict, verify_bytes
from guardrails.domain.images import MarkVerdict
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Guard, Sealed
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.binding import SAME_PICTURE
from guardrails.watermark.classic import ClassicMark
from guardrails.watermark.keys import Keyring
from guardrails.watermark.public_marks import MESSAGES
from guardrails.watermark.scheme import PixelMark


@pytest.fixture(scope="module")
def made(
    keyed_home: Path, tmp_path_factory: pytest.TempPathFactory, guard_in: Callable[..., Guard]
) -> tuple[Path, Sealed]:
    root = tmp_path_factory.mktemp("likeness") / "home"
    shutil.copytree(keyed_home, root)
    sealed = guard_in(root).generate("a red apple", seed=1)
    assert isinstance(sealed, Sealed)
    return root, sealed


def test_a_mark_on_another_picture_is_unbound(made: tuple[Path, Sealed]) -> None:
    root, sealed = made
    transplanted = PixelMark(Keyring.load_or_create(root / "keys")).embed(draw_shapes(41), sealed.id.mark_id).pixels
    report = verify_bytes(encode(transplanted, ImageFormat.PNG), home=root)
    assert report.mark is not None
    assert report.mark.verdict is MarkVerdict.PRESENT_UNBOUND
    assert report.mark.mark_id == sealed.id.mark_id
    assert report.likeness is not None
    assert report.likeness < SAME_PICTURE
    assert report.verdict is FileVerdict.SUSPECTED
    assert "look different" in report.explanation


@pytest.mark.parametrize(
    "turn",
    [
        lambda p: p[:, ::-1],
        lambda p: p[::-1],
        np.rot90,
        lambda p: np.rot90(p, 3),
        lambda p: np.rot90(p)[:, ::-1],
        lambda p: p[20:210, 50:230],
    ],
    ids=["mirrored", "upside down", "quarter turn", "three quarters", "turned and mirrored", "cropped"],
)
def test_an_edited_copy_is_recovered(made: tuple[Path, Sealed], turn: Callable[[Pixels], Pixels]) -> None:
    root, sealed = made
    report = verify_bytes(encode(np.ascontiguousarray(turn(sealed.pixels)), ImageFormat.PNG), home=root)
    assert report.mark is not None
    assert report.mark.verdict is MarkVerdict.PRESENT
    assert report.verdict is FileVerdict.RECOVERED
    assert report.likeness is not None
    assert report.likeness > SAME_PICTURE


def test_the_released_file_is_bound_by_its_bytes(made: tuple[Path, Sealed]) -> None:
    root, sealed = made
    report = verify_bytes(sealed.data, home=root)
    assert report.exact
    assert report.verdict is FileVerdict.CONFIRMED


def test_a_public_mark_is_shown_and_proves_nothing(made: tuple[Path, Sealed]) -> None:
    root, _ = made
    bits = MESSAGES["Stable Diffusion XL"]
    noisy = np.random.default_rng(0).normal(128, 30, (320, 320, 3)).clip(0, 255).astype(np.uint8)
    report = verify_bytes(encode(ClassicMark("dwtDct", 48).embed(noisy, bits), ImageFormat.PNG), home=root)
    assert report.public_mark is not None
    assert report.public_mark.program == "Stable Diffusion XL"
    assert report.verdict is FileVerdict.NOT_FOUND
