"""A small index of works as the service's setting `works` wants it: `guardrails.testing.works:drawn`."""

from __future__ import annotations

import csv
from pathlib import Path

from guardrails.imaging import Pixels
from guardrails.similarity.building import build_index
from guardrails.similarity.entries import read_entries
from guardrails.similarity.search import SimilarityIndex
from guardrails.testing.doubles import draw_shapes

COUNT = 12
_COLUMNS = ("id", "name", "licence", "licence_url", "creator", "package", "sha256", "rights", "credit", "dataset")
_TERMS = (
    ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/", ""),
    ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/", ""),
    ("CC-BY-SA-4.0", "https://creativecommons.org/licenses/by-sa/4.0/", ""),
    ("MIT", "https://opensource.org/license/mit", "opt-out"),
)


class DrawnPictures:
    """The works' pictures: work 3 is `draw_shapes(3)`."""

    def picture(self, entry_id: str) -> Pixels | None:
        """See `PictureSource.picture`."""
        number = entry_id.removeprefix("shapes:")
        return draw_shapes(int(number)) if number.isdigit() else None


def drawn(home: Path) -> SimilarityIndex:
    """An index of drawn shapes under four kinds of terms, in its own folder of an installation."""
    folder = home / "drawn-works"
    if not (folder / "index").exists():
        folder.mkdir(exist_ok=True)
        with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(_row(number) for number in range(COUNT))
        pictures = (draw_shapes(number) for number in range(COUNT))
        build_index(pictures, read_entries(folder / "manifest.csv"), folder / "index")
    return SimilarityIndex.open(folder / "index", DrawnPictures())


def _row(number: int) -> list[str]:
    licence, address, reservation = _TERMS[number % len(_TERMS)]
    row = (
        f"shapes:{number}",
        f"shapes {number}",
        licence,
        address,
        f"artist {number % 5}",
        "drawn@1",
        f"{number:064x}",
    )
    return [*row, reservation, "", "drawn shapes"]
