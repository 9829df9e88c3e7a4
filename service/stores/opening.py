"""Which databases the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrails import home as homes
from guardrails.errors import OptionError
from guardrails.ledger import Ledger
from service.stores.database import Database
from service.stores.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from service.settings import Settings

SQLITE_FILE = "service.db"


def open_database(settings: Settings) -> Database:
    """The database of this installation; its tables are made when they are not there.

    Raises:
        OptionError: an address of a kind that is not known.
        StorageError, UnavailableError: it cannot be opened.
    """
    if not settings.database:
        return SqliteDatabase(settings.folder / SQLITE_FILE)
    if settings.database.startswith(("postgresql://", "postgres://")):
        from service.stores.postgres import PostgresDatabase

        return PostgresDatabase(settings.database)
    raise OptionError("the setting `database` is no address of PostgreSQL", hint="write postgresql://user@host/name")


def open_ledger(settings: Settings, *, create: bool = True) -> Ledger:
    """The ledger of this installation: SQLite in the home, or beside the jobs in PostgreSQL.

    Args:
        create: make it when it is not there, and allow writing.

    Raises:
        LedgerError, LedgerCorrupt, KeyMaterialError, StorageError: see `Ledger.open`.
    """
    folder = homes.ledger_folder(settings.home)
    # Among many workers the sequencer gives the records their places.
    return Ledger.open(folder, database=settings.database, create=create, merges=not settings.database)
