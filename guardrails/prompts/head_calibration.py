"""Thresholds of prompt heads at stated false-positive rates, and the card that carries them.

The rate is promised for the hardest harmless prompts: those on a sensitive topic, most of them twins of unsafe ones,
none of them seen in training. Captions and real traffic are counted beside it; thresholds that are set on captions
would let half of the borderline prompts be refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from guardrails.domain.calibration import CONFIDENCE, clopper_pearson_upper, conformal_threshold
from guardrails.prompts.examples import Example
from guardrails.prompts.garbling import is_garbled
from guardrails.prompts.heads import Assessment

RATES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08)
GARBLED_RATES = (0.0025, 0.005, 0.01)


def levels(examples: Sequence[Example], assessments: Sequence[Assessment]) -> dict[str, dict[str, Any]]:
    """For each rate the threshold, and what was counted at it. Rates that n is too small for are left out.

    Args:
        examples: never seen in training.
        assessments: one for each.
    """
    pools = _pools(examples, assessments)
    found: dict[str, dict[str, Any]] = {}
    for rate in RATES:
        threshold = conformal_threshold([item.score for item in pools["borderline"]], rate)
        if threshold is not None and threshold <= 1:
            found[f"{rate:g}"] = _level(rate, threshold, pools)
    return found


def garbled_levels(examples: Sequence[Example], assessments: Sequence[Assessment]) -> dict[str, dict[str, Any]]:
    """Thresholds for heaps of broken words, by the share of plain prompts that are one and reach the threshold.

    Args:
        examples: never seen in training; those with a topic are left out, since no attack looks like them.
        assessments: one for each.
    """
    pairs = list(zip(examples, assessments, strict=True))
    plain = [(one, item) for one, item in pairs if _pool(one) in ("captions", "traffic")]
    joint = [item.score if is_garbled(one.text) else 0.0 for one, item in plain]
    found: dict[str, dict[str, Any]] = {}
    for rate in GARBLED_RATES:
        threshold = conformal_threshold(joint, rate)
        if threshold is not None and 0 < threshold <= 1:
            hits = sum(score >= threshold for score in joint)
            found[f"{rate:g}"] = {
                "threshold": threshold,
                "error_rate": f"at most {rate:.1%} of captions and real traffic are garbled and reach it (split "
                f"conformal, n = {len(joint)}); counted {_counted(hits, len(joint), 'of them')}",
            }
    return found


def _pools(examples: Sequence[Example], assessments: Sequence[Assessment]) -> dict[str, list[Assessment]]:
    pools: dict[str, list[Assessment]] = {"borderline": [], "captions": [], "traffic": [], "unsafe": []}
    for example, assessment in zip(examples, assessments, strict=True):
        # An unsafe prompt with a weak label says nothing about either rate.
        if not example.is_unsafe or example.weight == 1:
            pools[_pool(example)].append(assessment)
    return pools


def _pool(example: Example) -> str:
    if example.is_unsafe:
        return "unsafe"
    # Our own harmless prompts without a topic are homonyms and dark scenes: as hard as twins.
    if example.topic or example.source == "contrast":
        return "borderline"
    return "captions" if example.weight == 1 else "traffic"


def _level(rate: float, threshold: float, pools: Mapping[str, Sequence[Assessment]]) -> dict[str, Any]:
    hits = {name: sum(item.score >= threshold for item in pool) for name, pool in pools.items()}
    plain = ", ".join(_counted(hits[name], len(pools[name]), name) for name in ("captions", "traffic") if pools[name])
    text = (
        f"at most {rate:.1%} of harmless prompts on sensitive topics (split conformal, n = {len(pools['borderline'])})"
        + (f"; counted {plain}" if plain else "")
    )
    return {
        "threshold": threshold,
        "error_rate": text,
        "caught": f"{hits['unsafe']} of {len(pools['unsafe'])} unsafe prompts",
    }


def _counted(hits: int, n: int, what: str) -> str:
    # Rounded up: a bound must not get smaller by being printed.
    bound = math.ceil(clopper_pearson_upper(hits, n) * 1000) / 1000
    return f"{hits} of {n} {what} (below {bound:.1%} with {CONFIDENCE:.0%} confidence)"
