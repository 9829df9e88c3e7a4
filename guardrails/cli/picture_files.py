"""Which files of a folder are taken for pictures, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardrails.imaging import Pixels

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


def pixels_of(path: Path) -> Pixels:
    """The picture in a file.

    Raises:
        ImageError: there is none that can be read; names the file, which is one of many.
    """
    from guardrails.errors import ImageError
    from guardrails.imaging.decoding import decode, read_image_bytes

    data = read_image_bytes(path)
    try:
        return decode(data).pixels
    except ImageError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
