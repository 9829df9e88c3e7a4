"""Exit statuses that are answers; those of errors are in `guardrails.errors`."""

from __future__ import annotations

from typing import Final

UNEXPECTED: Final = 1
INVALID: Final = 2
REFUSED: Final = 3
NOT_CONFIRMED: Final = 4
UNFIT_KEYS: Final = 6
INTERRUPTED: Final = 130
