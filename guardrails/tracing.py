"""Names the steps of a picture for whoever traces them. Without a tracer nothing is recorded, and nothing is loaded.

The library says where a step begins and ends; what is made of it (OpenTelemetry, see `service.tracing`) is brought in
by `use`. Attributes are names of parts and numbers, never words that a user wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

Attribute: TypeAlias = str | int | float | bool
Opener: TypeAlias = Callable[[str, Mapping[str, Attribute]], AbstractContextManager[object]]

_NOTHING: AbstractContextManager[object] = nullcontext()
_opener: Opener | None = None


def use(opener: Opener | None) -> None:
    """Have every step of this process opened by `opener`; None stops that."""
    global _opener
    _opener = opener


def span(name: str, **attributes: Attribute) -> AbstractContextManager[object]:
    """A step, for a `with` statement."""
    return _NOTHING if _opener is None else _opener(name, attributes)
