"""Works taken out of a training table, with who, when and why. All of them or none."""

from __future__ import annotations

import csv
import fcntl
import io
from collections.abc import Collection
from pathlib import Path

from guardrails.errors import InputError
from guardrails.files import write_atomically

REMOVED = "removed.csv"
_REASONS = ("removed_at", "removed_by", "reason")


def remove_works(table: Path, ids: Collection[str], *, by: str, reason: str, at: str) -> int:
    """Move rows from a table to `removed.csv` beside it.

    The moved rows are durable before the table loses them: a crash in between leaves a work in both, never in neither,
    and removing it again completes the removal.

    Args:
        at: ISO 8601.

    Returns:
        How many rows were moved.

    Raises:
        InputError: an id is not in the table.
        StorageError: the folder cannot be written.
    """
    with (table.parent / f".{table.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        columns, rows = _read(table)
        wanted = set(ids)
        absent = sorted(wanted - {row["id"] for row in rows})
        if absent:
            raise InputError(
                f"{table} has no work {', '.join(absent)}", hint="see the ids with `guardrails datasets check`"
            )
        removed = table.parent / REMOVED
        names, before = _read(removed) if removed.exists() else ([*columns, *_REASONS], [])
        known = {row["id"] for row in before}
        why = dict(zip(_REASONS, (at, by, reason), strict=True))
        moved = [{**row, **why} for row in rows if row["id"] in wanted]
        write_atomically(removed, _text(names, [*before, *(row for row in moved if row["id"] not in known)]))
        write_atomically(table, _text(columns, [row for row in rows if row["id"] not in wanted]))
    return len(moved)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}", hint="name a CSV table in UTF-8") from error
    return list(reader.fieldnames or ()), rows


def _text(columns: list[str], rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")
