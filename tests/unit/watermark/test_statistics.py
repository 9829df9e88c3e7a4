"""The p-value must be honest: never too small on pictures without a mark of this key."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from guardrails.domain.images import MarkVerdict
from guardrails.imaging import Pixels
from guardrails.watermark.carrier import BINS, Carrier, make_pool
from guardrails.watermark.frame import Plane, band_of, canonical, fold, luma, whiten
from guardrails.watermark.front import guess_pattern
from guardrails.watermark.geometry import (
    ALIGNED,
    ORIENTATIONS,
    SEARCHES,
    SHIFTED,
    coherence,
    log_survival,
    orient_tile,
)
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark
from guardrails.watermark.synchronisation import (
    Band,
    correlate_aligned,
    correlate_all_shifts,
    prepare,
    prepare_guessed,
    shift_back,
)

KEYS = [bytes([n]) * 32 for n in range(1, 9)]


def prepared(pixels: Pixels, front: Callable[[Plane], Plane], weigh: Callable[[Band], Band]) -> Band:
    return weigh(band_of(fold(front(canonical(luma(pixels))))))


def periodic(period: int) -> Pixels:
    """A grid: the host that most resembles a tile repeated over the picture."""
    picture = np.full((256, 256, 3), 200, np.uint8)
    picture[::period] = picture[:, ::period] = 40
    return picture


FRONTS = [(whiten, prepare), (guess_pattern, prepare_guessed)]


@pytest.fixture(scope="module", params=FRONTS, ids=["whitened", "learned"])
def unmarked(request: pytest.FixtureRequest, pictures: list[Pixels]) -> list[Band]:
    """Behind both fronts: neither may know anything about a key."""
    return [prepared(picture, *request.param) for picture in [*pictures, periodic(64), periodic(16)]]


@pytest.mark.parametrize("z", [-3.0, 0.0, 2.0, 7.9, 8.0, 8.1, 12.0, 37.0, 60.0])
def test_log_survival_agrees_with_scipy(z: float) -> None:
    assert log_survival(z) == pytest.approx(norm.logsf(z), rel=1e-6)


def test_a_p_value_beyond_the_range_of_erfc_is_not_zero_before_doubles_are() -> None:
    assert 0 < SHIFTED.p_value(37.0, 1) < 1e-290


def test_every_test_is_counted_and_the_shares_fit_the_budget() -> None:
    assert sum(search.share for search in SEARCHES) == 0.75
    assert ALIGNED.tests(epochs=1) == 8 * 64
    assert SHIFTED.tests(epochs=2) == 8 * 64 * 4096 * 2
    for search in SEARCHES:
        z = -norm.ppf(1e-6 * search.share / search.tests(1))
        assert search.p_value(z, 1) == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("shape", [(256, 341), (300, 256), (256, 256)])
@pytest.mark.parametrize(("turns", "mirror"), ORIENTATIONS)
def test_turning_the_folded_tile_is_folding_the_turned_picture(
    shape: tuple[int, int], turns: int, mirror: bool
) -> None:
    plane = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    turned = np.rot90(plane, turns)
    expected = fold(turned[:, ::-1] if mirror else turned)
    assert np.allclose(orient_tile(fold(plane), shape, turns, mirror), expected, atol=1e-4)


def test_tiles_agree_where_a_mark_is_and_nowhere_else(mark: PixelMark, pictures: list[Pixels]) -> None:
    """This decides which lattices are worth a look."""
    for picture in (pictures[0], pictures[3]):
        assert coherence(whiten(canonical(luma(picture)))) < 4
        assert coherence(whiten(canonical(luma(mark.embed(picture, "00000000000000aa").pixels)))) > 10


def test_a_peak_between_the_points_of_the_coarse_grid_is_found(keyring: Keyring) -> None:
    """Shifts of 2/3 of a coarse step are the worst case."""
    pool = keyring.keys(0).pool
    carrier = pool.carriers[5]
    band = np.random.default_rng(0).normal(size=(BINS, 2)).astype(np.float32).view(np.complex64)[:, 0]
    for shift in ((0, 0), (2, 2), (2, 7), (33, 62)):
        moved = shift_back(_with_pilot(band, carrier), (-shift[0], -shift[1]))
        found = correlate_all_shifts(moved, pool)
        assert (found.pilot, found.shift) == (5, shift)
        aligned = correlate_aligned(shift_back(moved, shift), pool)
        assert found.z == pytest.approx(aligned.z, rel=0.01)


def _with_pilot(band: Band, carrier: Carrier) -> Band:
    """The band with a pilot of z about 9 in it."""
    marked = band.copy()
    marked[carrier.pilot] += 0.65 * carrier.phasors
    return marked


def test_scores_of_unmarked_pictures_are_standard_over_the_draw_of_the_key(unmarked: list[Band]) -> None:
    scores = np.array(
        [
            correlate_aligned(band, make_pool((carrier,))).z
            for key in KEYS
            for carrier in Keyring(key).keys(0).pool.carriers
            for band in unmarked
        ]
    )
    assert abs(scores.mean()) < 4 / math.sqrt(len(scores))
    assert scores.std() == pytest.approx(1, abs=0.05)
    for z in (1.0, 2.0, 3.0):
        expected = norm.sf(z)
        tolerance = 4 * math.sqrt(expected / len(scores))
        assert np.mean(scores > z) < expected + tolerance


def test_p_values_over_all_shifts_are_conservative(unmarked: list[Band]) -> None:
    p_values = np.array(
        [
            4096 * math.exp(log_survival(correlate_all_shifts(band, make_pool((carrier,))).z))
            for key in KEYS[:4]
            for carrier in Keyring(key).keys(0).pool.carriers
            for band in unmarked
        ]
    )
    for level in (0.1, 0.01):
        assert np.mean(p_values < level) <= level + 3 * math.sqrt(level / len(p_values))


def test_pictures_without_a_mark_are_not_detected_in_any_mode(mark: PixelMark, pictures: list[Pixels]) -> None:
    for picture in [*pictures[1:4], periodic(64), np.full((200, 300, 3), 255, np.uint8)]:
        reading = mark.detect(picture, "deep")
        assert reading.verdict is MarkVerdict.NOT_DETECTED
        assert reading.p_value > 1e-3
        assert reading.mark_id == ""
        assert reading.z > 0
        assert reading.tests == sum(search.tests(1) for search in SEARCHES)
