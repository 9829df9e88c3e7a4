"""Thresholds keep their promise, and bounds are the exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from guardrails.domain.calibration import (
    binomial_tail,
    clopper_pearson_upper,
    conformal_threshold,
    error_rate_text,
    exceedance_tail,
)


@given(st.integers(1, 3000), st.data())
def test_upper_bound_is_the_beta_quantile(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, min(n - 1, 60)))
    assert clopper_pearson_upper(hits, n) == pytest.approx(stats.beta.ppf(0.95, hits + 1, n - hits), abs=1e-9)


@given(st.integers(1, 3000), st.floats(0.0005, 0.9995), st.data())
def test_binomial_tail_is_the_distribution_function(n: int, rate: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, min(n, 60)))
    assert binomial_tail(hits, n, rate) == pytest.approx(stats.binom.cdf(hits, n, rate), abs=1e-9)


@given(st.integers(1, 400), st.integers(20, 1000), st.data())
def test_exceedances_are_beta_binomial(n: int, references: int, data: st.DataObject) -> None:
    rank, hits = data.draw(st.integers(1, references)), data.draw(st.integers(0, n))
    expected = stats.betabinom.sf(hits - 1, n, rank, references - rank + 1)
    assert exceedance_tail(hits, n, rank, references) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_bounds_of_the_published_examples() -> None:
    assert clopper_pearson_upper(0, 1000) == pytest.approx(0.003, abs=1e-4)
    assert clopper_pearson_upper(10, 1000) == pytest.approx(0.017, abs=5e-4)
    assert clopper_pearson_upper(50, 1000) == pytest.approx(0.063, abs=1e-3)
    assert clopper_pearson_upper(7, 7) == 1.0


@pytest.mark.parametrize(
    ("n", "rate", "possible"), [(99, 0.01, True), (98, 0.01, False), (19, 0.05, True), (18, 0.05, False)]
)
def test_too_few_safe_pictures_give_no_threshold(n: int, rate: float, possible: bool) -> None:
    assert (conformal_threshold(list(np.linspace(0, 0.9, n)), rate) is not None) is possible


@given(st.lists(st.floats(0, 1), min_size=100, max_size=300), st.sampled_from([0.01, 0.02, 0.05]))
def test_no_more_safe_scores_reach_the_threshold_than_the_rate_allows(scores: list[float], rate: float) -> None:
    threshold = conformal_threshold(scores, rate)
    assert threshold is not None
    assert sum(score >= threshold for score in scores) <= rate * (len(scores) + 1)


def test_the_promised_rate_holds_on_new_scores() -> None:
    random = np.random.default_rng(5)
    rates = []
    for _ in range(300):
        threshold = conformal_threshold(random.beta(1, 8, 320).tolist(), 0.02)
        rates.append(stats.beta.sf(threshold, 1, 8))
    assert np.mean(rates) <= 0.02
    assert np.mean(rates) > 0.015


def test_the_sentence_names_target_counts_and_bound() -> None:
    text = error_rate_text(target_rate=0.02, calibrated_on=320, hits=0, n=280, domain="drawings")
    assert "target 2.0% set on 320 safe drawings" in text
    assert "0 of 280" in text
    assert "below 1.1%" in text
