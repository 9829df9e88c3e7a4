"""Group commit: threads that arrive while one commits share the next commit, so that one disk flush serves them all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from guardrails.errors import GuardrailsError, StorageError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Keeps the first of a long queue from waiting for the last.
LARGEST_GROUP = 256


class _Waiter(Generic[_Item, _Result]):
    def __init__(self, item: _Item) -> None:
        self.item = item
        self.result: _Result | None = None
        self.error: BaseException | None = None
        self.served = False
        self.woken = threading.Event()


class GroupCommit(Generic[_Item, _Result]):
    """Calls `commit` with the items of all threads that wait; the first of them leads, the others sleep.

    Args:
        commit: takes items and returns one result for each; all or nothing.
    """

    def __init__(self, commit: Callable[[list[_Item]], list[_Result]]) -> None:
        self._commit = commit
        self._queue: list[_Waiter[_Item, _Result]] = []
        self._led = False
        self._mutex = threading.Lock()

    def __call__(self, item: _Item) -> _Result:
        """The result for one item; raises what `commit` raises for it alone."""
        waiter = _Waiter[_Item, _Result](item)
        with self._mutex:
            self._queue.append(waiter)
            leads, self._led = not self._led, True
        if not leads:
            waiter.woken.wait()
        if not waiter.served:
            self._lead()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.result is not None
        return waiter.result

    def _lead(self) -> None:
        """Serve the head of the queue, this thread's own item among it, and hand the lead on."""
        with self._mutex:
            group, self._queue = self._queue[:LARGEST_GROUP], self._queue[LARGEST_GROUP:]
        self._serve(group)
        with self._mutex:
            # One that was not served leads next; nobody waits behind a leader that is gone.
            self._led = bool(self._queue)
            if self._queue:
                self._queue[0].woken.set()
        for waiter in group:
            waiter.woken.set()

    def _serve(self, group: list[_Waiter[_Item, _Result]]) -> None:
        try:
            results = self._commit([waiter.item for waiter in group])
            for waiter, result in zip(group, results, strict=True):
                waiter.result, waiter.served = result, True
        except GuardrailsError as error:
            # A disk that fails is the fault of none of them, and may have kept them all before it did.
            if len(group) == 1 or isinstance(error, StorageError):
                for waiter in group:
                    waiter.error, waiter.served = error, True
                return
            # One bad item must not fail the others.
            for waiter in group:
                self._serve([waiter])
        except BaseException as error:
            for waiter in group:
                waiter.error, waiter.served = error, True
