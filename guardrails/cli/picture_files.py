"""Which files of a folder are taken for pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".gif", ".bmp"})


def pictures_of(sources: Iterable[Path]) -> Iterator[Path]:
    """Files as they are named, and the pictures below folders in the order of their names; hidden files are not."""
    for source in sources:
        if source.is_dir():
            yield from sorted(path for path in source.rglob("*") if is_picture(path))
        else:
            yield source


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
