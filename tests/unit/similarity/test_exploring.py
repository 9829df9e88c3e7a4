"""Neighbours of a picture over an index of works and banks, told for people."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.images import MatchState, Rights
from guardrails.errors import OptionError
from guardrails.similarity.banks import Banks, BankSettings, Role
from guardrails.similarity.evidence import side_by_side
from guardrails.similarity.exploring import Explorer
from guardrails.similarity.levels import ERROR_RATES, ERROR_RATES_PLACED, PLACED_PAIR_RATE
from guardrails.similarity.radii import CANDIDATE_PAIR_RATE
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import draw_shapes, draw_textures
from guardrails.testing.works import COUNT, drawn


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("home"))


@pytest.fixture
def posters(tmp_path):
    """A bank of two works whose pictures lie in a folder, and a file beside that folder that is none of them."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    named = {"50.png": draw_shapes(50), "51.png": draw_shapes(51), "../outside.png": draw_shapes(52)}
    store = bank_of(tmp_path / "posters", Role.PROTECTED, named, {"licence": "CC-BY-4.0", "author": "Ada"})
    for name, pixels in named.items():
        Image.fromarray(pixels).save(pictures / name)
    settings = BankSettings.from_json(store.settings).to_json() | {"pictures": str(pictures)}
    store.configure(settings)
    return store


def test_works_and_banks_answer_together_surest_first(works, posters):
    explorer = Explorer(works, Banks([posters]))
    answer = explorer.look(np.ascontiguousarray(draw_shapes(50)[::-1]))
    (found,) = answer.neighbours
    assert (found.index, found.id, found.level, found.grade) == ("posters", "50.png", MatchState.STRICT, 5)
    assert found.agreement is not None
    assert "0 of 5,100" in found.error_rate
    assert found.rights == Rights(licence="CC-BY-4.0", licence_url="", creator="Ada", source="")
    of_works, of_posters = answer.searched
    assert (of_works.entries, of_works.expected_false) == (COUNT, COUNT * CANDIDATE_PAIR_RATE)
    assert (of_posters.entries, of_posters.expected_false) == (3, 3 * 3.8e-6)
    assert answer.level is MatchState.STRICT


def test_a_bank_s_entry_leads_to_no_file_outside_its_folder(works, posters):
    (found,) = Explorer(works, Banks([posters])).look(draw_shapes(52)).neighbours
    assert (found.id, found.level, found.agreement) == ("../outside.png", MatchState.CANDIDATE, None)


@pytest.fixture
def brand(tmp_path):
    """A bank that keeps keypoints; its works' pictures lie in a folder that it does not know."""
    pictures = tmp_path / "brand pictures"
    pictures.mkdir()
    works = {"60.png": draw_textures(60), "61.png": draw_textures(61)}
    for name, pixels in works.items():
        Image.fromarray(pixels).save(pictures / name)
    return bank_of(tmp_path / "brand", Role.PROTECTED, works, {"author": "Ada"}, keypoints=True), pictures


def scene_with(work):
    scene = np.full((400, 640, 3), (200, 220, 240), np.uint8)
    scene[260:] = (90, 140, 80)
    scene[60 : 60 + len(work), 100 : 100 + work.shape[1]] = work
    return scene


def test_a_part_is_found_framed_and_compared(works, brand):
    store, pictures = brand
    store.configure(store.settings | {"pictures": str(pictures)})
    picture = scene_with(np.ascontiguousarray(np.rot90(draw_textures(61)[:, 64:])))
    explored = Explorer(works, Banks([store])).look(picture)
    found = explored.neighbours[0]
    assert (found.index, found.id, found.distance, found.level.confirms) == ("brand", "61.png", None, True)
    assert found.part.placement.orientation.name == "turned 270"
    assert found.part.box == pytest.approx((100 / 640, 60 / 400, 356 / 640, 316 / 400), abs=0.02)
    assert np.array_equal(found.work, draw_textures(61))
    assert found.agreement.placement == found.part.placement
    assert found.error_rate == ERROR_RATES_PLACED[found.level]
    of_bank, of_parts = (one for one in explored.searched if one.index == "brand")
    assert "keypoints" not in of_bank.threshold
    assert "keypoints" in of_parts.threshold
    assert of_parts.expected_false == 2 * PLACED_PAIR_RATE


def test_a_part_without_pictures_is_a_candidate(works, brand):
    explored = Explorer(works, Banks([brand[0]])).look(scene_with(draw_textures(60)))
    found = explored.neighbours[0]
    assert (found.id, found.level, found.grade, found.agreement, found.work) == (
        "60.png",
        MatchState.CANDIDATE,
        1,
        None,
        None,
    )
    assert found.error_rate == ERROR_RATES_PLACED[MatchState.CANDIDATE]
    assert not explored.unhashable


def test_a_whole_copy_that_keypoints_find_as_well_is_one_neighbour(works, brand):
    store, pictures = brand
    store.configure(store.settings | {"pictures": str(pictures)})
    (found,) = Explorer(works, Banks([store])).look(draw_textures(60)).neighbours
    assert (found.id, found.distance, found.level) == ("60.png", 0, MatchState.STRICT)
    assert found.part is not None
    assert found.error_rate == ERROR_RATES[MatchState.STRICT]


def test_none_found_and_nothing_to_be_found_are_different(works):
    none = Explorer(works).look(draw_shapes(900))
    assert (none.neighbours, none.unhashable, none.level) == ((), False, None)
    assert Explorer(works).look(np.full((99, 99, 3), 255, np.uint8)).unhashable


def test_thumbnails_of_works_and_banks(works, posters):
    explorer = Explorer(works, Banks([posters]))
    for index, entry in (("works", "shapes:3"), ("posters", "51.png")):
        data = explorer.thumbnail(index, entry)
        assert data is not None
        assert Image.open(io.BytesIO(data)).format == "WEBP"
    for index, entry in (("works", "nothing"), ("posters", "nothing"), ("nothing", "51.png")):
        assert explorer.thumbnail(index, entry) is None


@pytest.mark.parametrize(("name", "role"), [("list", Role.SENSITIVE), ("works", Role.WORKS)])
def test_lists_that_nobody_may_see_are_not_explored(works, tmp_path, name, role):
    store = bank_of(tmp_path / name, role, {"a": draw_shapes(1)})
    with pytest.raises(OptionError, match="cannot be explored"):
        Explorer(works, Banks([store]))


def test_evidence_shows_the_thumbnail_where_the_work_is_not_at_hand(works):
    (match,) = works.find(draw_shapes(3)).matches
    absent, shown = (side_by_side(draw_shapes(3), None, match, one) for one in (None, works.thumbnail("shapes:3")))
    assert absent.shape == shown.shape
    # The panel of the work, right of the picture's own.
    left = slice(12 + 256 + 12, 12 + 256 + 12 + 256)
    panel = shown[22 : 22 + 256, left].astype(float)
    assert np.abs(panel - draw_shapes(3)).mean() < 15
    assert np.abs(absent[22 : 22 + 256, left].astype(float) - draw_shapes(3)).mean() > 30
