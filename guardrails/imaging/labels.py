"""Visible labels: plain words on an opaque plate in a corner, legible on whatever lies beneath.

The plate is near black with a white rim, the letters are white, so that the contrast does not depend on the picture.
It lies in the upper right corner, where the EU's Code of Practice shows it; GB 45438-2025 takes any edge or corner.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.labels import LabelLine, LabelProfile, VisibleLabel
from guardrails.errors import LabelError
from guardrails.imaging import Pixels
from guardrails.resources import datasets_path

# Success criterion 1.4.3 of WCAG 2.2, level AA.
LEAST_CONTRAST = 4.5

_PLATE = 24
_LETTERS = 255
# A capital of fewer pixels cannot be told from others; a small picture gets this where it has the room, and not less
# than the second.
_COMFORTABLE_PIXELS = 12
_FEWEST_PIXELS = 6
_FONT_UNITS = 1000
_NO_CHARACTER = "\uffff"
# Shares of the letters' height: the margin around the plate, and the space inside it and between lines.
_MARGIN = 0.4
_PADDING = 0.4
_GAP = 0.6
# Letters and plate are measured where a pixel is wholly one or the other, and by their worst tenth.
_WHOLLY = 0.95
_WORST = 10


def draw_label(
    pixels: Pixels, profiles: Sequence[LabelProfile], *, edited: bool = False
) -> tuple[Pixels, VisibleLabel]:
    """Draw the label that some profiles ask for.

    Args:
        pixels: RGB, uint8, height x width x 3; not changed.
        profiles: at least one; equal texts are drawn once, at the larger height.
        edited: whether the model changed a picture instead of making one.

    Raises:
        LabelError: the picture has no room for letters that can be read, or there is no outline for a letter.
    """
    height, width = pixels.shape[:2]
    lines = _fitted(_texts(profiles, min(height, width), edited=edited), width, height)
    plate, _ = _render(lines)
    rows, columns = plate.shape
    margin = _margin(lines, width, height)
    left, top = width - columns - margin, margin
    drawn = pixels.copy()
    drawn[top : top + rows, left : left + columns] = plate[..., np.newaxis]
    label = VisibleLabel(
        profiles={profile.id: profile.as_of for profile in profiles},
        lines=lines,
        box=(left, top, left + columns, top + rows),
    )
    return drawn, label


def read_back(pixels: Pixels, label: VisibleLabel) -> VisibleLabel:
    """The label with its contrast in the decoded final file.

    Raises:
        LabelError: it is below `LEAST_CONTRAST`.
    """
    contrast = label_contrast(pixels, label)
    if contrast < LEAST_CONTRAST:
        raise LabelError(f"the label has a contrast of {contrast:.1f} in the final file", hint="choose png")
    return dataclasses.replace(label, contrast=round(contrast, 1))


def label_contrast(pixels: Pixels, label: VisibleLabel) -> float:
    """The contrast ratio (WCAG 2.2) between letters and plate in a picture, 1 where there is no label.

    Args:
        pixels: RGB, uint8, height x width x 3, as large as the picture that was labelled.
    """
    plate, letters = _render(label.lines)
    left, top, right, bottom = label.box
    shown = _luminance(pixels[top:bottom, left:right])
    if shown.shape != plate.shape:
        return 1.0
    light = float(np.percentile(shown[letters >= _WHOLLY * letters.max()], _WORST))
    dark = float(np.percentile(shown[(letters == 0) & (plate == _PLATE)], 100 - _WORST))
    return max(1.0, (light + 0.05) / (dark + 0.05))


def _texts(profiles: Sequence[LabelProfile], shortest: int, *, edited: bool) -> list[tuple[str, int]]:
    """Each text with the least height that the law knows for it, in pixels."""
    wanted: dict[str, int] = {}
    for profile in profiles:
        text = profile.edited if edited else profile.generated
        _check_outlines(text)
        least = math.ceil(profile.height_percent * shortest / 100)
        wanted[text] = max(least, wanted.get(text, 0))
    return list(wanted.items())


@functools.cache
def _check_outlines(text: str) -> None:
    font = _font(_COMFORTABLE_PIXELS)
    missing = bytes(font.getmask(_NO_CHARACTER))
    unknown = [letter for letter in text if not letter.isspace() and bytes(font.getmask(letter)) == missing]
    if unknown:
        raise LabelError(
            f"there is no outline for {unknown[0]!r} of the label {text!r}", hint="see datasets/labels/README.md"
        )


def _fitted(texts: list[tuple[str, int]], width: int, height: int) -> tuple[LabelLine, ...]:
    """The lines at a comfortable size where that fits, else as small as they may be; broken at spaces if need be."""
    for floor in range(_COMFORTABLE_PIXELS, _FEWEST_PIXELS - 1, -1):
        for broken in (False, True):
            lines = tuple(
                LabelLine(text=part, height=max(least, floor))
                for text, least in texts
                for part in (text.split() if broken else [text])
            )
            rows, columns = _render(lines)[0].shape
            margin = _margin(lines, width, height)
            if columns + 2 * margin <= width and rows + 2 * margin <= height:
                return lines
    raise LabelError(
        f"a picture of {width}x{height} has no room for the label {' '.join(text for text, _ in texts)!r}",
        hint="ask for a larger picture",
    )


def _margin(lines: Sequence[LabelLine], width: int, height: int) -> int:
    """Around the plate; a picture that is hardly larger than its label has none."""
    return min(round(_MARGIN * max(line.height for line in lines)), min(width, height) // 32)


@functools.lru_cache(maxsize=64)
def _render(lines: tuple[LabelLine, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The plate with its letters, and how far each pixel is letter; grey, uint8, rows x columns."""
    fonts = [_font(line.height) for line in lines]
    boxes = [font.getbbox(line.text, anchor="ls") for font, line in zip(fonts, lines, strict=True)]
    padding = math.ceil(_PADDING * max(line.height for line in lines))
    heights = [math.ceil(box[3] - box[1]) for box in boxes]
    gaps = [math.ceil(_GAP * line.height) for line in lines[1:]]
    columns = math.ceil(max(box[2] - box[0] for box in boxes)) + 2 * padding
    rows = sum(heights) + sum(gaps) + 2 * padding
    letters = Image.new("L", (columns, rows), 0)
    draw, top = ImageDraw.Draw(letters), padding
    for line, font, box, tall, gap in zip(lines, fonts, boxes, heights, [*gaps, 0], strict=True):
        draw.text((padding - box[0], top - box[1]), line.text, fill=255, font=font, anchor="ls")
        top += tall + gap
    share = np.asarray(letters)
    plate = np.rint(_PLATE + share / 255 * (_LETTERS - _PLATE)).astype(np.uint8)
    rim = max(1, padding // 8)
    plate[:rim] = plate[-rim:] = _LETTERS
    plate[:, :rim] = plate[:, -rim:] = _LETTERS
    return plate, share


@functools.lru_cache(maxsize=32)
def _font(capital: int) -> ImageFont.FreeTypeFont:
    """The letters at the size at which the lowest capital or digit is `capital` pixels high."""
    data = _font_file()
    probe = ImageFont.truetype(io.BytesIO(data), _FONT_UNITS, layout_engine=ImageFont.Layout.BASIC)
    tallest = -probe.getbbox("I", anchor="ls")[1]
    size = capital * _FONT_UNITS / tallest
    return ImageFont.truetype(io.BytesIO(data), size, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def _font_file() -> bytes:
    return datasets_path("labels", "label.ttf").read_bytes()


def _luminance(pixels: Pixels) -> NDArray[np.float64]:
    """Relative luminance of sRGB, 0..1 (WCAG 2.2, definitions)."""
    values = pixels / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]), dtype=np.float64)
