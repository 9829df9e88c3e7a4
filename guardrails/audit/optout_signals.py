"""What files and sites say about machines that learn from them. Absence is unknown, never permission.

- IPTC/PLUS `plus:DataMining` in the XMP of a file: a term of the PLUS LDF vocabulary, DMI-...
- CAWG training and data mining 1.0, or the older `c2pa.training-mining`, in a file's C2PA manifest: allowed, notAllowed
  or constrained by use.
- The W3C TDM Reservation Protocol, a site's `/.well-known/tdmrep.json`: 0 or 1 by location, and a policy's address.
- ai.txt, a site's file of that name: Allow and Disallow by pattern.

Nothing is fetched: the site's files are given by whoever collected the works.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from guardrails.domain.canonical import Json
from guardrails.domain.rights import Permission, Signal, SignalKind
from guardrails.errors import InputError
from guardrails.imaging.metadata import read_xmp
from guardrails.provenance import Verifier

_PLUS_TERM = b"/ldf/vocab/DMI-"
_PLUS = {
    "ALLOWED": Permission.ALLOWED,
    "PROHIBITED": Permission.PROHIBITED,
    "PROHIBITED-AIMLTRAINING": Permission.PROHIBITED,
    "PROHIBITED-GENAIMLTRAINING": Permission.PROHIBITED,
    "PROHIBITED-EXCEPTSEARCHENGINEINDEXING": Permission.PROHIBITED,
    "PROHIBITED-SEECONSTRAINT": Permission.CONSTRAINED,
}
_TRAINING_ASSERTIONS = ("cawg.training-mining", "c2pa.training-mining")
_USES = {
    "allowed": Permission.ALLOWED,
    "notAllowed": Permission.PROHIBITED,
    "constrained": Permission.CONSTRAINED,
}
# Running a finished model over a picture is not learning from it.
_NOT_LEARNING = "ai_inference"
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
_MOST_BYTES = 1 << 20


def signals_of_file(data: bytes, source: str, read_at: str, verifier: Verifier) -> tuple[Signal, ...]:
    """Everything that a file says about itself.

    Args:
        source: what the file is called in records.
        read_at: ISO 8601.

    Raises:
        ImageError, ImageTooLarge: the file is no picture.
    """
    packet = read_xmp(data)
    found = () if packet is None else _plus_signals(packet, source, read_at)
    return (*found, *_manifest_signals(verifier.assertions(data), source, read_at))


def _plus_signals(packet: bytes, source: str, read_at: str) -> tuple[Signal, ...]:
    """By the vocabulary's own address, whatever prefix or form of RDF the packet uses."""
    signals = []
    for rest in packet[:_MOST_BYTES].split(_PLUS_TERM)[1:]:
        length = next((n for n, byte in enumerate(rest) if byte not in _LETTERS), len(rest))
        term = rest[:length].decode("ascii")
        if term in _PLUS:
            signals.append(
                Signal(
                    kind=SignalKind.IPTC_PLUS,
                    permission=_PLUS[term],
                    raw=f"DMI-{term}",
                    source=f"{source} (XMP)",
                    read_at=read_at,
                )
            )
    return tuple(signals)


def _manifest_signals(assertions: Mapping[str, Json], source: str, read_at: str) -> tuple[Signal, ...]:
    signals = []
    for label in _TRAINING_ASSERTIONS:
        assertion = assertions.get(label)
        entries = assertion.get("entries") if isinstance(assertion, dict) else None
        for name, entry in sorted(entries.items()) if isinstance(entries, dict) else ():
            use = entry.get("use") if isinstance(entry, dict) else None
            if isinstance(use, str) and use in _USES and not name.endswith(_NOT_LEARNING):
                signals.append(
                    Signal(
                        kind=SignalKind.CAWG,
                        permission=_USES[use],
                        raw=f"{name}: {use}",
                        source=f"{source} (manifest, {label})",
                        read_at=read_at,
                    )
                )
    return tuple(signals)


def read_tdmrep(path: Path, read_at: str) -> TdmReservations:
    """A `tdmrep.json` file.

    Raises:
        InputError: it is no list of reservations.
    """
    try:
        rules = json.loads(_limited(path))
        if not isinstance(rules, list):
            raise TypeError("no list")
        pairs = [
            (str(rule["location"]), int(rule["tdm-reservation"]), str(rule.get("tdm-policy", ""))) for rule in rules
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no TDM reservation file: {error}", hint='it holds [{"location": "/", "tdm-reservation": 1}]'
        ) from error
    return TdmReservations(pairs, str(path), read_at)


class TdmReservations:
    """Reservations of one site by location; the longest location that fits holds."""

    def __init__(self, rules: list[tuple[str, int, str]], source: str, read_at: str) -> None:
        self._rules = sorted(rules, key=lambda rule: -len(rule[0]))
        self._source, self._read_at = source, read_at

    def signals(self, address: str) -> Iterator[Signal]:
        """What holds for a work's address or path."""
        path = urlsplit(address).path or "/"
        path = path if path.startswith("/") else f"/{path}"
        for location, reserved, policy in self._rules:
            pattern = location[:-1] if location.endswith("$") else f"{location.rstrip('*')}*"
            if fnmatch.fnmatchcase(path, pattern):
                yield Signal(
                    kind=SignalKind.TDMREP,
                    permission=Permission.PROHIBITED if reserved else Permission.ALLOWED,
                    raw=f"tdm-reservation: {reserved}" + (f", tdm-policy: {policy}" if policy else ""),
                    source=f"{self._source} ({location})",
                    read_at=self._read_at,
                )
                return


def read_ai_txt(path: Path, read_at: str) -> AiTxt:
    """An `ai.txt` file.

    Raises:
        InputError: it is no text.
    """
    try:
        lines = _limited(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: {error}", hint="name an ai.txt file") from error
    rules, concerned = [], False
    for line in lines:
        name, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        match name.lower():
            case "user-agent":
                concerned = value == "*"
            case "allow" | "disallow" if concerned and value:
                rules.append((value, name.lower() == "allow"))
    return AiTxt(rules, str(path), read_at)


class AiTxt:
    """Rules of one site for all agents; the longest pattern that fits holds, and of two the one that forbids."""

    def __init__(self, rules: list[tuple[str, bool]], source: str, read_at: str) -> None:
        self._rules = sorted(rules, key=lambda rule: (-len(rule[0]), rule[1]))
        self._source, self._read_at = source, read_at

    def signals(self, address: str) -> Iterator[Signal]:
        """What holds for a work's address or path."""
        path = urlsplit(address).path
        path = path if path.startswith("/") else f"/{path}"
        for pattern, allowed in self._rules:
            if fnmatch.fnmatchcase(path, pattern) or (pattern.startswith("/") and path.startswith(pattern)):
                yield Signal(
                    kind=SignalKind.AI_TXT,
                    permission=Permission.ALLOWED if allowed else Permission.PROHIBITED,
                    raw=f"{'Allow' if allowed else 'Disallow'}: {pattern}",
                    source=self._source,
                    read_at=self._read_at,
                )
                return


def _limited(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint="name a readable file") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path} is larger than {_MOST_BYTES} bytes", hint="name the site's own file")
    return data
