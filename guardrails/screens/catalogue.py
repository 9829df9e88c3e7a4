"""Whose the safe pictures behind the shipped references are, and small pictures of those that may be passed on.

`references.csv` has a row for every vector of `references.npz`, in the order of the vectors. `references-drawings.webp`
shows the drawings in that order, as a grid (see `exemplars`); the photographs' licence allows no picture.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from guardrails.files import write_atomically
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.resources import datasets_path
from guardrails.screens.exemplars import tile, to_grid

NAME = "references.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafePicture:
    """One row of the catalogue.

    Attributes:
        domain, id: of the vector in the reference file.
        row: its place among the vectors of the domain, from 0 on.
        source: the set or package that it was taken from.
        licence: SPDX identifier, or in words.
    """

    domain: str
    id: str
    row: int
    source: str
    licence: str


def write_catalogue(folder: Path, pictures: Sequence[SafePicture], shown: Mapping[str, Sequence[Pixels]]) -> None:
    """Write the table, and a grid of small pictures for each domain in `shown`."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(SafePicture)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(picture) for picture in pictures)
    write_atomically(folder / NAME, table.getvalue().encode())
    for domain, pixels in shown.items():
        write_atomically(folder / _grid_name(domain), to_grid(pixels))


def read_catalogue(folder: Path) -> list[SafePicture]:
    """The rows of the table in `folder`."""
    with (folder / NAME).open(newline="", encoding="utf-8") as file:
        return [
            SafePicture(
                domain=row["domain"],
                id=row["id"],
                row=int(row["row"]),
                source=row["source"],
                licence=row["licence"],
            )
            for row in csv.DictReader(file)
        ]


@functools.cache
def shipped() -> Mapping[tuple[str, str], SafePicture]:
    """The catalogue of the shipped references, by domain and id."""
    return {(picture.domain, picture.id): picture for picture in read_catalogue(datasets_path("screens"))}


def thumbnail(picture: SafePicture) -> Pixels | None:
    """The small picture of one of the shipped references; None where the licence allows none."""
    grid = _grid(picture.domain)
    return None if grid is None else tile(grid, picture.row)


@functools.cache
def _grid(domain: str) -> Pixels | None:
    path = datasets_path("screens") / _grid_name(domain)
    return decode(path.read_bytes()).pixels if path.is_file() else None


def _grid_name(domain: str) -> str:
    return f"references-{domain}.webp"
