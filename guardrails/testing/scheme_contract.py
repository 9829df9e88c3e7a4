"""The contract of a watermark scheme, as a check that people run on their own.

Wrap a foreign mark in the two methods of `guardrails.watermark.protocol.Scheme` and ask::

    assert scheme_violations(MyScheme()) == []
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from guardrails.domain.images import MarkReading, MarkVerdict
from guardrails.errors import WatermarkError
from guardrails.imaging import Pixels
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.benchmark import psnr
from guardrails.watermark.protocol import Scheme

MARK_IDS = ("0123456789abcdef", "fedcba9876543210")
SIDE = 384
PSNR_TOLERANCE = 0.1
# What a mark must be worth to be called present, the product's false-positive budget for one picture.
FALSE_POSITIVE_RATE = 1e-6


def scheme_violations(scheme: Scheme) -> list[str]:
    """Every way in which a scheme breaks the contract, one sentence each; empty when it keeps it."""
    return [sentence for check in _CHECKS for sentence in check(scheme)]


def _pictures() -> list[Pixels]:
    grain = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    textured = np.clip(draw_shapes(1, SIDE) + grain, 0, 255).astype(np.uint8)
    return [draw_shapes(2, SIDE), textured]


def _says_its_name(scheme: Scheme) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", scheme.name):
        yield f"the name {scheme.name!r} cannot stand in a record: letters, digits, dots and dashes only"


def _reads_what_it_wrote(scheme: Scheme) -> Iterator[str]:
    for picture in _pictures():
        for mark_id in MARK_IDS:
            before = picture.copy()
            embedded = scheme.embed(picture, mark_id)
            if not np.array_equal(picture, before):
                yield "embed changed its input"
            if embedded.pixels.shape != picture.shape or embedded.pixels.dtype != np.uint8:
                yield f"embed returned {embedded.pixels.dtype} {embedded.pixels.shape}, not uint8 {picture.shape}"
                continue
            if embedded.embedding.mark_id != mark_id:
                yield f"embed reports the id {embedded.embedding.mark_id!r}, not {mark_id!r}"
            true = psnr(picture, embedded.pixels)
            if not math.isclose(embedded.embedding.psnr, true, abs_tol=PSNR_TOLERANCE):
                yield f"embed reports {embedded.embedding.psnr} dB, but it is {true:.2f} dB"
            reading = scheme.detect(embedded.pixels)
            if reading.verdict is not MarkVerdict.PRESENT or reading.mark_id != mark_id:
                yield f"reads {reading.verdict.value} {reading.mark_id!r} where {mark_id!r} was written"
            yield from _reading_faults(reading)


def _is_silent_without_a_mark(scheme: Scheme) -> Iterator[str]:
    for picture in _pictures():
        reading = scheme.detect(picture)
        if reading.verdict is not MarkVerdict.NOT_DETECTED or reading.mark_id:
            yield f"reads {reading.verdict.value} {reading.mark_id!r} in an unmarked picture"
        yield from _reading_faults(reading)


def _reading_faults(reading: MarkReading) -> Iterator[str]:
    if not 0 <= reading.p_value <= 1:
        yield f"gives the p-value {reading.p_value}"
    if reading.tests < 1:
        yield f"counts {reading.tests} tests"
    if reading.verdict is MarkVerdict.PRESENT and reading.p_value > FALSE_POSITIVE_RATE:
        yield f"says present at p = {reading.p_value}"
    if bool(reading.mark_id) != (reading.verdict is MarkVerdict.PRESENT):
        yield f"says {reading.verdict.value} with the id {reading.mark_id!r}"


def _is_deterministic(scheme: Scheme) -> Iterator[str]:
    picture = _pictures()[0]
    first, second = (scheme.embed(picture, MARK_IDS[0]).pixels for _ in range(2))
    if not np.array_equal(first, second):
        yield "marks the same picture with the same id differently"


def _refuses_what_it_cannot_mark(scheme: Scheme) -> Iterator[str]:
    wrong: tuple[Any, ...] = (
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((SIDE, SIDE), np.uint8),
        np.zeros((SIDE, SIDE, 3)),
    )
    for pixels in wrong:
        for name, attempt in (("embed", lambda p: scheme.embed(p, MARK_IDS[0])), ("detect", scheme.detect)):
            try:
                attempt(pixels)
            except WatermarkError as error:
                if not error.hint:
                    yield f"{name} refuses {pixels.dtype} {pixels.shape} without a next step"
            except Exception as error:
                yield f"{name} fails on {pixels.dtype} {pixels.shape} with {type(error).__name__}, not WatermarkError"
            else:
                yield f"{name} takes {pixels.dtype} {pixels.shape}"


_CHECKS: tuple[Callable[[Scheme], Iterator[str]], ...] = (
    _says_its_name,
    _reads_what_it_wrote,
    _is_silent_without_a_mark,
    _is_deterministic,
    _refuses_what_it_cannot_mark,
)
