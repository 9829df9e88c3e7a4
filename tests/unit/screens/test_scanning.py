"""Traps in files: what a picture hides from one viewer it must not hide from the screens."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.findings import Action, Check, CheckStatus, Component
from guardrails.domain.requests import PromptRequest
from guardrails.encoders.offline_clip import preprocess
from guardrails.errors import ImageError
from guardrails.policy import default_policy
from guardrails.policy.model import ScreenRule
from guardrails.prompts import PromptGuard
from guardrails.screens.faces import Faces
from guardrails.screens.judge import judge
from guardrails.screens.persons import NAMED, UNNAMED
from guardrails.screens.protocol import Reading
from guardrails.screens.scanning import agreement, scan, worst
from guardrails.testing.faces import Finder, enrol, vector

RED = (250, 10, 10)


class Redness:
    """Scores how red the reddest pixel is; remembers what it was shown."""

    component = Component(name="redness", version="1")

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def score(self, pixels: np.ndarray) -> Reading:
        self.seen.append(pixels)
        excess = pixels[..., 0].astype(int) - pixels[..., 1:].max(axis=-1)
        return Reading(scores={"red": max(0.0, float(excess.max()) / 255)})


def rule(id: str = "RED-01", screen: str = "redness", concept: str = "red") -> ScreenRule:
    return ScreenRule(
        id=id,
        category="colour",
        action=Action.BLOCK,
        message="Too red.",
        screen=screen,
        concept=concept,
        threshold=0.8,
        error_rate="",
        when_unavailable=Action.REVIEW,
    )


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_red() -> Image.Image:
    image = Image.new("RGB", (64, 32), "white")
    image.paste(RED, (0, 0, 32, 32))
    return image


def test_content_under_alpha_zero_is_seen() -> None:
    image = Image.new("RGBA", (32, 32), (*RED, 0))
    screen = Redness()
    assert scan(saved(image), [screen], [rule()]).action is Action.BLOCK
    assert len(screen.seen) == 3
    assert (screen.seen[0] == 255).all()


def test_content_that_shows_on_black_only_is_seen() -> None:
    image = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
    image.putpixel((5, 5), (255, 0, 0, 255))
    assert scan(saved(image), [Redness()], [rule()]).action is Action.BLOCK
    faint = Image.new("RGBA", (32, 32), (255, 255, 255, 128))
    screen = Redness()
    scan(saved(faint), [screen], [rule()])
    assert [int(pixels.mean()) for pixels in screen.seen] == [255, 128, 255]


def test_persons_of_every_way_to_show_a_file_are_joined_with_its_prompt(tmp_path: Path) -> None:
    gallery = enrol(tmp_path, **{"enwiki:Joe_Biden": vector(1)})
    screen = Faces(gallery, finder=Finder(vector(1)))
    rules = [rule("NAMED", "faces", NAMED), rule("UNNAMED", "faces", UNNAMED)]
    transparent = saved(Image.new("RGBA", (32, 32), (*RED, 0)))
    prompted = PromptGuard(default_policy()).decide(PromptRequest(prompt="Joe Biden on a stage")).findings
    assert [one.rule for one in scan(transparent, [screen], rules, prompted).findings] == ["NAMED"]
    assert [one.rule for one in scan(transparent, [screen], rules).findings] == ["UNNAMED"]


def test_opaque_pictures_are_looked_at_once() -> None:
    screen = Redness()
    scan(saved(half_red().convert("RGBA")), [screen], [rule()])
    assert len(screen.seen) == 1


def test_exif_rotation_is_applied_before_screens_look() -> None:
    exif = Image.Exif()
    exif[274] = 6
    screen = Redness()
    scan(saved(half_red(), "JPEG", exif=exif, quality=95), [screen], [rule()])
    (pixels,) = screen.seen
    assert pixels.shape == (64, 32, 3)
    assert pixels[:28, :, 1].mean() < 60
    assert pixels[36:, :, 1].mean() > 200


def test_channels_are_red_green_blue() -> None:
    screen = Redness()
    scan(saved(Image.new("RGB", (32, 32), RED)), [screen], [rule()])
    assert tuple(screen.seen[0][0, 0]) == RED


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_animations_are_refused_and_not_screened_by_their_first_frame(kind: str, options: dict[str, object]) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("white", RED, "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    with pytest.raises(ImageError, match="frames"):
        scan(data, [Redness()], [rule()])


def test_sixteen_bits_keep_their_shades() -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(1, 64).repeat(8, axis=0)
    screen = Redness()
    scan(saved(Image.fromarray(ramp)), [screen], [rule()])
    shades = screen.seen[0][0, :, 0]
    assert len(set(shades.tolist())) == 64
    assert (shades[0], shades[-1]) == (0, 255)


def test_cut_files_are_refused() -> None:
    data = saved(half_red())
    with pytest.raises(ImageError):
        scan(data[: len(data) - 40], [Redness()], [rule()])


@pytest.mark.parametrize("make", [lambda: np.zeros((64, 64, 3), np.uint8), lambda: np.full((64, 64, 3), 255, np.uint8)])
def test_preprocessing_takes_bytes_to_clips_own_range(make: Callable[[], np.ndarray]) -> None:
    pixels = make()
    found = preprocess(pixels)
    low, high = (0 - 0.48145466) / 0.26862954, (1 - 0.48145466) / 0.26862954
    assert found[0].min() == pytest.approx(low if pixels.max() == 0 else high, abs=1e-5)


@pytest.mark.parametrize("wrong", [np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint16),
                                   np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8)])  # fmt: skip
def test_pixels_in_another_form_are_refused_by_the_encoder(wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match="pixels of shape"):
        preprocess(wrong)


def check(status: CheckStatus = CheckStatus.RAN, abstained: dict[str, str] | None = None, **scores: float) -> Check:
    return Check(
        component=Component(name="redness", version="1"), status=status, scores=scores, abstained=abstained or {}
    )


def test_the_worst_showing_counts_and_what_is_not_known_in_one_is_not_known() -> None:
    assert worst([[check(red=0.2, blue=0.9)], [check(red=0.7, blue=0.1)]])[0].scores == {"red": 0.7, "blue": 0.9}
    (found,) = worst([[check(red=0.2)], [check(abstained={"red": "small"})]])
    assert (found.scores, found.abstained) == ({"red": 0.2}, {"red": "small"})
    assert [one.action for one in judge([found], [rule()])] == [Action.REVIEW]
    unsure = replace(check(abstained={"red": "small"}), evidence={"red": {"prior": []}})
    assert worst([[check(red=0.2)], [unsure]])[0].evidence == {"red": {"prior": []}}
    (failed,) = worst([[check(red=0.2)], [check(CheckStatus.FAILED)]])
    assert failed.status is CheckStatus.FAILED


def test_what_is_seen_in_one_showing_is_found_also_where_another_is_not_known() -> None:
    """Else strange colours below the transparency of a picture would hide what everybody sees."""
    runs = [[check(red=0.9)], [check(abstained={"red": "unlike all pictures"})]]
    for ordered in (runs, runs[::-1]):
        (finding,) = judge(worst(ordered), [rule()])
        assert (finding.action, finding.score) == (Action.BLOCK, 0.9)


def test_a_finding_says_in_which_showing_it_was_seen() -> None:
    class Explained(Redness):
        def score(self, pixels: np.ndarray) -> Reading:
            return replace(super().score(pixels), evidence={"red": {"raw": 1}})

    hidden = scan(saved(Image.new("RGBA", (32, 32), (*RED, 0))), [Explained()], [rule()])
    assert hidden.findings[0].evidence["shown"] == "without its transparency"
    assert (hidden.showings["without its transparency"] == RED).all()
    assert (hidden.pixels == 255).all()
    plain = scan(saved(Image.new("RGB", (32, 32), RED)), [Explained()], [rule()])
    assert "shown" not in plain.findings[0].evidence


def test_a_screen_that_could_not_look_does_not_disagree() -> None:
    rules = [rule(), rule("RED-02", "missing", "rouge")]
    scanned = scan(saved(half_red()), [Redness()], rules)
    assert {finding.rule for finding in scanned.findings} == {"RED-01", "RED-02"}
    assert scanned.agreement == {"colour": (("redness red",), ())}


def test_screens_of_one_category_that_disagree_are_named() -> None:
    rules = [rule(), rule("RED-02", "other", "rouge"), rule("RED-03", "third", "red")]
    scanned = scan(saved(half_red()), [Redness()], rules[:1])
    assert agreement(scanned.findings, rules) == {"colour": (("redness red",), ("other rouge", "third red"))}
    assert agreement((), rules) == {}
