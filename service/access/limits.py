"""Requests per minute, as a bucket that fills steadily; in the memory of one API process."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit.

    Attributes:
        reset: seconds until the bucket is full again.
        retry: seconds until the next request would pass; 0 when this one did.
    """

    limit: int
    remaining: int
    reset: float
    retry: float

    @property
    def headers(self) -> dict[str, str]:
        """As OpenAI's API names them."""
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{self.reset:.3f}s",
        }


class RateLimiter:
    """Counts requests by whoever makes them."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, who: str, per_minute: int) -> Standing:
        """Take one request from somebody's bucket of `per_minute`, if there is one."""
        now, rate = time.monotonic(), per_minute / 60
        with self._lock:
            level, at = self._buckets.get(who, (float(per_minute), now))
            level = min(per_minute, level + (now - at) * rate)
            passes = level >= 1
            level -= passes
            if len(self._buckets) >= _MOST_BUCKETS and who not in self._buckets:
                self._forget_full(now)
            self._buckets[who] = (level, now)
        return Standing(per_minute, int(level), (per_minute - level) / rate, 0.0 if passes else (1 - level) / rate)

    def _forget_full(self, now: float) -> None:
        """Whoever has not asked for a minute has a full bucket again, which need not be kept."""
        self._buckets = {who: bucket for who, bucket in self._buckets.items() if now - bucket[1] < 60}
        if len(self._buckets) >= _MOST_BUCKETS:
            self._buckets.clear()
