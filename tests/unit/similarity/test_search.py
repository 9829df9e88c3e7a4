from __future__ import annotations

import numpy as np
import pytest

from guardrails.domain.findings import CheckStatus
from guardrails.domain.images import OTHER_COLOURS, SAME_FAMILY, UNVERIFIABLE, MatchState
from guardrails.similarity.hashes import ORIENTATIONS, oriented
from guardrails.similarity.search import SimilarityIndex


class Shelf:
    """All reference pictures at hand."""

    def __init__(self, works):
        self.works = works

    def picture(self, entry_id):
        return self.works[int(entry_id.removeprefix("set:"))]


class EmptyShelf:
    def picture(self, entry_id):
        return None


@pytest.fixture(scope="module")
def index(built):
    return SimilarityIndex.open(built / "index")


def test_every_work_finds_itself_with_its_rights(index, works):
    for number, work in enumerate(works):
        result = index.find(work)
        best = result.matches[0]
        assert (best.entry, best.state) == (f"set:{number}", MatchState.CONFIRMED)
        assert best.distances == {"pdq256": 0, "phash64": 0}
        assert best.agreement is None
        assert best.rights.licence == "CC-BY-4.0"
        assert best.rights.reservation == ("opt-out" if number == 3 else "")


def test_imprecise_reproductions_are_confirmed_and_no_other_work_is(index, works, copy_of):
    confirmed = []
    for number, work in enumerate(works):
        matches = index.find(copy_of(work, number)).matches
        confirmed += [(number, match.entry) for match in matches if match.state is MatchState.CONFIRMED]
    assert all(entry == f"set:{number}" for number, entry in confirmed)
    assert len(confirmed) >= 0.8 * len(works)


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_flips_and_quarter_turns_are_confirmed(index, works, orientation):
    for number in range(6):
        best = index.find(oriented(works[number], orientation)).matches[0]
        assert (best.entry, best.state) == (f"set:{number}", MatchState.CONFIRMED)


def test_works_outside_the_index_are_not_confirmed(index, work_on):
    for seed in range(1000, 1030):
        result = index.find(work_on(seed))
        assert not result.unhashable
        assert all(match.state is MatchState.CANDIDATE for match in result.matches)


@pytest.mark.parametrize("picture", [np.full((256, 256, 3), 255), np.full((40, 90, 3), 7), np.zeros((1, 1, 3))])
def test_a_blank_picture_is_unhashable_which_is_not_the_same_as_no_match(index, picture):
    result = index.find(picture.astype(np.uint8))
    assert result.unhashable
    assert result.matches == ()
    check = result.check(index.component, 1.0)
    assert check.status is CheckStatus.UNAVAILABLE
    assert "unhashable" in check.reason


def test_the_check_counts_matches_by_state(index, works):
    result = index.find(works[0])
    check = result.check(index.component, 2.5)
    assert check.status is CheckStatus.RAN
    assert check.scores["confirmed"] == 1
    assert (result.searched, len(index), check.milliseconds) == (24, 24, 2.5)


def test_pixels_decide_where_they_are_at_hand(built, works):
    right = SimilarityIndex.open(built / "index", Shelf(works)).find(works[5]).matches[0]
    assert (right.state, right.agreement, right.grade) == (MatchState.STRICT, 1.0, 5)
    # The hashes agree, but the picture behind the entry is another one.
    wrong = SimilarityIndex.open(built / "index", Shelf(works[::-1])).find(works[5]).matches[0]
    assert wrong.entry == "set:5"
    assert wrong.state is MatchState.CANDIDATE
    assert wrong.agreement < 0.5


def test_a_source_without_the_picture_leaves_the_hashes_to_decide(built, works):
    match = SimilarityIndex.open(built / "index", EmptyShelf()).find(works[5]).matches[0]
    assert (match.state, match.agreement, match.grade) == (MatchState.CONFIRMED, None, 4)


def test_hashes_do_not_confirm_what_two_creators_drew_alike(tmp_path, built, works):
    from guardrails.similarity.building import build_index
    from guardrails.similarity.entries import read_entries

    # Works 4 and 5 are by different artists; here both drew the same.
    twins = [*works[:5], works[4], *works[6:]]
    build_index(twins, read_entries(built / "manifest.csv"), tmp_path / "index")
    matches = SimilarityIndex.open(tmp_path / "index", entries=built / "manifest.csv").find(works[4]).matches
    assert {match.entry: match.state for match in matches[:2]} == {
        "set:4": MatchState.CANDIDATE,
        "set:5": MatchState.CANDIDATE,
    }


def test_another_colour_of_the_same_drawing_is_no_confirmed_copy(index, works):
    recoloured = np.ascontiguousarray(works[6][..., ::-1])
    match = next(match for match in index.find(recoloured).matches if match.entry == "set:6")
    assert match.state is MatchState.CANDIDATE


def test_the_component_names_the_very_index(index, built):
    import hashlib

    manifest = (built / "index" / "manifest.json").read_bytes()
    assert index.component.digest == hashlib.sha256(manifest).hexdigest()


def indexed(folder, pictures, rows):
    """An index of these pictures under these titles and creators, with all pictures at hand."""
    import csv

    from guardrails.similarity.building import build_index
    from guardrails.similarity.entries import read_entries

    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", "licence", "licence_url", "creator", "package", "sha256", "rights"])
        writer.writerows(
            [f"set:{n}", title, "MIT", "", who, "p@1", f"{n:064x}", ""] for n, (title, who) in enumerate(rows)
        )
    build_index(pictures, read_entries(folder / "manifest.csv"), folder / "index")
    return SimilarityIndex.open(folder / "index", Shelf(pictures))


def test_variants_of_one_work_are_said_to_be_a_family(tmp_path, works):
    variant = works[4].copy()
    variant[90:120, 90:120] = (20, 20, 20)
    rows = [("waving hand", "A"), ("waving hand: dark skin tone", "A"), ("other thing", "A")]
    matches = indexed(tmp_path, [works[4], variant, works[5]], rows).find(works[4]).matches
    assert [match.entry for match in matches[:2]] == ["set:0", "set:1"]
    assert [match.remark for match in matches[:2]] == [SAME_FAMILY, SAME_FAMILY]
    assert matches[0].state.confirms


def test_twins_of_two_creators_are_left_to_a_reviewer(tmp_path, works):
    matches = indexed(tmp_path, [works[4], works[4]], [("boat", "A"), ("boat", "B")]).find(works[4]).matches
    assert {match.state for match in matches} == {MatchState.REVIEW}


def test_a_recoloured_copy_is_left_to_a_reviewer_and_named(tmp_path, works):
    index = indexed(tmp_path, [works[6]], [("boat", "A")])
    (match,) = index.find(np.ascontiguousarray(works[6][..., ::-1])).matches
    assert (match.state, match.remark, match.grade) == (MatchState.REVIEW, OTHER_COLOURS, 3)


def test_a_shape_too_plain_to_prove_anything_is_unverifiable(tmp_path):
    shape = np.full((256, 256, 3), 255, np.uint8)
    shape[60:200, 60:130] = shape[130:200, 60:200] = (30, 60, 200)
    index = indexed(tmp_path, [shape], [("corner", "A")])
    (match,) = index.find(shape).matches
    assert (match.state, match.remark) == (MatchState.CANDIDATE, UNVERIFIABLE)
    assert match.evidence["textured_tiles"] > 0
