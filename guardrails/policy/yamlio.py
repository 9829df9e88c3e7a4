"""The one door through which YAML comes in: limits first, no magic, and every value knows its line and column.

Accepted is the plain part of YAML 1.2 that people write by hand: mappings, sequences and scalars. Refused are
documents over `MAX_BYTES`, nesting over `MAX_DEPTH`, anchors and aliases (a "billion laughs" needs them), tags,
duplicate keys, keys that are not text, and a second document in the same file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import yaml

from guardrails.errors import PolicyError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16

Scalar: TypeAlias = str | int | float | bool | None
Children: TypeAlias = "dict[str, Node] | list[Node]"

# The stubs of PyYAML do not tell the event classes apart.
_Event: TypeAlias = Any
# libyaml in C; the pure Python parser of the same library stands in where the extension was not built.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One YAML value and where it stands.

    Attributes:
        source: file name as shown in messages.
        path: key path from the top, for example "prompt_rules[2].terms[0]"; "" for the document.
        line, column: from 1.
        value: a scalar, a list of nodes, or a dict of nodes in written order.
    """

    source: str
    path: str
    line: int
    column: int
    value: Scalar | Children

    def fail(self, message: str, *, hint: str = "") -> NoReturn:
        """Raise a PolicyError that points here."""
        raise located(self.source, self.line, self.column, self.path, message, hint)


def located(source: str, line: int, column: int, path: str, message: str, hint: str) -> PolicyError:
    """The error "source:line:column: path: message"."""
    where = f"{path}: " if path else ""
    return PolicyError(f"{source}:{line}:{column}: {where}{message}", hint=hint)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` is most likely a misspelling of, or ""."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def read_yaml(path: Path) -> Node:
    """Read one document from a file.

    Raises:
        PolicyError: the file cannot be read or breaks a rule of this module; the message starts "file:line:column:".
    """
    return parse_yaml(read_limited(path), source=str(path))


def read_limited(path: Path) -> bytes:
    """The bytes of a policy file, never more than `MAX_BYTES`.

    Raises:
        PolicyError: the file cannot be read or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(
            f"{path}: cannot be read: {error.strerror or error}", hint="check the path and its permissions"
        ) from error
    _check_size(data, str(path))
    return data


def decode_utf8(data: bytes, *, source: str) -> str:
    """Decode policy bytes.

    Raises:
        PolicyError: not UTF-8; points at the first wrong byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        raise located(source, line, column, "", "this is not UTF-8 text", "save the file as UTF-8") from error


def parse_yaml(data: bytes, *, source: str) -> Node:
    """Parse one document.

    Raises:
        PolicyError: see the module text; the message starts "source:line:column:".
    """
    _check_size(data, source)
    text = decode_utf8(data, source=source)
    try:
        return _Composer(source, yaml.parse(text, Loader=_Loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or error.context or "this is not YAML"
        raise located(source, line, column, "", problem, "check quotes, indentation and brackets there") from error
    except yaml.reader.ReaderError as error:
        raise located(source, *_first_unprintable(text), "", "a control character stands here", "remove it") from error


def _check_size(data: bytes, source: str) -> None:
    if len(data) > MAX_BYTES:
        raise located(
            source, 1, 1, "", f"the file is larger than {MAX_BYTES // 1024} KB", "move long term lists to `terms_file:`"
        )


def _first_unprintable(text: str) -> tuple[int, int]:
    offset = next((i for i, char in enumerate(text) if not (char.isprintable() or char in "\t\n\r")), 0)
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


class _Composer:
    """Builds nodes from parser events, so that limits hold while parsing and not after."""

    def __init__(self, source: str, events: Iterator[_Event]) -> None:
        self._source = source
        self._events = events

    def document(self) -> Node:
        next(self._events)  # StreamStart
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise located(self._source, 1, 1, "", "the file is empty", "start from `policies/packs/default.yaml`")
        node = self._node(next(self._events), "", 1)
        next(self._events)  # DocumentEnd
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._fail(after, "", "a second document starts here", "keep one policy per file")
        return node

    def _node(self, event: _Event, path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._fail(event, path[:80], f"nested more than {MAX_DEPTH} levels deep", "flatten the document")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self._fail(event, path, "anchors and aliases are not allowed", "write the value out, or use `terms_file:`")
        if getattr(event, "tag", None) is not None:
            self._fail(event, path, f"the tag {event.tag} is not allowed", "remove it; write plain values")
        value: Scalar | Children
        match event:
            case yaml.MappingStartEvent():
                value = self._mapping(path, depth)
            case yaml.SequenceStartEvent():
                value = self._sequence(path, depth)
            case _:
                value = _plain_scalar(event.value) if event.implicit[0] else event.value
        mark = event.start_mark
        return Node(source=self._source, path=path, line=mark.line + 1, column=mark.column + 1, value=value)

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, depth + 1)
            if not isinstance(key.value, str):
                key.fail("keys must be text", hint="put the key in quotes")
            if key.value in members:
                key.fail(
                    f"the key `{key.value}` is here twice",
                    hint=f"it first stands in line {members[key.value].line}; keep one of them",
                )
            members[key.value] = self._node(next(self._events), f"{path}.{key.value}".lstrip("."), depth + 1)
        return members

    def _sequence(self, path: str, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def _fail(self, event: _Event, path: str, message: str, hint: str) -> NoReturn:
        mark = event.start_mark
        raise located(self._source, mark.line + 1, mark.column + 1, path, message, hint)


def _plain_scalar(text: str) -> Scalar:
    """Resolve an unquoted scalar by the YAML 1.2 core schema (so `no` and `on` stay words)."""
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    digits = text.removeprefix("-")
    # int() of a very long digit string is quadratic; no policy number has more than 18 digits.
    if len(digits) <= 18 and digits.isascii() and digits.replace(".", "", 1).isdigit():
        return float(text) if "." in digits else int(text)
    return text
