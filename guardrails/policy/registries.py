"""Registries of names: who or what a name stands for, as of a day, and from which source.

A registry is a CSV file, plain or gzip-compressed, with the header `COLUMNS`. The name's match form stands first, so
that loading a hundred thousand rows reads nothing else of them; a row is parsed when its name was found.
"""

from __future__ import annotations

import array
import codecs
import csv
import datetime
import functools
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guardrails.errors import PolicyError
from guardrails.policy.model import RegistryQuery, RegistryRef

COLUMNS = ("key", "id", "name", "roles", "until", "living", "as_of", "match", "style", "source", "licence")
"""The columns of a registry file; `match` is "plain" or "cased", lists are separated by "|"."""

MAX_REGISTRY_BYTES = 64 * 1024 * 1024
_MOST_PARSED = 4096
_PIECE = 1 << 16
_HEADER = ",".join(COLUMNS).encode() + b"\n"
_LINE = re.compile(rb"^.", re.MULTILINE)
_ODD_LINE = re.compile(rb"^[^,\n]*\n", re.MULTILINE)
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One row.

    Attributes:
        key: the words of the name in match form.
        id: of the source, or a Wikidata Q-id.
        roles: public roles; an office that ends on `until` is written without "former_".
        until: ISO date on which the first role ended, or "".
        living: "yes", "no" or "unknown", as of `as_of`.
        cased: the name consists of ordinary words and counts only when written with capitals.
        style: words for an artist's movement and medium, or "".
    """

    key: str
    id: str
    name: str
    roles: tuple[str, ...]
    until: str
    living: str
    as_of: str
    cased: bool
    style: str
    source: str
    licence: str

    def roles_on(self, day: datetime.date) -> frozenset[str]:
        """The roles as of a day: an office that is over is a former one."""
        if self.until and day.isoformat() > self.until and self.roles:
            return frozenset((f"former_{self.roles[0]}", *self.roles[1:]))
        return frozenset(self.roles)

    def answers(self, query: RegistryQuery, day: datetime.date) -> bool:
        """Whether a rule with this query speaks about the row."""
        if query.living == "maybe" and self.living == "no":
            return False
        if query.living in ("yes", "no") and self.living != query.living:
            return False
        return not query.roles or not self.roles_on(day).isdisjoint(query.roles)


class Registry:
    """The rows of one file, kept as UTF-8 with the header: one accent would double the memory of a string."""

    def __init__(self, name: str, text: bytes) -> None:
        self.name = name
        self._text = text
        self._starts = array.array("I", (found.start() for found in _LINE.finditer(text, len(_HEADER))))
        self.entry = functools.lru_cache(_MOST_PARSED)(self._entry)
        """One row by its number; those asked for last are kept."""

    def __len__(self) -> int:
        return len(self._starts)

    def keys(self) -> Iterator[str]:
        """The match forms, in the order of the rows."""
        return (self._text[start : self._text.index(b",", start)].decode() for start in self._starts)

    def names(self, entry_id: str) -> tuple[str, ...]:
        """The names of the entry with an id, in the order of the rows; () when there is none."""
        # Rows that do not hold the id anywhere, as CSV writes it, are not parsed.
        written = entry_id.replace('"', '""').encode()
        rows = [row for row in range(len(self)) if written in self._line(row)]
        entries = [self.entry(row) for row in rows]
        return tuple(dict.fromkeys(entry.name for entry in entries if entry.id == entry_id))

    def _line(self, row: int) -> bytes:
        start = self._starts[row]
        return self._text[start : self._text.find(b"\n", start)]

    def _entry(self, row: int) -> RegistryEntry:
        line = self._line(row).decode()
        fields = dict(zip(COLUMNS, next(csv.reader([line])), strict=True))
        return RegistryEntry(
            key=fields["key"],
            id=fields["id"],
            name=fields["name"],
            roles=tuple(filter(None, fields["roles"].split("|"))),
            until=fields["until"],
            living=fields["living"],
            as_of=fields["as_of"],
            cased=fields["match"] == "cased",
            style=fields["style"],
            source=fields["source"],
            licence=fields["licence"],
        )


@functools.lru_cache(maxsize=32)
def open_registry(ref: RegistryRef) -> Registry:
    """The rows that a policy refers to.

    Raises:
        PolicyError: the file cannot be read, or is not the one that the policy was loaded with.
    """
    text, digest = _read(Path(ref.path))
    if digest != ref.digest:
        raise PolicyError(f"{ref.path}: the registry has changed since the policy was loaded", hint="load it again")
    return Registry(ref.name, text)


def refer(name: str, path: Path) -> RegistryRef:
    """What a policy keeps of a registry file.

    Raises:
        PolicyError: the file cannot be read or has other columns.
    """
    text, digest = _read(path)
    return RegistryRef(name=name, path=str(path), digest=digest, rows=text.count(b"\n") - 1)


@functools.lru_cache(maxsize=8)
def _read_stamped(path: Path, stamp: tuple[int, int]) -> tuple[bytes, str]:
    data = path.read_bytes()
    if data.startswith(_GZIP):
        unzip = zlib.decompressobj(wbits=31)
        data = unzip.decompress(data, MAX_REGISTRY_BYTES)
        if unzip.unconsumed_tail:
            raise PolicyError(f"{path}: the registry is larger than {MAX_REGISTRY_BYTES >> 20} MB", hint="split it")
    digest = hashlib.sha256(data).hexdigest()
    _check_text(data)
    if not data.startswith(_HEADER):
        raise PolicyError(
            f"{path}:1:1: the columns are not {','.join(COLUMNS)}", hint="build it with `policy registry`"
        )
    if odd := _ODD_LINE.search(data):
        number = data.count(b"\n", 0, odd.start()) + 1
        raise PolicyError(f"{path}:{number}:1: this is not a row of a registry", hint="one row a line")
    return data if data.endswith(b"\n") else data + b"\n", digest


def _check_text(data: bytes) -> None:
    """Raise `UnicodeDecodeError` where bytes are no UTF-8; in pieces, so that no second copy is held."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _PIECE):
        decoder.decode(data[start : start + _PIECE], final=start + _PIECE >= len(data))


def _read(path: Path) -> tuple[bytes, str]:
    try:
        status = path.stat()
        if status.st_size > MAX_REGISTRY_BYTES:
            raise PolicyError(f"{path}: the registry is larger than {MAX_REGISTRY_BYTES >> 20} MB", hint="split it")
        return _read_stamped(path, (status.st_size, status.st_mtime_ns))
    except (OSError, UnicodeDecodeError, zlib.error) as error:
        raise PolicyError(f"{path}: the registry cannot be read: {error}", hint="build it again") from error
