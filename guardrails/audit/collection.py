"""A set of works under audit: a table with or without picture files, or a folder of pictures."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guardrails.domain.rights import RESERVED, Rights
from guardrails.errors import InputError, OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.imaging.encoding import ImageFormat
from guardrails.screens.scanning import shown_as
from guardrails.similarity.optouts import JOURNAL, read_opt_outs
from guardrails.similarity.verification import PictureSource

TABLE = "manifest.csv"
_TEXT = ("licence", "licence_url", "creator", "credit", "dataset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One row.

    Attributes:
        file: the picture, where it is a file.
        sha256: as the table states it, "" where it does not.
        repeats: how often the work stands in the training set, where the table has a column of that name.
    """

    id: str
    title: str
    rights: Rights
    file: Path | None
    sha256: str
    repeats: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """All works, in their order.

    Attributes:
        table: CSV file, None for a plain folder.
        pictures: gives pictures that are no files.
    """

    name: str
    works: tuple[Work, ...]
    table: Path | None
    pictures: PictureSource | None = None

    def data(self, work: Work) -> bytes | None:
        """The bytes of a work's file; None where it has none.

        Raises:
            ImageError: the file cannot be read.
        """
        return None if work.file is None else read_image_bytes(work.file)

    def pixels(self, work: Work, data: bytes | None) -> Pixels | None:
        """The picture, RGB uint8; None where it is not at hand.

        Raises:
            ImageError: the bytes are no picture.
        """
        return next(iter(self.showings(work, data)), None)

    def showings(self, work: Work, data: bytes | None) -> list[Pixels]:
        """The picture in every way in which its file can be shown, as most software does first; none where it is not at
        hand. Raises as `pixels`."""
        if data is not None:
            return list(shown_as(decode(data)).values())
        picture = None if self.pictures is None else self.pictures.picture(work.id)
        return [] if picture is None else [picture]


def open_collection(path: Path, pictures: PictureSource | None = None) -> Collection:
    """Open a CSV table, a folder with a `manifest.csv`, or a plain folder of pictures.

    A table has the columns id and name, and those of licence, licence_url, creator, credit, package (or source),
    dataset, rights, sha256, file and repeats that are known; what it lacks counts as unknown.

    Raises:
        InputError: neither, or a table that cannot be used.
    """
    if path.is_dir() and (path / TABLE).is_file():
        path = path / TABLE
    if path.is_file():
        return Collection(name=path.parent.name, works=tuple(_rows(path)), table=path, pictures=pictures)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if _is_picture(p))
        if files:
            works = tuple(_unknown(file, file.relative_to(path).as_posix()) for file in files)
            return Collection(name=path.name, works=works, table=None)
    raise InputError(f"{path} is no data set", hint=f"name a CSV table, a folder with a {TABLE}, or pictures")


def _rows(path: Path) -> Iterator[Work]:
    signals = read_opt_outs(path.parent / JOURNAL)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"id", "name"} <= set(reader.fieldnames or ()):
                raise InputError(f"{path} lacks the columns id and name", hint="add them; see docs/rights.md")
            for row in reader:
                text = {name: row.get(name) or "" for name in (*_TEXT, "id", "name", "rights", "sha256", "file")}
                rights = Rights(
                    **{name: text[name] for name in _TEXT},
                    source=row.get("package") or row.get("source") or "",
                    reservation=RESERVED if text["rights"] == RESERVED else "",
                    signals=signals.get(text["id"], ()),
                )
                yield Work(
                    id=text["id"],
                    title=text["name"],
                    rights=rights,
                    file=path.parent / text["file"] if text["file"] else None,
                    sha256=text["sha256"],
                    repeats=max(1, int(row.get("repeats") or 1)),
                )
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}", hint="write it as CSV in UTF-8") from error


def _is_picture(path: Path) -> bool:
    try:
        ImageFormat.parse(path.suffix)
    except OptionError:
        return False
    return path.is_file() and not path.name.startswith(".")


def _unknown(file: Path, name: str) -> Work:
    rights = Rights(licence="", licence_url="", creator="", source="")
    return Work(id=name, title=file.stem, rights=rights, file=file, sha256="")


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 over shape and pixels: the same picture in another container has the same."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
