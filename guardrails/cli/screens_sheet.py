"""The sheet that `guardrails screens scan --html` writes: every decision with what explains it, in one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from guardrails.cli.output import clean
from guardrails.errors import GuardrailsError
from guardrails.files import write_atomically

if TYPE_CHECKING:
    from guardrails.domain.findings import Check, Finding
    from guardrails.imaging import Pixels
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.concepts import ConceptPack
    from guardrails.screens.scanning import Scan

THUMBNAIL = 320
CONCEPTS_SHOWN = 6
# Kinds whose nearest rows are pictures; the rows of the others are words.
WITH_EXAMPLES = frozenset({"exemplar", "linear", "mlp"})
FRAME = (255, 0, 80)
LINE_SHARE = 0.006


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finding as the sheet shows it; pictures are `data:` addresses.

    Attributes:
        examples: picture and label of the nearest examples.
        without: why there are none.
        safe: the nearest safe pictures.
    """

    finding: Finding
    part: str
    heat: str
    examples: tuple[tuple[str, str], ...]
    without: str
    safe: tuple[Safe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """A safe picture that a finding's picture is like.

    Attributes:
        origin: its source and licence; "" when it is not one of the shipped references.
        picture: a small one, or "" where none is kept.
    """

    id: str
    cosine: float
    origin: str
    picture: str


def write_sheet(files: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write the sheet of what `shown_file` made of each file."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True, trim_blocks=True)
    write_atomically(target, environment.get_template("screens.html").render(files=files).encode())


def shown_file(
    path: Path, scanned: Scan | Exception, packs: Sequence[ConceptPack] = (), heated: ClipConcepts | None = None
) -> dict[str, Any]:
    """One file as the sheet shows it, with small pictures alone.

    Args:
        packs: whose examples are shown beside what is like them, where a pack brings pictures.
        heated: the screen that draws heat maps; None for none.
    """
    name = clean(str(path))
    if isinstance(scanned, Exception):
        return {"path": name, "error": clean(str(scanned))}
    return {
        "path": name,
        "picture": _address(outlined(scanned.pixels, [box for finding in scanned.findings for box in _boxes(finding)])),
        "action": scanned.action.name.lower(),
        "rows": [_row(finding, _showing(scanned, finding), packs, heated) for finding in scanned.findings],
        "checks": [(check, _highest(check)) for check in scanned.checks],
        "agreement": scanned.agreement,
    }


def _showing(scanned: Scan, finding: Finding) -> Pixels:
    """The picture in which it was seen: a file with transparency shows several."""
    return scanned.showings.get(str(finding.evidence.get("shown")), scanned.pixels)


def _boxes(finding: Finding) -> list[list[int]]:
    """The places that a finding names: its part of the picture, or the faces that were seen."""
    persons = finding.evidence.get("persons")
    named = [finding.evidence, *(persons if isinstance(persons, list) else [])]
    boxes = [one.get("box") for one in named if isinstance(one, Mapping)]
    return [[int(str(value)) for value in box] for box in boxes if isinstance(box, list)]


def outlined(pixels: Pixels, boxes: Sequence[Sequence[int]]) -> Pixels:
    """The picture with a frame around each box [left, top, right, bottom] that is not the whole of it."""
    from PIL import ImageDraw

    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    canvas, line = ImageDraw.Draw(image), max(2, round(LINE_SHARE * max(width, height)))
    for left, top, right, bottom in boxes:
        if [left, top, right, bottom] != [0, 0, width, height] and left < right and top < bottom:
            canvas.rectangle((left - line, top - line, right + line - 1, bottom + line - 1), outline=FRAME, width=line)
    return np.asarray(image)


def _row(finding: Finding, pixels: Pixels, packs: Sequence[ConceptPack], heated: ClipConcepts | None) -> Row:
    box, concept = finding.evidence.get("box"), str(finding.evidence.get("concept", ""))
    height, width = pixels.shape[:2]
    part = heat = ""
    seen = pixels
    if isinstance(box, list) and box != [0, 0, width, height]:
        left, top, right, bottom = (max(0, int(str(value))) for value in box)
        if left < right <= width and top < bottom <= height:
            seen = pixels[top:bottom, left:right]
            part = _address(seen)
    elif "shown" in finding.evidence:
        part = _address(seen)
    if heated is not None and finding.score is not None and finding.detector.name == heated.component.name:
        from guardrails.screens.explain import heat as heat_of
        from guardrails.screens.explain import overlay

        # Of the part that has this score: in the whole of a panorama it may be a few patches.
        heat = _address(overlay(seen, heat_of(heated, seen, concept)))
    examples, without = _examples(finding, concept, packs)
    return Row(finding=finding, part=part, heat=heat, examples=examples, without=without, safe=_safe(finding))


def _safe(finding: Finding) -> tuple[Safe, ...]:
    """The safe pictures that lie nearest to what was found, with their small pictures where the licence allows them."""
    from guardrails.screens.catalogue import shipped, thumbnail

    nearest, domain = finding.evidence.get("nearest_safe"), str(finding.evidence.get("domain", ""))
    found = []
    for id, cosine in nearest if isinstance(nearest, list) else ():
        known = shipped().get((domain, id))
        small = None if known is None else thumbnail(known)
        origin = "" if known is None else f"{known.source}, {known.licence}"
        found.append(Safe(id=id, cosine=cosine, origin=origin, picture="" if small is None else _address(small)))
    return tuple(found)


def _examples(finding: Finding, concept: str, packs: Sequence[ConceptPack]) -> tuple[tuple[tuple[str, str], ...], str]:
    """The nearest examples of a concept that has any, or why their pictures are not shown."""
    from guardrails.screens.concepts import read_part
    from guardrails.screens.exemplars import picture_of

    nearest = finding.evidence.get("nearest")
    pack, own = next(
        ((pack, one) for pack in packs for one in pack.concepts if one.id == concept and one.kind in WITH_EXAMPLES),
        (None, None),
    )
    if pack is None or own is None or not isinstance(nearest, list) or not nearest:
        return (), ""
    if not own.thumbnails:
        return (), "pictures of its examples are not kept with the pack"
    shown, without = [], ""
    for name in (str(one[0]) for one in nearest if isinstance(one, list)):
        try:
            shown.append((_address(picture_of(read_part(pack.folder / own.thumbnails), name)), name))
        except GuardrailsError as error:
            without = error.message
    return tuple(shown), without


def _highest(check: Check) -> Mapping[str, float]:
    return dict(sorted(check.scores.items(), key=lambda pair: -pair[1])[:CONCEPTS_SHOWN])


def _address(pixels: Pixels) -> str:
    """A small JPEG of the pixels inside the page."""
    from guardrails.imaging.encoding import ImageFormat, encode

    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return f"data:image/jpeg;base64,{base64.b64encode(encode(np.asarray(image), ImageFormat.JPEG)).decode()}"
