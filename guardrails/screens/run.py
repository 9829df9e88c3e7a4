"""Runs screens over one picture and records what became of each."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from guardrails.concurrency import together
from guardrails.domain.findings import Check, CheckStatus
from guardrails.errors import EmbeddingError, GuardrailsError, UnavailableError
from guardrails.imaging import Pixels
from guardrails.screens.protocol import Reading, Screen
from guardrails.tracing import span


def run_screens(screens: Iterable[Screen], pixels: Pixels) -> tuple[Check, ...]:
    """Run every screen, all at the same time; one that cannot run or fails does not keep the others from running.

    Returns:
        One check a screen, in order. A toolkit error becomes UNAVAILABLE or FAILED with its message as reason; any
        other exception is a bug and passes through.
    """
    return together(*(partial(run_screen, screen, pixels) for screen in screens))


def run_screen(screen: Screen, pixels: Pixels) -> Check:
    """Run one screen; see `run_screens`."""
    start = time.perf_counter()
    reading, reason = Reading(scores={}), ""
    # What is asked, although its packs may change while it looks.
    component = screen.component
    try:
        with span("guardrails.screen", **{"guardrails.screen": component.name}):
            reading = checked(screen.score(pixels))
        status = CheckStatus.RAN
    except UnavailableError as error:
        status, reason = CheckStatus.UNAVAILABLE, describe(error)
    except GuardrailsError as error:
        status, reason = CheckStatus.FAILED, describe(error)
    milliseconds = (time.perf_counter() - start) * 1000
    return Check(
        component=component,
        status=status,
        scores=reading.scores,
        evidence=reading.evidence,
        abstained=reading.abstained,
        ceilings=reading.ceilings,
        reason=reason,
        milliseconds=round(milliseconds, 3),
    )


def checked(reading: Reading) -> Reading:
    """The reading with its scores as plain floats.

    Raises:
        EmbeddingError: one is outside 0..1. NaN is: every comparison with it is false, so it would pass any threshold.
    """
    for concept, score in reading.scores.items():
        if not 0.0 <= score <= 1.0:
            raise EmbeddingError(
                f"the score {score} for {concept!r} is outside 0..1",
                hint="the screen's weights or its input are damaged",
            )
    return replace(reading, scores={concept: float(score) for concept, score in reading.scores.items()})


def describe(error: GuardrailsError) -> str:
    """Message and next step in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
