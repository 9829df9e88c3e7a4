"""The command line: one file per command, heavy imports inside the commands."""

from __future__ import annotations

from guardrails.cli.main import main

__all__ = ["main"]
