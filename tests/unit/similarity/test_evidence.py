from __future__ import annotations

import numpy as np

from guardrails.domain.images import Match, MatchState, Rights
from guardrails.similarity.evidence import side_by_side


def match(agreement: float | None, creator: str = "A. Artist") -> Match:
    rights = Rights(licence="CC-BY-4.0", licence_url="", creator=creator, source="p@1", reservation="opt-out")
    return Match(
        entry="set:1",
        title="work",
        rights=rights,
        state=MatchState.CONFIRMED,
        distances={"pdq256": 8, "phash64": 2},
        sha256="00",
        agreement=agreement,
    )


def test_both_pictures_stand_in_the_sheet(work_on):
    sheet = side_by_side(work_on(1), work_on(2), match(0.1))
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet[23:277, 13:267], work_on(1)[1:255, 1:255])
    assert np.array_equal(sheet[23:277, 281:535], work_on(2)[1:255, 1:255])


def test_tiles_are_green_where_the_pictures_agree_and_red_where_not(work_on):
    def frames(sheet, colour):
        return (sheet[:, 545:] == colour).all(axis=2).sum()

    same, other = (side_by_side(work_on(1), work_on(seed), match(1.0)) for seed in (1, 2))
    assert frames(same, (0, 150, 70)) > 0
    assert frames(same, (205, 40, 40)) == 0
    assert frames(other, (205, 40, 40)) > frames(other, (0, 150, 70))


def test_a_source_that_is_not_at_hand_leaves_a_grey_panel(work_on):
    sheet = side_by_side(work_on(1), None, match(None))
    assert sheet.shape[1] < side_by_side(work_on(1), work_on(1), match(None)).shape[1]
    assert (sheet[30:100, 290:530] == 225).all()


def test_the_caption_depends_on_the_creator(work_on):
    one, other = (side_by_side(work_on(1), None, match(None, creator)) for creator in ("A. Artist", "Z. Painter"))
    assert np.array_equal(one[:280], other[:280])
    assert not np.array_equal(one[280:], other[280:])


def test_wide_and_tiny_pictures_fit(work_on):
    assert side_by_side(np.zeros((2, 900, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), match(0.0)).shape[1] == 816
