"""A score is a rate: what safe pictures of the same kind reach, and nothing outside of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from guardrails.domain.calibration import clopper_pearson_upper, highest_score, references_needed
from guardrails.errors import GuardrailsError, ScreenUnavailable
from guardrails.resources import datasets_path
from guardrails.screens.building import to_references
from guardrails.screens.calibration import ceilings, certain, count, drifts, score_all
from guardrails.screens.clip_concepts import REFERENCES
from guardrails.screens.heads import HeadSet, Linear
from guardrails.screens.references import Calibrated, pack, pack_references, read_references, unpack, upper_bounds
from guardrails.testing.spaces import DIM, ENCODER, axis, cloud, unit


def linear(number: int) -> Linear:
    return Linear(concept=f"axis {number}", encoder=ENCODER, weight=axis(number), bias=0.0)


@pytest.fixture
def calibrated(references: Path) -> Calibrated:
    return Calibrated(HeadSet([linear(3), linear(4)]), read_references(references))


@pytest.mark.parametrize(("kind", "domain"), [(0, "photographs"), (1, "drawings")])
def test_safe_pictures_reach_a_threshold_as_often_as_it_says(calibrated: Calibrated, kind: int, domain: str) -> None:
    seen = cloud(axis(kind), 2000, 7)
    raw = calibrated.heads.raw(seen, ENCODER)
    scores = np.array([calibrated.scores(row[np.newaxis], domain) for row in raw])
    for rate in (0.05, 0.02, 0.01):
        assert np.mean(scores[:, 0] >= 1 - rate) <= rate
    # Twice a bound that lies a little above the true share.
    assert np.mean(scores[:, 0] >= 0.5) == pytest.approx(0.22, abs=0.06)


def test_scores_rise_with_the_raw_number_and_stay_below_one(calibrated: Calibrated) -> None:
    raw = np.array([[number / 10, 0.0] for number in range(-10, 11)], dtype=np.float32)
    scores = [float(calibrated.scores(row[np.newaxis], "photographs")[0]) for row in raw]
    assert scores == sorted(scores)
    # 1 - 2 * (1 - .05^(1/400)): that none of 400 reaches it leaves room for .75 %, twice that in one half of them.
    assert scores[-1] == pytest.approx(1 - 2 * (1 - 0.05 ** (1 / 400)))
    assert scores[0] == 0.0


@pytest.mark.parametrize("n", [5, 60, 973])
def test_upper_bounds_are_bounds(n: int) -> None:
    rates = upper_bounds(n)
    assert rates.shape == (n + 1,)
    assert (np.diff(rates) >= 0).all()
    assert rates[-1] == 1
    for hits in {0, 1, n // 50, n // 4}:
        exact = clopper_pearson_upper(hits, n)
        assert exact - 1e-9 <= rates[hits] <= min(1.0, 1.35 * exact)


def test_the_rate_holds_for_half_of_the_pictures_and_for_nearly_all_choices_of_references() -> None:
    random, broken = np.random.default_rng(1), 0
    for _ in range(200):
        threshold = np.sort(random.normal(size=700))[::-1]
        # The most extreme of the references' numbers whose stated rate is below 5 %.
        k = int(np.sum(2 * upper_bounds(700) <= 0.05)) - 1
        seen = random.normal(size=20_000)
        # The worse half of all pictures: everything above the median.
        worse_half = seen[seen > np.median(seen)]
        broken += np.mean(worse_half > threshold[k]) > 0.05
    assert broken <= 20


def test_a_bad_view_is_as_bad_among_many(calibrated: Calibrated) -> None:
    strange = np.array([[0.9, 0.0]], dtype=np.float32)
    plain = np.full((15, 2), -1.0, dtype=np.float32)
    alone = calibrated.scores(strange, "photographs")[0]
    for among in (np.concatenate([strange, plain]), np.concatenate([plain, strange])):
        assert calibrated.scores(among, "photographs")[0] == alone


@pytest.mark.parametrize("n", [30, 119, 199, 598, 973])
def test_no_score_exceeds_its_ceiling_and_the_highest_reaches_it(n: int) -> None:
    references = to_references(ENCODER, {"few": cloud(axis(0), n, 1)})
    few = Calibrated(HeadSet([linear(3)]), references)
    (score,) = few.scores(np.array([[9.0]], dtype=np.float32), "few")
    assert score == few.ceiling("few")
    assert score == pytest.approx(highest_score(n), abs=1e-9)


@pytest.mark.parametrize(("threshold", "n"), [(0.99, 598), (0.97, 199), (0.95, 119)])
def test_the_fewest_references_for_a_threshold(threshold: float, n: int) -> None:
    assert references_needed(threshold) == n
    assert highest_score(n - 1) < threshold <= highest_score(n)


def test_the_card_says_how_high_scores_go_with_the_shipped_references() -> None:
    shipped = read_references(datasets_path(*REFERENCES))
    card = json.loads(datasets_path("screens", "clip-concepts.json").read_text(encoding="utf-8"))
    assert card["references"] == {domain.name: len(domain.vectors) for domain in shipped.domains}
    assert card["ceilings"] == ceilings(card["references"])


def test_drift_is_found_long_before_a_bound_breaks_and_chance_is_not(references: Path) -> None:
    calibrated = Calibrated(HeadSet([linear(3), linear(4)]), read_references(references))
    false_alarms = sum(
        bool(certain(drifts(calibrated, [row[np.newaxis] for row in cloud(axis(0), 400, 100 + seed)], ENCODER)))
        for seed in range(40)
    )
    assert false_alarms <= 5
    shifted = cloud(axis(0), 400, 7)
    shifted[:60] = unit(shifted[:60] + 0.2 * axis(3))
    pictures = [row[np.newaxis] for row in shifted]
    assert {one.concept for one in certain(drifts(calibrated, pictures, ENCODER))} == {"axis 3"}
    scored = score_all(calibrated, pictures, ENCODER)
    assert not any(rate.broken for rate in count(scored, "photographs", (0.05, 0.03)))


def test_a_picture_belongs_to_its_own_kind_or_to_none(calibrated: Calibrated) -> None:
    for kind, name in ((0, "photographs"), (1, "drawings")):
        places = [calibrated.place(row[np.newaxis]) for row in cloud(axis(kind), 300, 9)]
        assert np.mean([place.domain == name for place in places]) > 0.96
        assert places[0].n == 400
    outside = [calibrated.place(row[np.newaxis]).domain for row in cloud(axis(8), 50, 10)]
    assert set(outside) == {""}


def test_packed_vectors_keep_their_direction() -> None:
    vectors = unit(np.random.default_rng(3).normal(size=(50, 512)))
    assert ((unpack(pack(vectors)) * vectors).sum(axis=1) > 0.9995).all()


def test_a_file_that_holds_no_references_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, photographs=np.zeros((3, DIM), dtype=np.int8))
    with pytest.raises(ScreenUnavailable, match="no reference pictures"):
        read_references(path)
    path.write_bytes(b"PK no archive")
    with pytest.raises(GuardrailsError):
        read_references(path)


def test_pictures_keep_their_names_and_the_nearest_are_named(tmp_path: Path) -> None:
    path, rows = tmp_path / "r.npz", cloud(axis(0), 5, 1)
    path.write_bytes(pack_references(ENCODER, {"named": rows, "plain": rows}, {"named": ["a", "b", "c", "d", "é"]}))
    named, plain = read_references(path).domains
    assert named.ids == ("a", "b", "c", "d", "é")
    assert plain.ids == ("plain 1", "plain 2", "plain 3", "plain 4", "plain 5")
    ((first, cosine), *others) = named.nearest(rows[4])
    assert (first, cosine) == ("é", pytest.approx(1, abs=1e-3))
    assert len(others) == 2
    assert plain.nearest(rows[4], count=1)[0][0] == "plain 5"


@pytest.mark.parametrize("ids", ['{"named": ["a"]}', '{"other": ["a"]}', "[1]", "no JSON", '{"named": 3}'])
def test_names_that_do_not_fit_the_vectors_are_refused(tmp_path: Path, ids: str) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, encoder=np.array(ENCODER), named=pack(cloud(axis(0), 3, 1)), ids=np.array(ids))
    with pytest.raises(ScreenUnavailable, match="name"):
        read_references(path)


def test_a_pickle_inside_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, encoder=np.array([object()], dtype=object))
    with pytest.raises(GuardrailsError, match="cannot be read as arrays"):
        read_references(path)
