"""One labelled picture of what was compared, for the person who reviews a match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.images import Match
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.similarity.keypoint_index import PLACEMENT
from guardrails.similarity.placing import Placement
from guardrails.similarity.verification import TILES, Agreement, compare, compare_placed

_PANEL = 256
_GAP = 12
_HEADING = 22
_LINE = 17
_FONT_SIZE = 13
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_ABSENT = (225, 225, 225)
_AGREES = (0, 150, 70)
_OTHER_COLOUR = (225, 150, 0)
_DIFFERS = (205, 40, 40)
_FOUND = (230, 0, 120)


def side_by_side(picture: Pixels, source: Pixels | None, match: Match, thumbnail: bytes | None = None) -> Pixels:
    """The picture beside the work it resembles, with licence, creator and distances beneath.

    Where keypoints found the work in a part of the picture, that part is framed. With the source at hand a third panel
    shows the picture as it was laid over the work: tiles that agree are framed green, those of the same structure in
    another colour amber, and those that differ red.

    Args:
        picture, source: RGB, uint8, height x width x 3; `source` is None when only its hashes are at hand.
        thumbnail: a small file of the work, shown where `source` is None; it is not compared.

    Returns:
        RGB, uint8, height x width x 3.
    """
    placement = _placement(match)
    panels = [("picture", _panel(picture, match)), _work(source, thumbnail)]
    lines = _caption(match)
    if source is not None:
        agreement = compare(picture, source) if placement is None else compare_placed(picture, source, placement)
        panels.append((f"laid over the work, by {agreement.hypothesis.split(',')[0]}", _tiles(agreement)))
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
    distances = ", ".join(f"{name} {distance}" for name, distance in sorted(match.distances.items())) or "none near"
    remark = f"; {match.remark}" if match.remark else ""
    return [
        f"{match.title} ({match.entry})",
        f"{match.state.value}, grade {match.grade} of 5{remark}",
        f"{agreement}; Hamming distances: {distances}",
        f"creator: {rights.creator}",
        f"licence: {rights.licence or 'unknown'}; reservation: {rights.reservation or 'none known'}",
        f"source: {rights.source}",
    ]


def _placement(match: Match) -> Placement | None:
    record = match.evidence.get(PLACEMENT)
    return Placement.from_json(record) if isinstance(record, Mapping) else None


def _work(source: Pixels | None, thumbnail: bytes | None) -> tuple[str, Image.Image]:
    if source is not None:
        return "work in the index", _panel(source)
    if thumbnail is not None:
        return "work in the index, thumbnail", _panel(decode(thumbnail).pixels)
    return "work in the index", _absent()


def _panel(pixels: Pixels, match: Match | None = None) -> Image.Image:
    """Scaled into a square, keeping its proportions; where the match was found is framed."""
    image = Image.fromarray(pixels)
    scale = _PANEL / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    box = None if match is None else match.evidence.get("found_at")
    if isinstance(box, list):
        frame_part(image, box)
    panel = Image.new("RGB", (_PANEL, _PANEL), _PAPER)
    panel.paste(image, ((_PANEL - image.width) // 2, (_PANEL - image.height) // 2))
    return panel


def frame_part(image: Image.Image, box: Sequence[Any]) -> None:
    """Draw a frame around a part of a picture.

    Args:
        box: left, top, right, bottom in units of its width and height; what lies outside is drawn at the edge.
    """
    width = max(2, max(image.size) // 100)
    scaled = [min(max(edge, 0.0), 1.0) * (side - 1) for edge, side in zip(box, image.size * 2, strict=True)]
    ImageDraw.Draw(image).rectangle(scaled, outline=_FOUND, width=width)


def _absent() -> Image.Image:
    panel = Image.new("RGB", (_PANEL, _PANEL), _ABSENT)
    ImageDraw.Draw(panel).text(
        (_PANEL // 2, _PANEL // 2), "not at hand:\nonly hashes are stored", fill=_INK, anchor="mm", align="center"
    )
    return panel


def _tiles(agreement: Agreement) -> Image.Image:
    """The picture as it was laid over, with a frame around every counted tile."""
    panel = Image.fromarray(agreement.picture).resize((_PANEL, _PANEL))
    draw = ImageDraw.Draw(panel)
    edges = np.linspace(0, _PANEL, TILES + 1).round().astype(int).tolist()
    for row, column in np.argwhere(agreement.counted).tolist():
        if agreement.agreeing[row, column]:
            colour = _AGREES
        else:
            colour = _OTHER_COLOUR if agreement.structure[row, column] else _DIFFERS
        box = edges[column] + 1, edges[row] + 1, edges[column + 1] - 2, edges[row + 1] - 2
        draw.rectangle(box, outline=colour, width=2)
    return panel
