"""The journal of opt-outs beside an entry table: who said what about which work, when, and why it was written down.

`opt-outs.jsonl`, one JSON object a line, never rewritten; a withdrawal is a further line. The table stays as it is, so
that an index that was built from it stays valid and an opt-out takes effect at the next opening.
"""

from __future__ import annotations

import fcntl
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guardrails.domain.canonical import to_plain
from guardrails.domain.rights import Permission, Signal, SignalKind
from guardrails.errors import IndexFormatError
from guardrails.files import write_atomically

JOURNAL = "opt-outs.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """One line of the journal.

    Attributes:
        by: who wrote it down.
        reason: why, for whoever reads the journal later.
        withdrawn: takes back every earlier signal of the same entry, kind and source.
    """

    entry: str
    signal: Signal
    by: str
    reason: str
    withdrawn: bool = False


def append_opt_outs(path: Path, lines: Iterable[OptOut]) -> None:
    """Add lines to a journal: all of them or none; two writers wait for each other.

    Raises:
        IndexFormatError: the journal that is there cannot be read.
        StorageError: the folder cannot be written.
    """
    text = "".join(json.dumps(to_plain(line), sort_keys=True) + "\n" for line in lines)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read_opt_outs(path)
        before = path.read_bytes() if path.exists() else b""
        write_atomically(path, before + text.encode("utf-8"))


def read_opt_outs(path: Path) -> Mapping[str, tuple[Signal, ...]]:
    """The signals that hold, by entry; empty where there is no journal.

    Raises:
        IndexFormatError: a line that is no opt-out: an objection must not be lost because it was misspelt.
    """
    if not path.exists():
        return {}
    held: dict[str, dict[tuple[SignalKind, str], Signal]] = defaultdict(dict)
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = _opt_out(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFormatError(
                f"{path}:{number}: {error}", hint="restore the journal; it is only ever added to"
            ) from error
        key = line.signal.kind, line.signal.source
        if line.withdrawn:
            held[line.entry].pop(key, None)
        else:
            held[line.entry][key] = line.signal
    return {entry: tuple(signals.values()) for entry, signals in held.items() if signals}


def _opt_out(line: dict[str, object]) -> OptOut:
    signal = line["signal"]
    if not isinstance(signal, dict):
        raise TypeError("the signal is missing")
    return OptOut(
        entry=str(line["entry"]),
        signal=Signal(
            kind=SignalKind(signal["kind"]),
            permission=Permission[str(signal["permission"]).upper()],
            raw=str(signal["raw"]),
            source=str(signal["source"]),
            read_at=str(signal["read_at"]),
        ),
        by=str(line["by"]),
        reason=str(line["reason"]),
        withdrawn=line["withdrawn"] is True,
    )
