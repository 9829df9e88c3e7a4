"""Scenes show what their captions say."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.pocket.dataset import TRAINED_SETS, Picture
from guardrails.pocket.evaluation import background_of, sheet
from guardrails.pocket.rendering import render
from guardrails.pocket.scenes import COLOURS, UNNAMED_STYLE, canonical, compose
from guardrails.pocket.sources import slug_of, svg_of

DISC = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><circle cx="5" cy="5" r="4" fill="#ff0000"/></svg>'


def picture(name: str, style: str) -> Picture:
    return Picture(
        id=f"{style}:{name}",
        name=name,
        set=style,
        style=style,
        group="objects",
        keywords="",
        licence="MIT",
        licence_url="",
        creator="someone",
        package="p@1",
        sha256="",
        trained="yes",
        rights="",
    )


def test_rendering_keeps_transparency_around_the_drawing() -> None:
    rgba = render(DISC)
    assert rgba.shape == (256, 256, 4)
    assert rgba[0, 0, 3] == 0
    assert rgba[128, 128].tolist() == [255, 0, 0, 255]


def test_a_wide_drawing_is_centred_in_a_square() -> None:
    wide = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10"/></svg>'
    alpha = render(wide)[..., 3]
    assert alpha.shape == (256, 256)
    assert alpha[128].min() == 255
    assert alpha[10].max() == 0
    assert alpha[-10].max() == 0


def test_the_canonical_picture_stands_on_white() -> None:
    pixels = canonical(render(DISC))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[128, 128].tolist() == [255, 0, 0]


@pytest.mark.parametrize("seed", range(12))
def test_the_background_has_the_colour_of_the_caption(seed: int) -> None:
    scene = compose([picture("disc", "noto")], [render(DISC)], np.random.default_rng(seed))
    named = [colour for colour in COLOURS if f" {colour} background" in scene.caption]
    colour = max(named, key=len) if named else "white"
    assert background_of(scene.pixels) == colour
    assert scene.pixels[128, 128].tolist() == [255, 0, 0]


def test_two_drawings_stand_side_by_side() -> None:
    blue = DISC.replace("#ff0000", "#0000ff")
    scene = compose(
        [picture("disc", "noto"), picture("orb", "noto")], [render(DISC), render(blue)], np.random.default_rng(3)
    )
    assert scene.pixels[128, 69].tolist() == [255, 0, 0]
    assert scene.pixels[128, 187].tolist() == [0, 0, 255]
    assert "disc and" in scene.caption


def test_captions_name_every_hand_but_the_usual_one() -> None:
    def captions(style: str) -> list[str]:
        return [
            compose([picture("orb", style)], [render(DISC)], np.random.default_rng(seed)).caption for seed in range(20)
        ]

    other = next(iter(TRAINED_SETS - {UNNAMED_STYLE}))
    assert all(caption.endswith(f", {other} style") for caption in captions(other))
    assert 0 < sum(caption.endswith(f", {UNNAMED_STYLE} style") for caption in captions(UNNAMED_STYLE)) < 20


def test_names_of_icons_come_from_labels() -> None:
    assert slug_of("cat with tears of joy") == "cat-with-tears-of-joy"
    assert slug_of("Piñata: 1st!") == "piñata-1st"


def test_an_icon_takes_the_size_of_its_set_unless_it_has_its_own() -> None:
    icons = {"width": 36, "height": 36, "icons": {"a": {"body": "<g/>"}, "b": {"body": "<g/>", "width": 20}}}
    assert 'viewBox="0 0 36 36"' in svg_of(icons, "a")
    assert 'viewBox="0 0 20 36"' in svg_of(icons, "b")


def test_a_sheet_fills_its_last_row_with_white() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    sheet_ = sheet([black] * 3, 2)
    assert sheet_.shape == (8, 8, 3)
    assert sheet_[4:, 4:].min() == 255
