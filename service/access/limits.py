"""Requests per minute, as a bucket that fills steadily and is shared by all API processes.

The bucket lies in the database. A process takes a second's worth out of it at once and spends that from memory, so a
busy client costs about one small transaction a second; a slow one costs one a request. What is not spent within a
second is lost to the client, never given twice.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from service.access.secrets import Secrets
from service.stores import Database, Transaction

_MOST_HELD = 10_000
_HELD_SECONDS = 1.0
# A bucket is full again after a minute, whatever its size.
_FULL_SECONDS = 60.0


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


@dataclass(slots=True)
class _Held:
    """What this process took out of a bucket and has not spent; nothing, when the bucket was empty.

    Attributes:
        level: of the bucket after it was taken.
        until: when it is lost, or when an empty bucket is worth another look; of the monotonic clock.
    """

    tokens: int
    level: float
    until: float
    refused: bool


class RateLimiter:
    """Counts requests by whoever makes them. The database learns digests of names and addresses alone."""

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets
        self._held: dict[tuple[str, int], _Held] = {}
        self._lock = threading.Lock()

    async def admit(self, who: str, per_minute: int) -> Standing:
        """As `take`, without holding up others while the database is asked."""
        known = self._from_memory(who, per_minute)
        return await run_in_threadpool(self._from_bucket, who, per_minute) if known is None else known

    def take(self, who: str, per_minute: int) -> Standing:
        """Take one request from somebody's bucket of `per_minute`, if there is one.

        Raises:
            StorageError: the database does not answer.
        """
        return self._from_memory(who, per_minute) or self._from_bucket(who, per_minute)

    def forget_full(self) -> None:
        """Drop buckets that have filled up; whoever has none has a full one."""
        with self._database.transaction(durable=False) as transaction:
            transaction.run("DELETE FROM buckets WHERE at < ?", time.time() - _FULL_SECONDS)

    def _from_memory(self, who: str, per_minute: int) -> Standing | None:
        now = time.monotonic()
        with self._lock:
            held = self._held.get((who, per_minute))
            if held is None or held.until <= now or not (held.tokens or held.refused):
                return None
            if held.refused:
                return _standing(per_minute, held.level, held.until - now)
            held.tokens -= 1
            return _standing(per_minute, held.level + held.tokens)

    def _from_bucket(self, who: str, per_minute: int) -> Standing:
        share = max(1, per_minute // 60)
        with self._database.transaction(durable=False) as transaction:
            taken, level = _draw(transaction, self._secrets.mac("limit", who), per_minute, share)
        now, rate = time.monotonic(), per_minute / 60
        with self._lock:
            if len(self._held) >= _MOST_HELD:
                self._forget_spent(now)
            if not taken:
                wait = (1 - level) / rate
                self._held[who, per_minute] = _Held(0, level, now + wait, refused=True)
                return _standing(per_minute, level, wait)
            known = self._held.get((who, per_minute))
            # Several requests may have come here at once; each of them took its share.
            more = known.tokens if known is not None and known.until > now else 0
            self._held[who, per_minute] = _Held(taken - 1 + more, level, now + _HELD_SECONDS, refused=False)
            return _standing(per_minute, level + taken - 1 + more)

    def _forget_spent(self, now: float) -> None:
        self._held = {who: held for who, held in self._held.items() if held.until > now}
        if len(self._held) >= _MOST_HELD:
            self._held.clear()


def _draw(transaction: Transaction, name: str, per_minute: int, share: int) -> tuple[int, float]:
    """Requests that were taken out of a bucket, at most `share`, and what is left in it."""
    now = time.time()
    # Holds the row until the end of the transaction, on PostgreSQL too, where cleaning may remove it meanwhile.
    transaction.run(
        "INSERT INTO buckets (name, level, at) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET at = buckets.at",
        name,
        float(per_minute),
        now,
    )
    row = transaction.one("SELECT level, at FROM buckets WHERE name = ?", name)
    assert row is not None
    # The clocks of two machines differ; time never runs backwards here.
    passed = max(0.0, now - row["at"])
    level = min(float(per_minute), row["level"] + passed * per_minute / 60)
    taken = min(share, int(level))
    level -= taken
    transaction.run("UPDATE buckets SET level = ?, at = ? WHERE name = ?", level, max(now, row["at"]), name)
    return taken, level


def _standing(per_minute: int, level: float, retry: float = 0.0) -> Standing:
    left = min(float(per_minute), level)
    return Standing(per_minute, int(left), (per_minute - left) * 60 / per_minute, retry)
