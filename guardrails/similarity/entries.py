"""The entry table: what each row of an index is, and whose."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from guardrails.domain.images import Rights
from guardrails.domain.rights import RESERVED, Permission, Signal, strictest
from guardrails.errors import IndexFormatError
from guardrails.similarity.optouts import JOURNAL, read_opt_outs

_COLUMNS = ("id", "name", "licence", "licence_url", "creator", "package", "sha256", "rights")
_OPTIONAL = ("credit", "dataset")
_RESERVATIONS = ("", RESERVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One work.

    Attributes:
        id: stable, unique in its table.
        sha256: of the rendering that was hashed.
    """

    id: str
    title: str
    rights: Rights
    sha256: str


@dataclass(frozen=True, slots=True)
class EntryTable:
    """All works of an index; an entry's number is its position."""

    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> Entry:
        return self.entries[number]

    @property
    def identity(self) -> str:
        """SHA-256 over ids and renderings in their order.

        Rights are left out on purpose: an owner's opt-out takes effect at the next opening, without a rebuild.
        """
        lines = "".join(f"{entry.id}\t{entry.sha256}\n" for entry in self.entries)
        return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def read_entries(path: Path) -> EntryTable:
    """Read a CSV table with at least the columns id, name, licence, licence_url, creator, package, sha256, rights.

    The columns credit and dataset are read where they are there. A journal of opt-outs beside the table applies: a work
    is reserved when the strictest of its signals forbids learning from it.

    Raises:
        IndexFormatError: missing, without those columns, with an id twice, or a reservation that is not known; or the
            journal is damaged.
    """
    hint = "restore the table that the index was built from"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise IndexFormatError(f"{path} lacks the columns {', '.join(missing)}", hint=hint)
            signals = read_opt_outs(path.parent / JOURNAL)
            entries = tuple(_entry(row, path, reader.line_num, signals.get(row.get("id") or "", ())) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IndexFormatError(f"cannot read the entry table {path}: {error}", hint=hint) from error
    if len({entry.id for entry in entries}) != len(entries):
        raise IndexFormatError(f"{path} gives the same id to two entries", hint=hint)
    return EntryTable(entries)


def _entry(row: dict[str, str | None], path: Path, line: int, signals: tuple[Signal, ...]) -> Entry:
    values = {column: row[column] for column in _COLUMNS}
    reservation = values["rights"]
    # An unknown reservation must not be read as "none".
    if None in values.values() or reservation not in _RESERVATIONS:
        raise IndexFormatError(
            f"{path}:{line}: a cell is missing, or the reservation {reservation!r} is not known",
            hint='write "" or "opt-out" into the column "rights"',
        )
    text = {column: value or "" for column, value in values.items()}
    forbidden = strictest(signals) is Permission.PROHIBITED
    return Entry(
        id=text["id"],
        title=text["name"],
        rights=Rights(
            licence=text["licence"],
            licence_url=text["licence_url"],
            creator=text["creator"],
            source=text["package"],
            reservation=RESERVED if forbidden else text["rights"],
            signals=signals,
            **{column: row.get(column) or "" for column in _OPTIONAL},
        ),
        sha256=text["sha256"],
    )
