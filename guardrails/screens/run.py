"""Runs screens over one picture and records what became of each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from guardrails.domain.findings import Check, CheckStatus
from guardrails.errors import EmbeddingError, GuardrailsError, UnavailableError
from guardrails.imaging import Pixels
from guardrails.screens.protocol import Screen


def run_screens(screens: Iterable[Screen], pixels: Pixels) -> tuple[Check, ...]:
    """Run every screen; one that cannot run or fails does not keep the others from running.

    Returns:
        One check a screen, in order. A toolkit error becomes UNAVAILABLE or FAILED with its message as reason; any
        other exception is a bug and passes through.
    """
    return tuple(run_screen(screen, pixels) for screen in screens)


def run_screen(screen: Screen, pixels: Pixels) -> Check:
    """Run one screen; see `run_screens`."""
    start = time.perf_counter()
    scores: Mapping[str, float] = {}
    reason = ""
    try:
        scores = checked_scores(screen.score(pixels))
        status = CheckStatus.RAN
    except UnavailableError as error:
        status, reason = CheckStatus.UNAVAILABLE, describe(error)
    except GuardrailsError as error:
        status, reason = CheckStatus.FAILED, describe(error)
    milliseconds = (time.perf_counter() - start) * 1000
    return Check(
        component=screen.component, status=status, scores=scores, reason=reason, milliseconds=round(milliseconds, 3)
    )


def checked_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores as plain floats.

    Raises:
        EmbeddingError: one is outside 0..1. NaN is: every comparison with it is false, so it would pass any threshold.
    """
    for concept, score in scores.items():
        if not 0.0 <= score <= 1.0:
            raise EmbeddingError(
                f"the score {score} for {concept!r} is outside 0..1",
                hint="the screen's weights or its input are damaged",
            )
    return {concept: float(score) for concept, score in scores.items()}


def describe(error: GuardrailsError) -> str:
    """Message and next step in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
