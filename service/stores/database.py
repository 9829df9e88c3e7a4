"""What a database promises. Queries are written once, with "?" for values, in the SQL that both dialects share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

Row: TypeAlias = dict[str, Any]


class Transaction(Protocol):
    """Reads and writes that become durable together, or not at all."""

    def run(self, query: str, *values: object) -> int:
        """Execute one statement; the number of rows that it changed."""
        ...

    def all(self, query: str, *values: object) -> list[Row]:
        """The rows of a query."""
        ...

    def one(self, query: str, *values: object) -> Row | None:
        """The first row of a query, or None."""
        ...


# Writes that belong to somebody else's transaction, made as the last thing in it.
Also: TypeAlias = Callable[[Transaction], None]


class Database(Protocol):
    """May be shared by threads.

    Attributes:
        claiming: what stands at the end of a SELECT that claims rows, so that two workers never claim the same one.
        locking: what stands at the end of a SELECT whose rows nobody else may change until the transaction ends.
    """

    claiming: str
    locking: str

    def all(self, query: str, *values: object) -> list[Row]:
        """The rows of a query outside of any transaction."""
        ...

    def one(self, query: str, *values: object) -> Row | None:
        """The first row of a query, or None."""
        ...

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[Transaction]:
        """Committed when the block ends; rolled back when it raises.

        Args:
            durable: wait until the disk has it; without it the last moments before a power failure may be lost.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        ...

    def close(self) -> None: ...
