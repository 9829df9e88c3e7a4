"""The latent reader: what it hands to the inversion, and how its answer joins the verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardrails.audit import FileVerdict
from guardrails.audit.auditor import Auditor
from guardrails.audit.latent import LatentReader
from guardrails.domain.images import MarkVerdict
from guardrails.domain.requests import PromptRequest
from guardrails.generation.protocol import Drawn
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.ledger import Ledger
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import TrustStore, Verifier
from guardrails.testing.doubles import ShapeGenerator
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import LatentMark
from guardrails.watermark.scheme import PixelMark

SHAPE = (4, 32, 32)


class KnownNoise:
    """An inversion that knows the answer, and keeps what it was shown."""

    def __init__(self, noise: np.ndarray) -> None:
        self._noise = noise
        self.seen: list[Pixels] = []

    def latent(self, pixels: Pixels) -> np.ndarray:
        self.seen.append(pixels)
        return self._noise


class SignedShapes(ShapeGenerator):
    """Shapes that claim to be drawn from signed noise."""

    def refuses_signs(self, request: PromptRequest) -> str:
        return ""

    def latent_shape(self, request: PromptRequest) -> tuple[int, int, int]:
        return SHAPE

    def draw(self, *arguments: Any, signs: Any = (), **options: Any) -> list[Drawn]:
        return super().draw(*arguments, **options)


@pytest.fixture(scope="module")
def made(
    keyed_home: Path, tmp_path_factory: pytest.TempPathFactory, guard_in: Callable[..., Guard]
) -> tuple[Path, Sealed]:
    root = tmp_path_factory.mktemp("latent") / "home"
    shutil.copytree(keyed_home, root)
    sealed = guard_in(root, SignedShapes()).generate("a red apple")
    assert isinstance(sealed, Sealed)
    return root, sealed


def auditor_with(root: Path, mark_id: str, *, kept: float = 1.0) -> tuple[Auditor, KnownNoise]:
    keyring = Keyring.load_or_create(root / "keys")
    mark = LatentMark(keyring)
    rng = np.random.default_rng(0)
    noise = np.abs(rng.standard_normal(SHAPE)) * mark.signs(mark_id, SHAPE)
    noise = kept * noise + np.sqrt(1 - kept**2) * rng.standard_normal(SHAPE)
    inverter = KnownNoise(noise.astype(np.float32))
    reader = LatentReader(inverter, mark, (256, 256))
    ledger = Ledger.open(root / "ledger", create=False)
    return Auditor(Verifier(TrustStore.dev(root / "keys")), PixelMark(keyring), ledger, latent=reader), inverter


def test_a_picture_that_lost_its_pixel_mark_is_recovered_by_its_noise(made: tuple[Path, Sealed]) -> None:
    root, sealed = made
    image = Image.fromarray(sealed.pixels).resize((40, 40)).resize((256, 256))
    report = auditor_with(root, sealed.id.mark_id)[0].verify(encode(np.asarray(image), ImageFormat.PNG))
    assert report.mark is not None
    assert report.mark.verdict is MarkVerdict.NOT_DETECTED
    assert report.latent is not None
    assert report.latent.verdict is MarkVerdict.PRESENT
    assert report.latent.mark_id == sealed.id.mark_id
    assert report.ledger.found_by == "watermark"
    assert report.verdict is FileVerdict.RECOVERED


def test_a_regenerated_picture_is_recovered_by_the_ids_of_the_ledger(made: tuple[Path, Sealed]) -> None:
    """So little of the noise is left that an id can hardly be decoded; that of a stranger is too faint for it."""
    root, sealed = made
    image = Image.fromarray(sealed.pixels).resize((40, 40)).resize((256, 256))
    data = encode(np.asarray(image), ImageFormat.PNG)
    report = auditor_with(root, sealed.id.mark_id, kept=0.2)[0].verify(data)
    assert report.latent is not None
    assert (report.latent.mark_id, report.latent.tests) == (sealed.id.mark_id, 1)
    assert report.verdict is FileVerdict.RECOVERED
    stranger = auditor_with(root, "0123456789abcdef", kept=0.1)[0].verify(data)
    assert stranger.latent is not None
    assert stranger.latent.verdict is MarkVerdict.NOT_DETECTED


def test_noise_that_was_used_again_for_another_picture_is_unbound(made: tuple[Path, Sealed]) -> None:
    root, sealed = made
    other = np.random.default_rng(1).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    report = auditor_with(root, sealed.id.mark_id)[0].verify(encode(other, ImageFormat.PNG))
    assert report.latent is not None
    assert report.latent.verdict is MarkVerdict.PRESENT_UNBOUND
    assert report.verdict is FileVerdict.SUSPECTED


def test_a_cropped_and_turned_copy_is_laid_over_the_recorded_picture(made: tuple[Path, Sealed]) -> None:
    root, sealed = made
    auditor, inverter = auditor_with(root, sealed.id.mark_id)
    edited = np.ascontiguousarray(np.rot90(sealed.pixels[20:220, 30:230]))
    report = auditor.verify(encode(edited, ImageFormat.PNG))
    assert report.latent is not None
    assert report.latent.tests == 1
    assert report.latent.mark_id == sealed.id.mark_id
    (shown,) = inverter.seen
    assert shown.shape == (256, 256, 3)
    middle = slice(60, 180)
    difference = np.abs(shown[middle, middle].astype(int) - sealed.pixels[middle, middle]).mean()
    assert difference < 0.3 * sealed.pixels[middle, middle].std()


@pytest.mark.parametrize(
    ("size", "drawn"), [((128, 128), (256, 256)), ((300, 300), (256, 256)), ((700, 400), (704, 384))]
)
def test_without_a_record_the_size_is_the_models_where_the_shape_fits(
    size: tuple[int, int], drawn: tuple[int, int], made: tuple[Path, Sealed]
) -> None:
    root, _ = made
    auditor, inverter = auditor_with(root, "0123456789abcdef")
    pixels = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    auditor.verify(encode(pixels, ImageFormat.PNG))
    assert inverter.seen[0].shape[1::-1] == drawn
