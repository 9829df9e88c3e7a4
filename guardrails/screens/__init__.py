"""Screens: pixels to scores, and scores to findings under a policy."""

from __future__ import annotations

from guardrails.screens.judge import judge
from guardrails.screens.protocol import Screen
from guardrails.screens.run import run_screens

__all__ = ["Screen", "default_screens", "judge", "run_screens"]


def default_screens() -> tuple[Screen, ...]:
    """The screens that a guard runs when it is told nothing else; none loads weights before its first picture."""
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.open_nsfw import OpenNsfw

    return (OpenNsfw(), ClipConcepts())
