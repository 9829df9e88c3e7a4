"""Several orders in one call of the model. Everything before and after the drawing stays each order's own.

A call that fails says nothing about any order in it: each is then drawn by itself, where its fault is found and
recorded as its own.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from guardrails.generation.protocol import BatchGenerator, Progress
from guardrails.pipeline.guard import Guard
from guardrails.pipeline.stages import Begun, Pictures

Started: TypeAlias = tuple[Guard, Begun]


def draw_together(orders: Sequence[Started]) -> list[Pictures | None]:
    """Draw the orders of equal form that one model can draw in one call.

    Returns:
        What `Guard.complete` is given. None for an order that is to be drawn by itself: an edit, one that reviewers
        have seen, one that fits no other, and every one of a call that failed.
    """
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, (guard, begun) in enumerate(orders):
        if isinstance(guard.generator, BatchGenerator) and not (begun.order.approval or begun.order.original):
            groups[id(guard.generator), begun.order.request.form].append(number)
    pictures: dict[int, Pictures] = {}
    for numbers in groups.values():
        # Whatever goes wrong here goes wrong again for the order that it is about, by itself.
        with contextlib.suppress(Exception):
            pictures |= _drawn({number: orders[number] for number in numbers})
    return [pictures.get(number) for number in range(len(orders))]


def _drawn(orders: Mapping[int, Started]) -> dict[int, Pictures]:
    asked = {number: guard.part(begun) for number, (guard, begun) in orders.items()}
    pictures: dict[int, Pictures] = {}
    for signed in (True, False):
        numbers = [number for number, (_, part) in asked.items() if bool(len(part.signs)) is signed]
        generator = next(iter(orders.values()))[0].generator
        if len(numbers) < 2 or not isinstance(generator, BatchGenerator):
            continue
        told = [orders[number][1].order.progress for number in numbers]
        started = time.perf_counter()
        drawn = generator.draw_together([asked[number][1] for number in numbers], progress=_Told(told))
        each = (time.perf_counter() - started) * 1e3 / sum(map(len, drawn))
        made = dict(zip(numbers, drawn, strict=True))
        # A model that miscounts may have mixed them up.
        if all(len(made[number]) == asked[number][1].request.count for number in numbers):
            pictures |= {
                number: Pictures(latent=asked[number][0], drawn=made[number], milliseconds=each) for number in numbers
            }
    return pictures


class _Told:
    """Tells every order how far the drawing is; one that raises is told no more, and stops nobody else."""

    def __init__(self, listeners: Sequence[Progress | None]) -> None:
        self._listeners = [listener for listener in listeners if listener is not None]

    def __call__(self, done: int, total: int) -> None:
        for listener in list(self._listeners):
            try:
                listener(done, total)
            except Exception:
                self._listeners.remove(listener)
                if not self._listeners:
                    raise
