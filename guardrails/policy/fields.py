"""Typed reading of YAML nodes: each field is asked for once, checked, and a leftover key is a spelling mistake."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from guardrails.policy.yamlio import Node, nearest


class Fields:
    """The members of one mapping. Ask for each field by name, then call `finish`."""

    def __init__(self, node: Node) -> None:
        if not isinstance(node.value, dict):
            node.fail(f"expected a mapping of keys and values, found {_kind(node)}")
        self.node = node
        self._members = node.value
        self._asked: set[str] = set()

    def take(self, name: str) -> Node | None:
        """The node of an optional field."""
        self._asked.add(name)
        return self._members.get(name)

    def need(self, name: str) -> Node:
        """The node of a required field.

        Raises:
            PolicyError: the field is missing.
        """
        found = self.take(name)
        if found is None:
            misspelt = nearest(name, (key for key in self._members if key not in self._asked))
            self.node.fail(
                f"the key `{name}` is missing", hint=f"is `{misspelt}` meant?" if misspelt else f"add `{name}:` here"
            )
        return found

    def text(self, name: str) -> str:
        """A required, non-empty text."""
        return text_of(self.need(name))

    def optional_text(self, name: str) -> str:
        """A non-empty text, or "" when absent."""
        found = self.take(name)
        return "" if found is None else text_of(found)

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        found = self.take(name)
        if found is None:
            return default
        value = found.value
        if isinstance(value, bool) or not isinstance(value, int):
            found.fail(f"expected a whole number, found {_kind(found)}")
        if not low <= value <= high:
            found.fail(f"{value} is out of range", hint=f"write a number from {low} to {high}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """true or false."""
        found = self.take(name)
        if found is None:
            return default
        if not isinstance(found.value, bool):
            found.fail(f"expected true or false, found {_kind(found)}")
        return found.value

    def choice(self, name: str, allowed: Iterable[str], *, default: str = "") -> str:
        """A text that must be one of `allowed`; required when there is no default."""
        found = self.take(name) if default else self.need(name)
        return default if found is None else one_of(found, allowed)

    def items(self, name: str) -> list[Node]:
        """The items of a list; empty when absent."""
        found = self.take(name)
        return [] if found is None else items_of(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of non-empty texts; empty when absent."""
        return tuple(text_of(item) for item in self.items(name))

    def day(self, name: str) -> str:
        """An ISO 8601 date as text, or "" when absent."""
        found = self.take(name)
        if found is None or found.value is None:
            return ""
        written = text_of(found)
        try:
            return datetime.date.fromisoformat(written).isoformat()
        except ValueError:
            found.fail(f"`{written}` is not a date", hint="write it as 2026-12-31")

    def each(self) -> list[tuple[str, Node]]:
        """Every member, for mappings whose keys are free."""
        self._asked.update(self._members)
        return list(self._members.items())

    def finish(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            PolicyError: names the key and the nearest known one.
        """
        for key, value in self._members.items():
            if key not in self._asked:
                meant = nearest(key, self._asked - self._members.keys()) or nearest(key, self._asked)
                known = ", ".join(sorted(self._asked))
                value.fail(f"unknown key `{key}`", hint=f"did you mean `{meant}`?" if meant else f"known keys: {known}")


def text_of(node: Node) -> str:
    """The text of a scalar node.

    Raises:
        PolicyError: not text, or empty.
    """
    if not isinstance(node.value, str):
        scalar = not isinstance(node.value, dict | list) and node.value is not None
        node.fail(f"expected text, found {_kind(node)}", hint="put it in quotes" if scalar else "")
    if not node.value.strip():
        node.fail("this text is empty", hint="write a value or remove the key")
    return node.value.strip()


def items_of(node: Node) -> list[Node]:
    """The items of a sequence node.

    Raises:
        PolicyError: not a list.
    """
    if not isinstance(node.value, list):
        node.fail(f"expected a list, found {_kind(node)}", hint="write [a, b] or one `- item` per line")
    return node.value


def one_of(node: Node, allowed: Iterable[str]) -> str:
    """The text of a node that must be one of `allowed`.

    Raises:
        PolicyError: it is not; names the nearest allowed value.
    """
    value, known = text_of(node), tuple(allowed)
    if value not in known:
        meant = nearest(value, known)
        choices = f"write one of: {', '.join(known)}"
        node.fail(f"`{value}` is not known", hint=f"did you mean `{meant}`? {choices}" if meant else choices)
    return value


def _kind(node: Node) -> str:
    match node.value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a mapping"
