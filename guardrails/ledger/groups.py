"""Group commit: threads that arrive while one commits share the next commit, so that one disk flush serves them all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from guardrails.errors import GuardrailsError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Keeps the first of a long queue from waiting for the last.
LARGEST_GROUP = 256


class _Waiter(Generic[_Item, _Result]):
    def __init__(self, item: _Item) -> None:
        self.item = item
        self.result: _Result | None = None
        self.error: BaseException | None = None
        self.done = False


class GroupCommit(Generic[_Item, _Result]):
    """Calls `commit` with the items of all threads that wait.

    Args:
        commit: takes items and returns one result for each; all or nothing.
    """

    def __init__(self, commit: Callable[[list[_Item]], list[_Result]]) -> None:
        self._commit = commit
        self._queue: list[_Waiter[_Item, _Result]] = []
        self._queueing = threading.Lock()
        self._committing = threading.Lock()

    def __call__(self, item: _Item) -> _Result:
        """The result for one item; raises what `commit` raises for it alone."""
        waiter = _Waiter[_Item, _Result](item)
        with self._queueing:
            self._queue.append(waiter)
        with self._committing:
            while not waiter.done:
                with self._queueing:
                    group, self._queue = self._queue[:LARGEST_GROUP], self._queue[LARGEST_GROUP:]
                self._serve(group)
        if waiter.error is not None:
            raise waiter.error
        assert waiter.result is not None
        return waiter.result

    def _serve(self, group: list[_Waiter[_Item, _Result]]) -> None:
        try:
            results = self._commit([waiter.item for waiter in group])
            for waiter, result in zip(group, results, strict=True):
                waiter.result, waiter.done = result, True
        except GuardrailsError as error:
            if len(group) == 1:
                group[0].error, group[0].done = error, True
                return
            # One bad item must not fail the others.
            for waiter in group:
                self._serve([waiter])
        except BaseException as error:
            for waiter in group:
                waiter.error, waiter.done = error, True
