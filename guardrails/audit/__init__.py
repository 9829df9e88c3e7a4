"""A file from the wild: evidence of every layer, and one honest verdict."""

from __future__ import annotations

from guardrails.audit.auditor import Auditor, verify_bytes
from guardrails.audit.report import FileReport, FileVerdict, LedgerEvidence, LedgerStatus

__all__ = ["Auditor", "FileReport", "FileVerdict", "LedgerEvidence", "LedgerStatus", "verify_bytes"]
