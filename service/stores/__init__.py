"""Where the service keeps its rows: one set of tables on SQLite or PostgreSQL.

::

    database.py   what both databases promise: reading, and transactions that never lose a commit
    sqlite.py     one file, one writer at a time, writers wait in a queue
    postgres.py   many machines; rows are claimed with FOR UPDATE SKIP LOCKED
    schema.py     the tables
"""

from __future__ import annotations

from service.stores.database import Also, Database, Row, Transaction
from service.stores.opening import open_database, open_ledger

__all__ = ["Also", "Database", "Row", "Transaction", "open_database", "open_ledger"]
