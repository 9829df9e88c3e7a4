"""Reference pictures rendered when they are asked for, from the source packages."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from guardrails.errors import DatasetUnavailable
from guardrails.imaging import Pixels
from guardrails.pocket.rendering import render
from guardrails.pocket.scenes import canonical
from guardrails.pocket.sources import EMOJI_SETS, fetch_package, svg_of


class ReferencePictures:
    """Implements `similarity.verification.PictureSource`: fetches a set's package once, renders one drawing at a time.

    Args:
        work: folder for the packages.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._reachable = True

    def picture(self, entry_id: str) -> Pixels | None:
        """The canonical picture of an index entry ("<set>:<slug>"), or None when its package cannot be had."""
        if not self._reachable:
            return None
        set_name, _, slug = entry_id.partition(":")
        try:
            icons = _icons(set_name, self._work)
        except DatasetUnavailable:
            # Without npm or a network there is no use in asking again for every candidate.
            self._reachable = False
            return None
        return canonical(render(svg_of(icons, slug))) if slug in icons["icons"] else None


@cache
def _icons(set_name: str, work: Path) -> dict[str, Any]:
    emoji_set = next(s for s in EMOJI_SETS if s.name == set_name)
    root = fetch_package(emoji_set.package, emoji_set.version, emoji_set.sha256, work / "packages")
    icons: dict[str, Any] = json.loads((root / "icons.json").read_text())
    return icons
