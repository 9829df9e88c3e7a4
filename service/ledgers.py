"""The ledger of an installation, as its settings place it."""

from __future__ import annotations

from guardrails import home as homes
from guardrails.ledger import Ledger
from service.settings import Settings


def open_ledger(settings: Settings) -> Ledger:
    """The ledger, for writing.

    Raises:
        LedgerError, StorageError: see `Ledger.open`.
    """
    return Ledger.open(homes.ledger_folder(settings.home))
