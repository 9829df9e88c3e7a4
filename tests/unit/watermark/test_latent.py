from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from guardrails.domain.images import MarkVerdict
from guardrails.errors import WatermarkError
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import LatentMark, log_chi_square_survival

SHAPE = (4, 32, 32)
MARK_ID = "0123456789abcdef"


@pytest.fixture(scope="module")
def mark() -> LatentMark:
    return LatentMark(Keyring(bytes(range(32))))


def noise_of(signs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (np.abs(rng.standard_normal(signs.shape)) * signs).astype(np.float32)


def blurred(noise: np.ndarray, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """What an inversion brings back: the noise with a given correlation, at another scale."""
    return 0.6 * (correlation * noise + np.sqrt(1 - correlation**2) * rng.standard_normal(noise.shape))


def test_signed_noise_is_standard_normal(mark: LatentMark) -> None:
    rng = np.random.default_rng(0)
    noise = np.stack([noise_of(mark.signs(rng.bytes(8).hex(), SHAPE), rng) for _ in range(40)])
    assert stats.kstest(noise.reshape(-1), "norm").pvalue > 1e-3
    means = noise.mean(axis=0) * np.sqrt(len(noise))
    assert stats.kstest(means.reshape(-1), "norm").pvalue > 1e-3


def test_pictures_share_no_pad(mark: LatentMark) -> None:
    one, other = (mark.signs(f"{i:016x}", SHAPE) for i in (1, 2))
    assert abs(float((one * other).mean())) < 5 / np.sqrt(one.size)
    assert np.array_equal(one, mark.signs(f"{1:016x}", SHAPE))


@pytest.mark.parametrize("correlation", [0.35, 0.6, 1.0])
def test_an_unknown_id_is_found_and_read(mark: LatentMark, correlation: float) -> None:
    rng = np.random.default_rng(1)
    for number in range(10):
        mark_id = rng.bytes(8).hex()
        noise = noise_of(mark.signs(mark_id, SHAPE), rng)
        reading = mark.detect(blurred(noise, correlation, rng))
        assert reading.verdict is MarkVerdict.PRESENT, number
        assert reading.mark_id == mark_id
        assert 0 < reading.p_value < 1e-6
        assert reading.tests == 64


def test_a_known_id_is_confirmed_where_the_blind_search_is_deaf(mark: LatentMark) -> None:
    rng = np.random.default_rng(2)
    weak = blurred(noise_of(mark.signs(MARK_ID, SHAPE), rng), 0.14, rng)
    assert mark.detect(weak).verdict is MarkVerdict.NOT_DETECTED
    assert mark.confirm(weak, MARK_ID, 0).verdict is MarkVerdict.PRESENT
    assert mark.confirm(weak, "fedcba9876543210", 0).verdict is MarkVerdict.NOT_DETECTED


def test_other_keys_and_epochs(mark: LatentMark) -> None:
    rng = np.random.default_rng(3)
    noise = noise_of(mark.signs(MARK_ID, SHAPE), rng)
    later = LatentMark(Keyring(bytes(range(32)), current_epoch=2))
    reading = later.detect(noise)
    assert (reading.mark_id, reading.epoch, reading.tests) == (MARK_ID, 0, 3 * 64)
    assert LatentMark(Keyring(bytes(32))).detect(noise).verdict is MarkVerdict.NOT_DETECTED


def test_the_carried_part_alone_is_only_suspected(mark: LatentMark) -> None:
    """Someone who has collected a stream can imitate seven eighths of a latent, not the part that is fresh."""
    rng = np.random.default_rng(4)
    signs = mark.signs(MARK_ID, SHAPE).reshape(-1)
    stream = mark._stream(0, mark._stream_of(MARK_ID, 0), signs.size)
    signs[stream.fresh] = rng.choice([-1.0, 1.0], len(stream.fresh))
    reading = mark.detect(noise_of(signs.reshape(SHAPE), rng))
    assert reading.verdict is MarkVerdict.SUSPECTED
    assert reading.mark_id == ""


@pytest.mark.parametrize("tail", ["normal", "heavy", "smooth"])
def test_the_null_is_conservative_whatever_the_latent_is(tail: str) -> None:
    rng = np.random.default_rng(5)
    latent = rng.standard_normal(SHAPE)
    if tail == "heavy":
        latent = latent**5
    if tail == "smooth":
        latent = latent.cumsum(axis=1).cumsum(axis=2)
    statistics, scores = [], []
    for number in range(60):
        foreign = LatentMark(Keyring(number.to_bytes(32, "big")))
        scores.append(foreign.confirm(latent, MARK_ID, 0).z)
        soft = foreign._stream(0, 0, latent.size).soft_bits(latent.reshape(-1).astype(np.float32))
        statistics.append(float((soft**2).sum()))
    p_values = [np.exp(log_chi_square_survival(value, 288)) for value in statistics]
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 1e-3
    assert stats.kstest(scores, "norm").pvalue > 1e-3


@pytest.mark.parametrize("statistic", [1.0, 200.0, 288.0, 400.0, 900.0])
def test_chi_square_survival_is_scipys(statistic: float) -> None:
    assert log_chi_square_survival(statistic, 288) == pytest.approx(
        stats.chi2.logsf(statistic, 288), rel=1e-6, abs=1e-9
    )


def test_what_cannot_carry_a_mark_is_refused(mark: LatentMark) -> None:
    assert "too small" in mark.start((4, 8, 8)).reason
    with pytest.raises(WatermarkError):
        mark.signs(MARK_ID, (4, 8, 8))
    with pytest.raises(WatermarkError):
        mark.detect(np.full(SHAPE, np.nan))
