"""One labelled picture of what was compared, for the person who reviews a match."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.images import Match
from guardrails.imaging import Pixels
from guardrails.similarity.verification import SIDE, TILES, Agreement, compare

_PANEL = 256
_GAP = 12
_HEADING = 22
_LINE = 17
_FONT_SIZE = 13
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_ABSENT = (225, 225, 225)
_AGREES = (0, 150, 70)
_DIFFERS = (205, 40, 40)


def side_by_side(picture: Pixels, source: Pixels | None, match: Match) -> Pixels:
    """The picture beside the work it resembles, with licence, creator and distances beneath.

    With the source at hand a third panel shows the picture as it was compared, its agreeing tiles framed green and
    the disagreeing ones red.

    Args:
        picture, source: RGB, uint8, height x width x 3; `source` is None when only its hashes are at hand.

    Returns:
        RGB, uint8, height x width x 3.
    """
    panels = [("picture", _panel(picture)), ("work in the index", _absent() if source is None else _panel(source))]
    if source is not None:
        panels.append(("as compared, by tile", _tiles(compare(picture, source))))
    lines = _caption(match)
    width = _GAP + len(panels) * (_PANEL + _GAP)
    sheet = Image.new("RGB", (width, _HEADING + _PANEL + _GAP + len(lines) * _LINE + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for number, (heading, panel) in enumerate(panels):
        left = _GAP + number * (_PANEL + _GAP)
        draw.text((left, 3), heading, fill=_INK, font=font)
        sheet.paste(panel, (left, _HEADING))
        draw.rectangle((left, _HEADING, left + _PANEL - 1, _HEADING + _PANEL - 1), outline=_ABSENT)
    for number, line in enumerate(lines):
        draw.text((_GAP, _HEADING + _PANEL + _GAP + number * _LINE), line, fill=_INK, font=font)
    return np.asarray(sheet)


def _caption(match: Match) -> list[str]:
    rights = match.rights
    agreement = "reference picture not at hand" if match.agreement is None else f"{match.agreement:.0%} of tiles agree"
    distances = ", ".join(f"{name} {distance}" for name, distance in sorted(match.distances.items()))
    return [
        f"{match.title} ({match.entry})",
        f"{match.state.value}: {agreement}; Hamming distances: {distances}",
        f"creator: {rights.creator}",
        f"licence: {rights.licence}; reservation: {rights.reservation or 'none known'}",
        f"source: {rights.source}",
    ]


def _panel(pixels: Pixels) -> Image.Image:
    """Scaled into a square, keeping its proportions."""
    image = Image.fromarray(pixels)
    scale = _PANEL / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    panel = Image.new("RGB", (_PANEL, _PANEL), _PAPER)
    panel.paste(image, ((_PANEL - image.width) // 2, (_PANEL - image.height) // 2))
    return panel


def _absent() -> Image.Image:
    panel = Image.new("RGB", (_PANEL, _PANEL), _ABSENT)
    ImageDraw.Draw(panel).text(
        (_PANEL // 2, _PANEL // 2), "not at hand:\nonly hashes are stored", fill=_INK, anchor="mm", align="center"
    )
    return panel


def _tiles(agreement: Agreement) -> Image.Image:
    """The aligned picture with a frame around every counted tile."""
    step = SIDE // TILES * 2
    scaled = Image.fromarray(agreement.picture).resize((SIDE * 2, SIDE * 2))
    draw = ImageDraw.Draw(scaled)
    for row, column in np.argwhere(agreement.counted):
        left, top = int(column) * step, int(row) * step
        colour = _AGREES if agreement.agreeing[row, column] else _DIFFERS
        draw.rectangle((left + 1, top + 1, left + step - 2, top + step - 2), outline=colour, width=2)
    return scaled.resize((_PANEL, _PANEL))
