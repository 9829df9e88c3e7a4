"""A mark is a whole brand; towns, dreams and shutters are not."""

from __future__ import annotations

import pytest

from guardrails.screens.brands import Word, find_brands
from guardrails.screens.concepts import shipped_pack

(STOCK,) = shipped_pack().of_kind("ocr")


def at(text: str, left: int = 0, top: int = 0, confidence: float = 1.0) -> Word:
    return Word(text=text, confidence=confidence, box=(left, top, left + 10 * len(text), top + 20))


def found(*words: Word) -> list[str]:
    return [match.brand for match in find_brands(words, STOCK.words, STOCK.negatives)]


@pytest.mark.parametrize(
    ("text", "brand"),
    [
        ("gettyimages", "getty images"),
        ("Getty Images", "getty images"),
        ("© Getty Images 2019", "getty images"),
        ("SHUTTERSTOCK", "shutterstock"),
        ("shutterst0ck", "shutterstock"),
        ("depositphotes", "depositphotos"),
        ("Adobe Stock", "adobe stock"),
        ("iStock", "istock"),
        ("123RF", "123rf"),
        ("image: alamy", "alamy"),
        ("gettyImages", "getty images"),
        ("GETTY  IMAGES", "getty images"),
        ("get tyimages", "getty images"),
        ("sciencephoto library", "science photo library"),
        ("can stock phot", "can stock photo"),
        ("mauritlus images", "mauritius images"),
        ("canstockphoto", "can stock photo"),
        ("AFP Photo", "afp photo"),
        ("afpphoto", "afp photo"),
        ("COLOURBOX", "colourbox"),
        ("storyblocks", "storyblocks"),
        ("osmagnumphotosmagnumphotosma", "magnum photos"),
        ("alamyalamyal", "alamy"),
        ("ENCEPHOTO LIBRASCIENCEPH", "science photo library"),
        ("UNLIMITEDSTOCKUNLIM", "stockunlimited"),
    ],
)
def test_whole_brands_are_found_also_misread(text: str, brand: str) -> None:
    assert brand in found(at(text))


@pytest.mark.parametrize(
    "text",
    [
        "Gettysburg", "Gettysburg Images of War", "J. Paul Getty Museum", "Getty", "Dreamtime stories", "The Alamo",
        "alamyx", "istocks and bonds", "shutter", "stock", "Adobe houses in stock", "Stockholm", "photos", "deposit",
        "123 RTF", "Free Parking", "images", "Adobe Stack", "adobe socks", "a lamy pen", "1 23 RF", "colour box",
        "Biostock feed", "Picture allowance", "Petty images", "Corbin images", "Can stack photo", "Age of stock",
        "Mauritius wages", "Mauritius imaqes", "Bridgetown images", "Stock photo", "Shutter lock", "Story clocks",
        "Robert Hardin", "Aged foto stock", "story blocks", "alamyala", "masterful", "storybooks",
    ],
)  # fmt: skip
def test_words_that_are_only_like_a_brand_are_not(text: str) -> None:
    assert found(at(text)) == []


def test_a_name_that_was_read_in_two_pieces_is_joined_only_along_its_line() -> None:
    assert found(at("getty", 0), at("images", 55)) == ["getty images"]
    assert found(at("getty", 0), at("images", 55, top=60)) == []
    assert found(at("getty", 0), at("images", 400)) == []


def test_pieces_of_a_tiled_name_count_together_and_not_alone() -> None:
    pieces = ("shutters", "tterstock", "utterstoc")
    assert found(*(at(piece, top=40 * row) for row, piece in enumerate(pieces[:2]))) == []
    (match,) = find_brands([at(piece, top=40 * row) for row, piece in enumerate(pieces)], STOCK.words, STOCK.negatives)
    assert (match.brand, match.votes) == ("shutterstock", 3)
    assert match.ratio < 0.8


def test_votes_count_places_and_the_surest_reading_leads() -> None:
    (match,) = find_brands(
        [at("alamy", top=0, confidence=0.7), at("alamy", top=50, confidence=0.99), at("alamo", top=90)],
        STOCK.words,
        STOCK.negatives,
    )
    assert (match.votes, match.ratio, match.box) == (2, 0.99, (0, 50, 50, 70))


@pytest.mark.parametrize("brand", STOCK.words)
def test_every_brand_is_found_as_it_is_written(brand: str) -> None:
    for text in (brand, brand.upper(), brand.title()):
        assert brand in found(at(text))
