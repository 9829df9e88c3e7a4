"""Thresholds with a proven false-positive rate, and how sure that rate is.

Scores rise with badness everywhere. A threshold comes from pictures that are known to be safe; its rate is then counted
on other safe pictures and stated with a one-sided upper bound, never as a bare number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.95
# The stated rate of a score holds for every half of the safe pictures, not for their whole alone.
SUBPOPULATION = 0.5
# A published threshold has this many decimals, rounded up, so that rounding never makes the rule speak more often.
THRESHOLD_DECIMALS = 4


def conformal_threshold(safe_scores: Sequence[float], target_rate: float) -> float | None:
    """The split-conformal threshold: a new safe picture scores at or above it with at most `target_rate`.

    The k-th smallest safe score with k = ceil((n + 1)(1 - target_rate)) is exceeded by a new, exchangeable safe score
    with probability at most `target_rate` (Vovk et al. 2005, split conformal prediction). The result lies strictly
    above that score, because rules speak at a score *at or above* the threshold.

    Returns:
        The threshold, or None when n is too small to promise `target_rate`.
    """
    rank = math.ceil((len(safe_scores) + 1) * (1 - target_rate))
    if rank > len(safe_scores):
        return None
    step = 10.0**-THRESHOLD_DECIMALS
    score = sorted(safe_scores)[rank - 1]
    return round((math.floor(score / step) + 1) * step, THRESHOLD_DECIMALS)


def clopper_pearson_upper(hits: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided exact upper bound of a rate after `hits` of `n` (Clopper and Pearson 1934).

    It is the rate at which `hits` or fewer would be seen with probability 1 - `confidence`; found by bisection,
    because that probability falls as the rate grows.
    """
    if hits >= n:
        return 1.0
    low, high = hits / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if binomial_tail(hits, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def clopper_pearson_lower(hits: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided exact lower bound of a rate after `hits` of `n`."""
    return 1.0 - clopper_pearson_upper(n - hits, n, confidence)


def highest_score(n: int) -> float:
    """The highest score that n reference pictures can state: none of them reaches it, and u of all pictures may.

    See `SUBPOPULATION`; the bound u for 0 of n is exact: 1 - (1 - `CONFIDENCE`) ** (1 / n).
    """
    rate: float = 1 - (1 - CONFIDENCE) ** (1 / n)
    return max(0.0, 1 - rate / SUBPOPULATION)


def references_needed(threshold: float) -> int:
    """The fewest reference pictures whose `highest_score` is at or above a threshold, 0 < threshold < 1."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-(1 - threshold) * SUBPOPULATION))


def exceedance_tail(hits: int, n: int, rank: int, references: int) -> float:
    """Probability that `hits` or more of n new pictures score above the `rank`-th highest of the references, when both
    come from one distribution without ties.

    All orders of the n + references scores are equally likely then, so no distribution is assumed and the references
    themselves may be as unlucky as the new pictures (Wilks 1942; the count is beta-binomial with parameters rank and
    references - rank + 1).
    """
    everything = _log_choose(n + references, n)
    return math.fsum(
        math.exp(_log_choose(i + rank - 1, i) + _log_choose(n - i + references - rank, n - i) - everything)
        for i in range(hits, n + 1)
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def wilson_interval(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided score interval of a rate (Wilson 1927), which stays sensible for small groups."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, square = hits / n, z * z
    centre = (rate + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def can_state(rate: float, n: int) -> bool:
    """Whether n safe pictures can speak about a rate at all: none seen among n proves no less than about 3/n."""
    return rate >= 3 / n if n else False


def binomial_tail(hits: int, n: int, rate: float) -> float:
    """Probability of `hits` or fewer successes in `n` trials of probability `rate`, 0 < rate < 1."""
    log_hit, log_miss = math.log(rate), math.log1p(-rate)
    return math.fsum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_hit + (n - i) * log_miss)
        for i in range(hits + 1)
    )


def error_rate_text(*, target_rate: float, calibrated_on: int, hits: int, n: int, domain: str) -> str:
    """The sentence that a rule carries: target, n, what was counted, its bound, and for which kind of picture."""
    bound = clopper_pearson_upper(hits, n)
    return (
        f"false positives: target {target_rate:.1%} set on {calibrated_on} safe {domain}; "
        f"{hits} of {n} other safe {domain} at or above the threshold "
        f"({hits / n:.1%}, below {bound:.1%} with {CONFIDENCE:.0%} confidence)"
    )
