"""Reading JSON that a stranger wrote: the wrong shape reads as empty."""

from __future__ import annotations

from collections.abc import Mapping

from guardrails.domain.canonical import Json


def members(value: Json) -> Mapping[str, Json]:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Json) -> list[Json]:
    """The value when it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Json) -> str:
    """The value when it is a string, else ""."""
    return value if isinstance(value, str) else ""
