"""The sequencer as a loop: the one place where staged records of all workers get their places."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from guardrails.errors import StorageError
from guardrails.ledger.log import LARGEST_MERGE, MAX_MERGE_DELAY, Ledger

INTERVAL = 0.5


class Sequencer:
    """Merges what is staged, at least every `interval` seconds, until it is told to stop.

    Of all that run for one log one leads and the others stand by. When it dies the next goes on where it was, for a
    merge is one transaction.

    Args:
        ledger: opened for writing.
        interval: seconds between merges while less than a whole batch waits.
        report: told of a database that could not be used, before the next try; silent when omitted.
    """

    def __init__(
        self, ledger: Ledger, *, interval: float = INTERVAL, report: Callable[[StorageError], None] | None = None
    ) -> None:
        if not 0 < interval < MAX_MERGE_DELAY:
            raise ValueError(f"merging every {interval} s cannot keep the promise of {MAX_MERGE_DELAY} s")
        self._ledger = ledger
        self._interval = interval
        self._report = report
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let `run` return after one last merge."""
        self._stop.set()

    def run(self) -> None:
        """Merge while this one leads, until `stop`; a database that cannot be used is tried again.

        Raises:
            LedgerCorrupt: the log disagrees with its last checkpoint; no sequencer may go on then.
        """
        while not self._stop.is_set():
            started = time.monotonic()
            if self._merge() < LARGEST_MERGE:
                self._stop.wait(max(0.0, self._interval - (time.monotonic() - started)))
        while self._merge() == LARGEST_MERGE:
            pass

    def _merge(self) -> int:
        try:
            return self._ledger.merge() if self._ledger.lead() else 0
        except StorageError as error:
            if self._report is not None:
                self._report(error)
            return 0
