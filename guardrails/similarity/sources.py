"""Where collections come from: folders, WebDataset tars, Parquet and Lance tables."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from guardrails.domain.rights import Permission, strictest
from guardrails.errors import GuardrailsError, ImageError, OptionError
from guardrails.imaging.decoding import DEFAULT_LIMITS, read_image_bytes
from guardrails.similarity.optouts import JOURNAL, read_opt_outs

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".gif", ".bmp"}
)
# Facts go into every answer: long captions do not.
_MAX_FACT = 2000
_ID_COLUMNS = ("id", "key", "name", "url", "file_name")
_IMAGE_COLUMNS = ("image", "bytes", "jpg", "png", "webp")
_BATCH = 256
MANIFEST = "manifest.csv"
_NAMING = ("id", "file")


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a collection.

    Attributes:
        id: unique in its collection, the same in every run.
        data: the file's bytes, or why they cannot be had.
        facts: what the collection says about it.
    """

    id: str
    data: bytes | GuardrailsError
    facts: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> bytes:
        """The file's bytes; raises why they cannot be had."""
        if isinstance(self.data, bytes):
            return self.data
        raise self.data


Wanted: TypeAlias = Callable[[str], bool]


def read_source(source: Path, wanted: Wanted = lambda name: True) -> Iterator[Item]:
    """The pictures of a collection, in an order that does not change.

    Args:
        source: a folder of pictures (or of tars), a `.tar`, a `.parquet` file, or a `.lance` data set. What a
            `manifest.csv` in a folder of pictures says of a file, by its columns file or id, are its facts; so is an
            objection in the journal beside it.
        wanted: told an id, says whether its picture is to be read; the others are passed over unread.

    Raises:
        OptionError: nothing of these.
    """
    if source.suffix == ".lance":
        return _from_lance(source, wanted)
    if source.is_dir():
        tars = sorted(source.glob("*.tar"))
        return _from_tars(tars, wanted) if tars else _from_folder(source, wanted)
    if source.suffix == ".tar" and source.is_file():
        return _from_tars([source], wanted)
    if source.suffix == ".parquet" and source.is_file():
        return _from_parquet(source, wanted)
    raise OptionError(f"{source} is no collection", hint="name a folder, a .tar, a .parquet file or a .lance data set")


def _from_folder(folder: Path, wanted: Wanted) -> Iterator[Item]:
    stated = _manifest(folder)
    for path in sorted(folder.rglob("*")):
        name = _printable(path.relative_to(folder).as_posix())
        if path.suffix.lower() in _SUFFIXES and path.is_file() and wanted(name):
            try:
                data: bytes | GuardrailsError = read_image_bytes(path)
            except ImageError as error:
                data = error
            yield Item(name, data, stated.get(name, {}))


def _manifest(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """What the table in a folder says, by file; nothing where there is no table."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    signals = read_opt_outs(folder / JOURNAL)
    stated = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                facts = _facts({str(column): value for column, value in row.items() if column not in _NAMING})
                if strictest(signals.get(row.get("id") or "", ())) is Permission.PROHIBITED:
                    facts["reservation"] = "claim"
                stated[_printable(row.get("file") or row.get("id") or "")] = facts
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"cannot read {path}: {error}", hint="write a CSV table, or take it away") from error
    return stated


def _from_tars(tars: Iterable[Path], wanted: Wanted) -> Iterator[Item]:
    """WebDataset: files of one sample follow each other and share their name up to the first dot."""
    for path in tars:
        key, picture = "", None
        facts: dict[str, str] = {}
        try:
            with tarfile.open(path, "r|") as archive:
                for member in archive:
                    if not member.isfile():
                        continue
                    folder, _, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    sample = f"{folder}/{stem}" if folder else stem
                    if sample != key:
                        if picture is not None:
                            yield Item(_printable(f"{path.stem}/{key}"), picture, facts)
                        key, picture, facts = sample, None, {}
                    if not wanted(_printable(f"{path.stem}/{key}")):
                        continue
                    if f".{PurePosixPath(suffix.lower()).name}" in _SUFFIXES:
                        picture = _member(archive, member)
                    elif suffix.lower() == "json" and member.size <= 1 << 20:
                        facts |= _facts_of_json(_member(archive, member))
        except tarfile.TarError as error:
            # What came before was good; the rest cannot be had, and is said so.
            name = _printable(f"{path.stem}/{key or '?'}")
            if wanted(name):
                yield Item(name, ImageError(f"{path} is damaged: {error}"))
            continue
        if picture is not None:
            yield Item(_printable(f"{path.stem}/{key}"), picture, facts)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | GuardrailsError:
    if member.size > DEFAULT_LIMITS.max_bytes:
        return ImageError(f"{member.name} is over the limit of {DEFAULT_LIMITS.max_bytes:,} bytes")
    try:
        opened = archive.extractfile(member)
        return b"" if opened is None else opened.read()
    except (OSError, tarfile.TarError) as error:
        return ImageError(f"{member.name} cannot be read: {error}")


def _facts_of_json(data: bytes | GuardrailsError) -> dict[str, str]:
    try:
        document = json.loads(data) if isinstance(data, bytes) else {}
    except ValueError:
        return {}
    return _facts(document) if isinstance(document, dict) else {}


def _from_parquet(path: Path, wanted: Wanted) -> Iterator[Item]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from _from_rows(path, batch.to_pylist(), wanted)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise OptionError(f"cannot read {path}: {error}", hint="give a Parquet file") from error


def _from_lance(path: Path, wanted: Wanted) -> Iterator[Item]:
    import lance

    try:
        dataset = lance.dataset(str(path))
    except (ValueError, OSError) as error:
        raise OptionError(f"cannot read {path}: {error}", hint="give a Lance data set") from error
    for batch in dataset.to_batches(batch_size=_BATCH):
        yield from _from_rows(path, batch.to_pylist(), wanted)


def _from_rows(path: Path, rows: list[dict[str, Any]], wanted: Wanted) -> Iterator[Item]:
    for row in rows:
        names = [name for name in _ID_COLUMNS if row.get(name) is not None]
        images = [name for name in _IMAGE_COLUMNS if name in row]
        if not names or not images:
            raise OptionError(
                f"{path} has no column of ids or none of pictures",
                hint=f"name them {' or '.join(_ID_COLUMNS[:2])}, and {' or '.join(_IMAGE_COLUMNS[:2])}",
            )
        name = _printable(str(row[names[0]]))
        if not wanted(name):
            continue
        picture = row[images[0]]
        # Hugging Face tables hold pictures as {bytes, path}.
        data = picture.get("bytes") if isinstance(picture, dict) else picture
        facts = _facts({column: value for column, value in row.items() if column not in (names[0], images[0])})
        if not isinstance(data, bytes):
            data = ImageError("the table holds no bytes for it")
        yield Item(name, data, facts)


def _facts(values: Mapping[str, Any]) -> dict[str, str]:
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}
    return {str(name): str(value)[:_MAX_FACT] for name, value in sorted(plain.items()) if str(value)}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text) or "?"
