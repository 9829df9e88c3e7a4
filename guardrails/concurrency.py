"""Independent steps at the same time: most of a picture's guarding is compiled code that leaves Python's lock."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, overload

_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")


@overload
def together(a: Callable[[], _A], b: Callable[[], _B], /) -> tuple[_A, _B]: ...
@overload
def together(
    a: Callable[[], _A], b: Callable[[], _B], c: Callable[[], _C], d: Callable[[], _D], /
) -> tuple[_A, _B, _C, _D]: ...
@overload
def together(*steps: Callable[[], _A]) -> tuple[_A, ...]: ...
def together(*steps: Callable[[], Any]) -> tuple[Any, ...]:
    """Run steps in threads of their own, the first in the caller's, each with the caller's context variables.

    Returns:
        Their results, in order.

    Raises:
        Exception: what the first of them (in order) raised, after all have ended.
    """
    if len(steps) < 2:
        return tuple(step() for step in steps)
    with ThreadPoolExecutor(len(steps) - 1, thread_name_prefix="together") as pool:
        others = [pool.submit(contextvars.copy_context().run, step) for step in steps[1:]]
        first = steps[0]()
    return (first, *(other.result() for other in others))
