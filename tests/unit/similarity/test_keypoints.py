"""Local features: codes, exact look-ups, placements, and what parts of works lead to."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from guardrails.domain.findings import Action, Component
from guardrails.domain.images import MatchState
from guardrails.imaging import Pixels
from guardrails.policy.model import SimilarityRule
from guardrails.similarity import store as stores
from guardrails.similarity.banks import Banks, BankSettings, Role
from guardrails.similarity.building import build_index, build_keypoints
from guardrails.similarity.entries import read_entries
from guardrails.similarity.evidence import side_by_side
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import KEYPOINT128, PDQ256
from guardrails.similarity.judge import judge
from guardrails.similarity.keypoint_index import FOLDER, REACH, KeypointIndex, Located, keypoint_entry
from guardrails.similarity.keypoints import Orientation, pack_places, picture_keypoints, unpack_places, work_keypoints
from guardrails.similarity.levels import ERROR_RATES_PLACED, Level
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.placing import MIN_AGREEING, Pairs, Placement, place
from guardrails.similarity.search import SimilarityIndex
from guardrails.similarity.segments import open_segment, scan_nearby, write_segment
from guardrails.similarity.store import Store
from guardrails.similarity.verification import compare_placed


def draw(seed: int, side: int = 320) -> Pixels:
    """Many shapes, no two works alike."""
    rng = np.random.default_rng(seed)
    pixels = np.full((side, side, 3), 255, np.uint8)
    for _ in range(60):
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        corners = rng.integers(0, side, 2) + rng.integers(-side // 6, side // 6, (int(rng.integers(3, 6)), 2))
        cv2.fillPoly(pixels, [corners.astype(np.int32)], colour)
    return cv2.GaussianBlur(pixels, (0, 0), 0.7)


def ground(seed: int, height: int = 480, width: int = 720) -> Pixels:
    """A busy scene without any of the works."""
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(rng.uniform(0, 60, (height // size, width // size, 3)).astype(np.float32), (width, height))
        for size in (4, 16, 60)
    )
    return np.clip(noise, 0, 255).astype(np.uint8)


def paste(work: Pixels, share: float, left: int, top: int) -> Pixels:
    picture = ground(7)
    side = round(share * picture.shape[1])
    picture[top : top + side, left : left + side] = cv2.resize(work, (side, side), interpolation=cv2.INTER_AREA)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protected bank of twelve works."""
    folder = tmp_path_factory.mktemp("bank") / "list"
    keypoints = KeypointIndex.create(folder)
    store = Store.create(folder, PDQ256, BankSettings.default("list", Role.PROTECTED, PDQ256).to_json())
    fingerprinter = Fingerprinter(PDQ256)
    works = {f"work {seed}": draw(seed) for seed in range(12)}
    entries = [
        NewEntry(name, fingerprinter.fingerprint(pixels, None).rows, {"licence": "CC0-1.0"})
        for name, pixels in works.items()
    ]
    keypoints.add(keypoint_entry(name, pixels) for name, pixels in works.items())
    store.add(entries)
    return folder


def ask(folder: Path, picture: Pixels) -> Banks:
    banks = Banks.open([folder])
    return banks.match(Fingerprinter(PDQ256).fingerprint(picture, None), picture)


def turn(pixels: Pixels, orientation: Orientation) -> Pixels:
    axes = [axis for axis, sign in ((1, orientation.x), (0, orientation.y)) if sign < 0]
    diagonal = pixels.swapaxes(0, 1) if orientation.transposed else pixels
    return np.ascontiguousarray(np.flip(diagonal, axes))


ORIENTATIONS = [Orientation(x, y, transposed) for x in (1, -1) for y in (1, -1) for transposed in (False, True)]


@pytest.mark.parametrize("orientation", ORIENTATIONS[1:], ids=lambda one: one.name)
def test_codes_of_a_flipped_or_turned_picture_are_known_without_it(orientation: Orientation) -> None:
    work = draw(3)
    upright, turned = work_keypoints(work), work_keypoints(turn(work, orientation))
    place = orientation.of(upright.places[:, :2]) + np.array([orientation.x < 0, orientation.y < 0])
    apart = np.linalg.norm(turned.places[:, None, :2] - place[None], axis=2)
    seen, known = np.nonzero(apart < 0.002)
    # The strongest points of a cell are not quite the same ones.
    assert len(seen) > 0.5 * len(upright)
    undone = np.bitwise_count(turned.undone(orientation)[seen] ^ upright.codes[known]).sum(axis=1)
    as_it_is = np.bitwise_count(turned.codes[seen] ^ upright.codes[known]).sum(axis=1)
    assert np.median(undone) <= 8
    assert np.median(as_it_is) > 30


@pytest.mark.parametrize(("quarters", "name"), [(0, "upright"), (1, "turned 270"), (2, "turned 180"), (3, "turned 90")])
def test_orientations_are_named_as_they_turn(quarters: int, name: str) -> None:
    pixels = draw(1, 40)
    (found,) = [one for one in ORIENTATIONS if np.array_equal(turn(pixels, one), np.rot90(pixels, quarters))]
    assert found.name == name


def test_places_survive_their_32_bits() -> None:
    places = work_keypoints(draw(1)).places
    restored = unpack_places(pack_places(places))
    assert np.abs(restored[:, :2] - places[:, :2]).max() <= 0.5 / 2047 + 1e-6
    assert np.abs(np.log2(restored[:, 2] / places[:, 2])).max() <= 1 / 64
    corners = np.array([[0, 0, 1e-9], [1, 1, 8]], np.float32)
    assert np.allclose(unpack_places(pack_places(corners))[:, :2], corners[:, :2])


def test_a_flat_picture_has_no_keypoints(folder: Path) -> None:
    flat = np.full((200, 300, 3), 120, np.uint8)
    assert len(picture_keypoints(flat)) == 0
    assert ask(folder, flat).parts == ()


@pytest.mark.parametrize("rows", [500, 60_000])
def test_look_ups_are_exact_in_both_words(tmp_path: Path, rows: int) -> None:
    rng = np.random.default_rng(rows)
    codes = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    # Many near by the first word, and some of them by the second one.
    codes[: rows // 2, :8] = codes[0, :8] ^ (1 << rng.integers(0, 8, (rows // 2, 8))).astype(np.uint8) * (
        rng.random((rows // 2, 8)) < 0.6
    )
    codes[: rows // 4, 8:] = codes[0, 8:]
    columns = {
        "codes": codes,
        "regions": rng.integers(0, 2**32, rows, dtype=np.uint32),
        "entry": np.zeros(rows, np.uint32),
    }
    segment = open_segment(write_segment(tmp_path, KEYPOINT128, columns, 1, {}, radius=REACH), {})
    assert bool(segment.plan.widths) == (rows > 50_000)
    for reach, radius in ((3, 12), (6, 22), (7, 70)):
        distances = np.bitwise_count(codes ^ codes[0])
        wanted = np.flatnonzero((distances.sum(axis=1) <= radius) & (distances[:, :8].sum(axis=1) <= reach))
        near = segment.nearby(codes[0], radius, [reach], rows)
        assert sorted(near.rows.tolist()) == wanted.tolist()
        assert near.total == len(wanted)
        scanned = scan_nearby(segment.words, codes[0], radius, [reach], rows)
        assert sorted(scanned.rows.tolist()) == wanted.tolist()
        # What is near too much is looked up less widely, or not at all.
        same = wanted[~distances[wanted, :8].any(axis=1)]
        narrow = scan_nearby(segment.words, codes[0], radius, [reach, 0], len(same))
        assert sorted(narrow.rows.tolist()) == (wanted if len(wanted) == len(same) else same).tolist()
        assert segment.nearby(codes[0], radius, [reach], 0).total == 0


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda one: one.name)
def test_a_placement_is_recovered_in_spite_of_false_pairs(orientation: Orientation) -> None:
    rng = np.random.default_rng(0)
    truth = Placement(orientation, 0.4, 0.7, 0.2)
    wanted = np.column_stack([rng.random((30, 2)), rng.uniform(0.01, 0.05, 30)])
    seen = np.column_stack([truth.of(wanted[:, :2]) + rng.normal(0, 0.001, (30, 2)), 0.4 * wanted[:, 2]])
    seen[20:, :2] = rng.random((10, 2))
    pairs = Pairs(seen, wanted, np.arange(30))
    placed = place(pairs, truth.orientation)
    assert placed is not None
    found, agreeing = placed
    assert (found.scale, found.across, found.down) == pytest.approx((0.4, 0.7, 0.2), abs=0.01)
    assert 15 <= len(agreeing) <= 21
    assert Placement.from_json(found.to_json()) == found
    there_and_back = np.vstack([found.matrix, [0, 0, 1]]) @ np.vstack([found.inverse, [0, 0, 1]])
    assert np.allclose(there_and_back, np.eye(3))
    few = place(pairs[np.arange(MIN_AGREEING - 1)], truth.orientation)
    assert few is None


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7])
def test_a_crop_leads_to_its_work_and_agrees_with_it(folder: Path, kept: float) -> None:
    work = draw(5)
    side = round(len(work) * kept**0.5)
    crop = np.ascontiguousarray(work[20 : 20 + side, 10 : 10 + side])
    best = ask(folder, crop).parts[0]
    assert best.located.id == "work 5"
    left, top, right, bottom = best.located.box
    assert (left, top) == pytest.approx((-10 / side, -20 / side), abs=0.02)
    assert (right, bottom) == pytest.approx(((320 - 10) / side, (320 - 20) / side), abs=0.02)
    agreement = compare_placed(crop, work, best.located.placement)
    assert agreement.level >= Level.CONFIRMED
    assert agreement.shown == pytest.approx(kept, abs=0.03)


@pytest.mark.parametrize("share", [0.25, 0.4, 0.6])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pasted_work_is_found_where_it_is(folder: Path, share: float, mirrored: bool) -> None:
    work = draw(8)
    picture = paste(work[:, ::-1] if mirrored else work, share, 100, 30)
    picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR)
    best = ask(folder, picture).parts[0]
    side = round(share * 720)
    assert best.located.id == "work 8"
    assert best.located.placement.orientation == Orientation(-1 if mirrored else 1, 1)
    assert best.located.box == pytest.approx((100 / 720, 30 / 480, (100 + side) / 720, (30 + side) / 480), abs=0.02)
    assert compare_placed(picture, work, best.located.placement).level >= Level.CONFIRMED


@pytest.mark.parametrize("name", ["turned 90", "turned 180", "turned 270"])
def test_a_turned_part_is_found_where_it_is(folder: Path, name: str) -> None:
    work = draw(8)[:, :240]
    (orientation,) = [one for one in ORIENTATIONS if one.name == name]
    turned = turn(work, orientation)
    picture = ground(7)
    picture[80 : 80 + len(turned), 150 : 150 + turned.shape[1]] = turned
    best = ask(folder, picture).parts[0]
    assert (best.located.id, best.located.placement.orientation) == ("work 8", orientation)
    agreement = compare_placed(picture, draw(8), best.located.placement)
    assert agreement.level >= Level.CONFIRMED
    assert name in agreement.hypothesis
    # The work's own right quarter is not there, whichever way it lies.
    left, top, right, bottom = best.located.box
    width, height = 320 / 720, 320 / 480
    assert (right - left, bottom - top) == pytest.approx((width, height), abs=0.02)


def test_what_is_seen_of_a_work_is_known_for_records(folder: Path) -> None:
    located = ask(folder, np.ascontiguousarray(draw(5)[40:200, 80:320])).parts[0].located
    assert located.shown == pytest.approx((80 / 320, 40 / 320, 1, 200 / 320), abs=0.02)
    assert Located.of("work 5", located.summary) == located
    assert Located.of("work 5", {}) is None


def rings(width: int) -> Pixels:
    pixels = np.full((400, 400, 3), 255, np.uint8)
    for radius in (90, 170):
        cv2.circle(pixels, (200, 200), radius, (40, 40, 40), width, cv2.LINE_AA)
    return pixels


def test_thin_rings_that_lie_on_each_other_are_no_finding() -> None:
    placement = Placement(Orientation(1, 1), 1.0, 0.0, 0.0)
    agreement = compare_placed(rings(3), rings(4), placement)
    assert agreement.counts.agreeing >= 30
    assert agreement.counts.firm_agreeing == 0
    assert agreement.level < Level.CONFIRMED


def test_other_works_and_scenes_are_not_confirmed(folder: Path) -> None:
    for picture in [draw(seed) for seed in range(20, 30)] + [ground(seed) for seed in range(3)]:
        for part in ask(folder, picture).parts:
            other = draw(int(part.located.id.removeprefix("work ")))
            assert compare_placed(picture, other, part.located.placement).level < Level.CONFIRMED


def test_a_small_corner_is_never_more_than_a_reason_to_look() -> None:
    work = draw(5)
    corner = np.ascontiguousarray(work[:100, :100])
    placement = Placement(Orientation(1, 1), 3.2, 0.0, 0.0)
    agreement = compare_placed(corner, work, placement)
    assert agreement.shown == pytest.approx(0.1, abs=0.01)
    assert agreement.counts.level > Level.LOOSE
    assert agreement.level == Level.LOOSE


def test_additions_and_states_are_seen_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "list"
    keypoints = KeypointIndex.create(folder)
    store = Store.create(folder, PDQ256, BankSettings.default("list", Role.PROTECTED, PDQ256).to_json())
    banks = Banks.open([folder])
    picture = paste(draw(1), 0.5, 60, 40)
    fingerprint = Fingerprinter(PDQ256).fingerprint(picture, None)
    assert banks.match(fingerprint, picture).parts == ()

    # What a writer that died between the two leaves behind is not answered, and no obstacle to adding the work.
    keypoints.add([keypoint_entry("a", draw(1))])
    assert banks.match(fingerprint, picture).parts == ()
    keypoints.add([keypoint_entry("a", draw(1))])
    store.add([NewEntry("a", [], {"creator": "someone"})])
    (part,) = banks.match(fingerprint, picture).parts
    assert (part.bank, part.role, part.located.id, dict(part.facts)) == (
        "list",
        Role.PROTECTED,
        "a",
        {"creator": "someone"},
    )
    before = part.located
    keypoints.store.merge(everything=True)
    assert banks.match(fingerprint, picture).parts[0].located == before
    store.set_state("a", State.DISABLED)
    assert banks.match(fingerprint, picture).parts == ()
    assert banks.match(fingerprint).parts == ()


def test_of_processes_that_add_a_work_at_once_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, others = KeypointIndex.create(tmp_path), KeypointIndex.of(tmp_path)
    assert others is not None
    work, write = keypoint_entry("a", draw(1)), stores._writing
    before = iter([others])

    def added_before_the_lock(folder: Path) -> Any:
        for other in before:
            assert other.add([work]) == 1
        return write(folder)

    monkeypatch.setattr(stores, "_writing", added_before_the_lock)
    assert mine.add([work]) == 0


class Shelf:
    def picture(self, entry_id: str) -> Pixels | None:
        return draw(int(entry_id))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    columns = ["id", "name", "licence", "licence_url", "creator", "package", "sha256", "rights"]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([n, f"work {n}", "CC0-1.0", "", f"artist {n}", "pkg@1", f"{n:064x}", ""] for n in range(8))
    entries = read_entries(folder / "manifest.csv")
    build_index((draw(n) for n in range(8)), entries, folder / "index")
    build_keypoints((draw(n) for n in range(8)), entries, folder)
    # A second build finds everything there.
    build_keypoints((draw(n) for n in range(8)), entries, folder)
    assert len(KeypointIndex.of(folder).store) == 8  # type: ignore[union-attr]
    return folder


def test_the_guards_index_finds_a_pasted_work_and_pixels_confirm_it(collection: Path) -> None:
    picture = paste(draw(6), 0.45, 300, 60)
    found = SimilarityIndex.open(collection / "index", Shelf()).find(picture)
    best = found.matches[0]
    assert (best.entry, best.distances) == ("6", {})
    assert best.state is MatchState.STRICT
    assert best.evidence["found_at"] == pytest.approx(
        [300 / 720, 60 / 480, (300 + 324) / 720, (60 + 324) / 480], abs=0.02
    )
    rule = SimilarityRule(
        id="SIM-1",
        category="rights",
        action=Action.BLOCK,
        message="This repeats a work.",
        state="confirmed",
        reservation="any",
        when_unavailable=Action.REVIEW,
    )
    check = found.check(Component(name="similarity", version="1"), 1.0)
    (finding,) = judge(check, found.matches, [rule])
    assert (finding.action, finding.error_rate) == (Action.BLOCK, ERROR_RATES_PLACED[best.state])
    sheet = side_by_side(picture, draw(6), best)
    framed = (sheet == (230, 0, 120)).all(axis=2)
    assert framed[:290, 12:268].any()
    assert not framed[:, 290:].any()


def test_without_pictures_keypoints_give_no_more_than_a_candidate(collection: Path) -> None:
    found = SimilarityIndex.open(collection / "index").find(paste(draw(6), 0.45, 300, 60))
    assert {match.state for match in found.matches if match.entry == "6"} == {MatchState.CANDIDATE}
    assert found.matches[0].evidence["keypoints"] >= MIN_AGREEING


def test_a_whole_copy_is_judged_as_before(collection: Path) -> None:
    best = SimilarityIndex.open(collection / "index", Shelf()).find(draw(2)).matches[0]
    assert (best.entry, best.state, best.distances[PDQ256]) == ("2", MatchState.STRICT, 0)


def test_a_damaged_tier_is_an_error_that_names_it(folder: Path, tmp_path: Path) -> None:
    from guardrails.errors import IndexFormatError

    KeypointIndex.create(tmp_path)
    (tmp_path / FOLDER / "CURRENT").write_text("{}")
    with pytest.raises(IndexFormatError, match=FOLDER):
        KeypointIndex.of(tmp_path)
