from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, stats

from guardrails.domain.images import MarkVerdict
from guardrails.errors import WatermarkError
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import HANDLE_BITS, LatentMark, hadamard

SHAPE = (4, 32, 32)
LARGE_SHAPE = (4, 64, 64)
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
    one, other = (mark.signs(f"{i:016x}", SHAPE) for i in (1 << 60, 2 << 60))
    assert abs(float((one * other).mean())) < 5 / np.sqrt(one.size)
    assert np.array_equal(one, mark.signs(f"{1 << 60:016x}", SHAPE))


@pytest.mark.parametrize("correlation", [0.2, 0.6, 1.0])
def test_an_unknown_id_is_read_from_a_large_latent(mark: LatentMark, correlation: float) -> None:
    rng = np.random.default_rng(1)
    for number in range(10):
        mark_id = rng.bytes(8).hex()
        noise = noise_of(mark.signs(mark_id, LARGE_SHAPE), rng)
        reading = mark.detect(blurred(noise, correlation, rng))
        assert reading.verdict is MarkVerdict.PRESENT, number
        assert reading.mark_id == mark_id
        assert 0 < reading.p_value < 1e-6
        assert reading.tests == 2**HANDLE_BITS


@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_a_mark_is_found_in_a_small_latent(mark: LatentMark, correlation: float) -> None:
    rng = np.random.default_rng(1)
    for number in range(10):
        mark_id = rng.bytes(8).hex()
        reading = mark.detect(blurred(noise_of(mark.signs(mark_id, SHAPE), rng), correlation, rng))
        assert reading.verdict in (MarkVerdict.SUSPECTED, MarkVerdict.PRESENT), number
        assert reading.mark_id in ("", mark_id)
        assert 0 < reading.p_value < 1e-6


def test_a_known_id_is_confirmed_where_the_blind_search_is_deaf(mark: LatentMark) -> None:
    rng = np.random.default_rng(2)
    weak = blurred(noise_of(mark.signs(MARK_ID, SHAPE), rng), 0.12, rng)
    assert mark.detect(weak).verdict is MarkVerdict.NOT_DETECTED
    assert mark.confirm(weak, MARK_ID, 0).verdict is MarkVerdict.PRESENT
    assert mark.confirm(weak, "fedcba9876543210", 0).verdict is MarkVerdict.NOT_DETECTED


def test_other_keys_and_epochs(mark: LatentMark) -> None:
    rng = np.random.default_rng(3)
    noise = noise_of(mark.signs(MARK_ID, SHAPE), rng)
    later = LatentMark(Keyring(bytes(range(32)), current_epoch=2))
    reading = later.detect(noise)
    assert (reading.mark_id, reading.epoch, reading.tests) == (MARK_ID, 0, 3 << HANDLE_BITS)
    assert LatentMark(Keyring(bytes(32))).detect(noise).verdict is MarkVerdict.NOT_DETECTED


def test_what_was_collected_of_other_pictures_is_only_suspected(mark: LatentMark) -> None:
    """Someone who has seen every picture of a handle can imitate all but the check, which no other picture has."""
    rng = np.random.default_rng(4)
    signs = mark.signs(MARK_ID, SHAPE).reshape(-1)
    check = mark._layout(0, signs.size).check
    signs[check] = rng.choice([-1.0, 1.0], len(check))
    reading = mark.detect(noise_of(signs.reshape(SHAPE), rng))
    assert reading.verdict is MarkVerdict.SUSPECTED
    assert reading.mark_id == ""


def test_an_id_that_is_nearly_right_is_not_read(mark: LatentMark) -> None:
    """Where the code gives a neighbour of the id, the check says nothing of it."""
    rng = np.random.default_rng(6)
    signs = mark.signs(MARK_ID, SHAPE).reshape(-1)
    neighbour = mark.signs(MARK_ID[:-1] + "e", SHAPE).reshape(-1)
    rest = mark._layout(0, signs.size).rest
    signs[rest] = neighbour[rest]
    assert mark.detect(noise_of(signs.reshape(SHAPE), rng)).mark_id == ""


@pytest.mark.parametrize("shape", [(9, 16, 16), (12, 16, 16), (4, 64, 64), (4, 128, 128), (16, 128, 128)])
def test_a_handle_is_found_in_latents_of_every_size(mark: LatentMark, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(7)
    for mark_id in ("00000" + MARK_ID[5:], "fffff" + MARK_ID[5:], MARK_ID):
        flat = noise_of(mark.signs(mark_id, shape), rng).reshape(-1)
        _, epoch, handle = mark._strongest(flat, 0)
        assert (epoch, f"{handle:05x}") == (0, mark_id[:5])


def test_the_transform_is_scipys() -> None:
    values = np.random.default_rng(8).standard_normal((3, 64)).astype(np.float32)
    assert np.allclose(hadamard(values), values @ linalg.hadamard(64), atol=1e-4)


def test_pairs_of_elements_are_independent_over_the_words_of_a_pad(mark: LatentMark) -> None:
    """No two elements of a small latent are alike or opposite in more than half of the pictures."""
    layout = mark._layout(0, 3072)
    words = np.stack([layout.word(handle) for handle in range(2 << layout.column_bits)])[:, :200]
    assert np.array_equal(words.T @ words, len(words) * np.eye(200))


@pytest.mark.parametrize("tail", ["normal", "heavy", "smooth"])
def test_the_null_is_conservative_whatever_the_latent_is(tail: str) -> None:
    rng = np.random.default_rng(5)
    latent = rng.standard_normal(SHAPE)
    if tail == "heavy":
        latent = latent**5
    if tail == "smooth":
        latent = latent.cumsum(axis=1).cumsum(axis=2)
    strongest, scores = [], []
    for number in range(60):
        foreign = LatentMark(Keyring(number.to_bytes(32, "big")))
        scores.append(foreign.confirm(latent, MARK_ID, 0).z)
        strongest.append(foreign.detect(latent))
    assert stats.kstest(scores, "norm").pvalue > 1e-3
    assert all(reading.verdict is MarkVerdict.NOT_DETECTED for reading in strongest)
    # The maximum of 2**20 normal scores of either sign pair is 4.9 on the average, and hardly ever above 6.5.
    assert max(reading.z for reading in strongest) < 6.5
    assert min(reading.p_value for reading in strongest) > 1e-3


def test_what_cannot_carry_a_mark_is_refused(mark: LatentMark) -> None:
    assert "too small" in mark.start((4, 8, 8)).reason
    with pytest.raises(WatermarkError):
        mark.signs(MARK_ID, (4, 8, 8))
    with pytest.raises(WatermarkError):
        mark.detect(np.full(SHAPE, np.nan))
