"""Visible labels: which ones a picture must carry, and what was drawn on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelProfile:
    """The label that one jurisdiction knows, from its file in `policies/jurisdictions`.

    Attributes:
        id: of the file; tenants and requests name the label by it.
        countries: ISO 3166 codes of the places it is for.
        required: drawn on every picture that is asked for from there; else only where somebody asks for it.
        generated, edited: the text on a picture that a model made, and on one that it changed.
        height_percent: of the shortest side, what the lowest capital or character must reach.
        file_label: of the implicit label in the file's metadata, "tc260" or "" for none.
        as_of: ISO 8601 day of the law that the file states.
    """

    id: str
    countries: tuple[str, ...]
    required: bool
    generated: str
    edited: str
    height_percent: int
    file_label: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLine:
    """One line of a label.

    Attributes:
        height: of a capital letter, in pixels; Chinese characters are higher.
    """

    text: str
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleLabel:
    """What was drawn on one picture.

    Attributes:
        profiles: the profiles that it is drawn for, with the day of the law that each states.
        lines: from top to bottom.
        box: of the plate: left, top, right, bottom in pixels, the last two exclusive.
        contrast: of the letters against the plate (WCAG 2.2, 1 to 21), as measured in the final file; 0 before.
    """

    profiles: Mapping[str, str]
    lines: tuple[LabelLine, ...]
    box: tuple[int, int, int, int]
    contrast: float = 0.0

    @property
    def text(self) -> str:
        """All of it, as a person reads it."""
        return " ".join(line.text for line in self.lines)
