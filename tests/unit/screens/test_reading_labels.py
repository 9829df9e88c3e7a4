"""The OCR reader of the screens reads the visible labels back, and takes them for nobody's brand."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.domain.labels import LabelProfile
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.imaging.labels import draw_label
from guardrails.policy.labelling import label_profiles
from guardrails.screens.marks import VisibleMarks
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.hosts import drawn_hosts


@pytest.fixture(scope="module")
def reader() -> VisibleMarks:
    return VisibleMarks()


def grounds(count: int, side: int) -> list[Pixels]:
    """Drawings, scenes, shapes on white, noise, stripes and plain colours in turn; all different."""
    rng, made = np.random.default_rng(8), list[Pixels]()
    hosts = [host.pixels for host in drawn_hosts(size=side, count=count)]
    for number in range(count):
        match number % 6:
            case 0 | 1:
                made.append(hosts[number])
            case 2:
                made.append(draw_shapes(number, side))
            case 3:
                made.append(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            case 4:
                stripes = np.where(np.arange(side) // (2 + number) % 2, 255, 20).astype(np.uint8)
                made.append(np.repeat(np.tile(stripes, (side, 1))[..., np.newaxis], 3, axis=2))
            case _:
                made.append(np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8))
    return made


def read(reader: VisibleMarks, pixels: Pixels, *profiles: LabelProfile) -> str:
    """What stands where the label was drawn, as OCR reads it from a small JPEG."""
    drawn, label = draw_label(pixels, profiles)
    final = decode(encode(drawn, ImageFormat.JPEG, quality=75)).pixels
    left, top, right, bottom = label.box
    inside = [
        word.text
        for word in reader.read(final)
        if left <= (word.box[0] + word.box[2]) / 2 <= right and top <= (word.box[1] + word.box[3]) / 2 <= bottom
    ]
    # A capital I and a small l have one outline in a sans face; alone, only a person knows which is meant.
    return "".join(inside).replace(" ", "").replace("Al", "AI")


@pytest.mark.parametrize(
    ("side", "count"),
    [(256, 6), *(pytest.param(side, 24, marks=pytest.mark.slow) for side in (96, 128, 256, 512, 1024))],
)
def test_labels_are_read_on_every_ground(reader: VisibleMarks, side: int, count: int) -> None:
    china, europe = (label_profiles()[name] for name in ("cn", "eu"))
    told = [read(reader, pixels, china, europe) for pixels in grounds(count, side)]
    missed = [number for number, text in enumerate(told) if text != "AI生成AIGENERATED"]
    # Behind stripes as wide as its letters' strokes the reader finds one line and overlooks the other.
    assert len(missed) <= count // 24, missed


def test_where_none_was_drawn_none_is_read(reader: VisibleMarks) -> None:
    for pixels in grounds(3, 256):
        assert not any("AI" in word.text.upper() for word in reader.read(pixels))


def test_a_label_is_nobodys_brand(reader: VisibleMarks) -> None:
    """A labelled picture that comes back, to be edited, is not refused for its label."""
    for pixels in grounds(3, 256):
        drawn, _ = draw_label(pixels, list(label_profiles().values()))
        assert reader.score(drawn).scores == {"stock-mark": 0.0}
