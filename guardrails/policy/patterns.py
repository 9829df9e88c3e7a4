"""Patterns that policy authors write run on RE2: linear in the text, and small enough to be tried on every prompt."""

from __future__ import annotations

import re2

PREFIX = "re:"
"""How a pattern begins in a list of words."""

# RE2 refuses a pattern whose automaton would need more.
MEMORY = 1 << 20


def options(patterns: int = 1) -> re2.Options:
    """The settings that every pattern runs under; memory for so many of them."""
    settings = re2.Options()
    settings.max_mem = MEMORY * max(1, patterns)
    settings.log_errors = False
    return settings


def refusal(pattern: str) -> str:
    """Why a pattern cannot be used; "" when it can."""
    try:
        compiled = re2.compile(pattern, options())
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        return reason.decode() if isinstance(reason, bytes) else str(reason)
    return "it matches nothing at all, so it would match everywhere" if compiled.search("") else ""
