"""Hash lists as others write them: lines, CSV, StopNCII documents, ISCC. Hashes only: no list carries pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from guardrails.errors import OptionError
from guardrails.imaging import iscc
from guardrails.similarity.hashes import HASH_BYTES, ISCC_IMAGE64, MIN_QUALITY, PDQ256, ImageHash

# python-threatexchange's names of signal types.
_SIGNAL_TYPES = {"pdq": PDQ256, "pdq256": PDQ256, "ImagePDQ": PDQ256, "HASH_PDQ": PDQ256, "iscc": ISCC_IMAGE64}
_HASH_COLUMNS = ("hash", "pdq", "pdq_hash", "phash", "hashValue", "indicator", "signal", "iscc")
_ID_COLUMNS = ("id", "key", "name", "indicator_id")
_MAX_LINE = 1 << 16
# StopNCII: a hash is in force unless it was withdrawn or deleted.
_NOT_IN_FORCE = frozenset({"withdrawn", "deleted"})


class ListFormat(StrEnum):
    """How a hash list is written."""

    LINES = "lines"
    CSV = "csv"
    STOPNCII = "stopncii"


@dataclass(frozen=True, slots=True)
class ListedHash:
    """One hash of a list.

    Attributes:
        id: the list's own, or the hash itself.
        facts: the list's other columns.
    """

    id: str
    hash: ImageHash
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is not in the answer, and why; none is dropped silently."""

    line: int
    reason: str


def read_list(
    path: Path, algorithm: str, rejected: list[Rejected], format: ListFormat | None = None
) -> Iterator[ListedHash]:
    """The hashes of a list, one at a time, so that lists may be longer than memory.

    Args:
        algorithm: of the hashes; a line that names another one is rejected.
        rejected: lines that cannot be used are added here: damaged, of another length or algorithm, of low quality,
            withdrawn.
        format: by default by the file's name: `.csv`, `.json` (StopNCII), anything else is lines.

    Raises:
        OptionError: the file cannot be read, or a CSV has no column of hashes.
    """
    chosen = format or {".csv": ListFormat.CSV, ".json": ListFormat.STOPNCII}.get(path.suffix, ListFormat.LINES)
    reader = {ListFormat.LINES: _lines, ListFormat.CSV: _csv, ListFormat.STOPNCII: _stopncii}[chosen]
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            yield from reader(file, algorithm, rejected)
    except (OSError, csv.Error) as error:
        raise OptionError(f"cannot read {path}: {error}", hint="give a hash list: lines, CSV or JSON") from error


def write_list(file: TextIO, hashes: Iterable[ListedHash], format: ListFormat) -> int:
    """Write hashes as others read them; returns how many.

    Lines are python-threatexchange's local files, CSV is `hash,quality,id`.

    Raises:
        OptionError: StopNCII documents, which only that service makes.
    """
    if format is ListFormat.STOPNCII:
        raise OptionError("StopNCII documents are only read", hint="write lines or csv")
    writer = csv.writer(file, lineterminator="\n")
    if format is ListFormat.CSV:
        writer.writerow(["hash", "quality", "id"])
    count = 0
    for one in hashes:
        count += 1
        text = write_hash(one.hash)
        if format is ListFormat.CSV:
            writer.writerow([text, one.facts.get("quality", ""), one.id])
        else:
            file.write(f"{'pdq' if one.hash.algorithm == PDQ256 else one.hash.algorithm} {text}\n")
    return count


def read_hash(text: str, algorithm: str) -> ImageHash:
    """One hash in the form its own tools write: hexadecimal digits, or an ISCC.

    Raises:
        ValueError: of another length or kind.
    """
    text = text.strip()
    if algorithm == ISCC_IMAGE64:
        return ImageHash(ISCC_IMAGE64, iscc.code_bits(text))
    if len(text) != 2 * HASH_BYTES[algorithm]:
        raise ValueError(f"{algorithm} has {2 * HASH_BYTES[algorithm]} hexadecimal digits, got {len(text)}")
    return ImageHash.from_hex(algorithm, text)


def write_hash(code: ImageHash) -> str:
    """The form that `read_hash` reads."""
    return iscc.written(code.bits) if code.algorithm == ISCC_IMAGE64 else str(code)


def _lines(file: TextIO, algorithm: str, rejected: list[Rejected]) -> Iterator[ListedHash]:
    """`<signal type> <hash>`, or the hash alone."""
    for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 1 and _SIGNAL_TYPES.get(words[0], words[0]) != algorithm:
            rejected.append(Rejected(number, f"a {words[0]} signal, not {algorithm}"))
            continue
        yield from _one(words[-1], algorithm, number, rejected, {}, {})


def _csv(file: TextIO, algorithm: str, rejected: list[Rejected]) -> Iterator[ListedHash]:
    reader = csv.DictReader(file)
    columns = [name for name in _HASH_COLUMNS if name in (reader.fieldnames or ())]
    if not columns:
        raise OptionError(
            f"the list has no column of hashes: {', '.join(reader.fieldnames or ('nothing',))}",
            hint=f"name it {_HASH_COLUMNS[0]!r}",
        )
    for row in reader:
        text = {
            name: value for name, value in row.items() if isinstance(name, str) and isinstance(value, str) and value
        }
        signal = text.pop("signal_type", text.pop("signalType", algorithm))
        if _SIGNAL_TYPES.get(signal, signal) != algorithm:
            rejected.append(Rejected(reader.line_num, f"a {signal} signal, not {algorithm}"))
            continue
        yield from _one(text.pop(columns[0], ""), algorithm, reader.line_num, rejected, text, text)


def _stopncii(file: TextIO, algorithm: str, rejected: list[Rejected]) -> Iterator[ListedHash]:
    """Documents with hashValue, signalType and hashStatus, in a list or under "hashRecords"; or one to a line."""
    for number, record in enumerate(_records(file, rejected), start=1):
        signal = str(record.get("signalType", algorithm))
        status = str(record.get("hashStatus", "")).lower()
        if _SIGNAL_TYPES.get(signal, signal) != algorithm:
            rejected.append(Rejected(number, f"a {signal} signal, not {algorithm}"))
        elif status in _NOT_IN_FORCE:
            rejected.append(Rejected(number, f"{status} by its owner"))
        else:
            facts = {"status": status} if status else {}
            yield from _one(str(record.get("hashValue", "")), algorithm, number, rejected, {}, facts)


def _records(file: TextIO, rejected: list[Rejected]) -> Iterator[dict[str, Any]]:
    text = file.read()
    try:
        documents = [json.loads(text)]
    except ValueError:
        documents = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                documents.append(json.loads(line))
            except ValueError:
                rejected.append(Rejected(number, "no JSON document"))
    for document in documents:
        found = document.get("hashRecords", [document]) if isinstance(document, dict) else document
        yield from (record for record in (found if isinstance(found, list) else []) if isinstance(record, dict))


def _one(
    text: str,
    algorithm: str,
    line: int,
    rejected: list[Rejected],
    names: dict[str, str],
    facts: dict[str, str],
) -> Iterator[ListedHash]:
    quality = facts.get("quality", "")
    if quality.isascii() and quality.isdigit() and int(quality) < MIN_QUALITY:
        rejected.append(Rejected(line, f"quality {quality} is below {MIN_QUALITY}: it would match everything"))
        return
    try:
        code = read_hash(text, algorithm)
    except ValueError as error:
        rejected.append(Rejected(line, str(error)))
        return
    named = next((names[column] for column in _ID_COLUMNS if names.get(column)), str(code))
    kept = {name: value for name, value in facts.items() if name not in _ID_COLUMNS}
    yield ListedHash("".join(c if c.isprintable() else "?" for c in named), code, kept)
