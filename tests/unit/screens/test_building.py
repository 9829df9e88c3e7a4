"""What is trained, referred to and counted on does not overlap where it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.errors import DatasetUnavailable
from guardrails.imaging.decoding import DEFAULT_LIMITS
from guardrails.screens import building
from guardrails.screens.building import (
    cross_scored,
    is_safe_drawing,
    is_safe_photograph,
    show_rates,
    take_references,
)
from guardrails.screens.calibration import count, gaps, slices
from guardrails.screens.captioned import Captioned, Embedded, Remembered, cached, clipart, clipart_names, embed
from guardrails.screens.catalogue import read_catalogue
from guardrails.screens.heads import HeadSet, Linear
from guardrails.screens.references import read_references
from guardrails.testing.spaces import ENCODER, AxisEncoder, AxisWords, axis, cloud


def test_cross_scoring_never_compares_a_picture_with_itself() -> None:
    heads = HeadSet([Linear(concept="c", encoder=ENCODER, weight=axis(3), bias=0.0)])
    domains = {"photographs": cloud(axis(0), 400, 1), "drawings": cloud(axis(1), 200, 2)}
    scored = cross_scored(heads, domains, "photographs")
    assert len(scored.domains) == 400
    highest = int(np.argmax(domains["photographs"][:, 3]))
    # None of the other 360 reaches it; were it among them, one would.
    assert scored.scores[highest, 0] == pytest.approx(1 - 2 * (1 - 0.05 ** (1 / 360)))
    (rate, _) = count(scored, "photographs", (0.05, 0.01))
    # 5 % is stated for every half and with 95 % confidence: at most 3 of 360 references may reach such a number.
    assert 0 < rate.hits / rate.n < 0.03


def test_names_with_words_of_a_concept_are_not_safe() -> None:
    assert not is_safe_photograph("revolver")
    assert not is_safe_photograph("cleaver")
    assert is_safe_photograph("bikini")
    assert not is_safe_drawing(("water pistol", "gun"))
    assert is_safe_drawing(("red apple", "fruit"))


def test_names_of_clipart_come_from_title_tags_and_file() -> None:
    svg = "<dc:title>\n Flying Owl 02 </dc:title><rdf:li>hash</rdf:li><rdf:li>Night_Birds</rdf:li>"
    assert clipart_names(Path("animals/owl_aj_01.svg"), svg) == ("flying owl", "night birds", "owl")
    by_artist = "<dc:title>Clipart by Nicu Buculei - beaver</dc:title><rdf:li>HASH(0x8669854)</rdf:li>"
    assert clipart_names(Path("01.svg"), by_artist) == ("beaver",)
    assert clipart_names(Path("tools/old_saw.svg"), "<rdf:li>tool</rdf:li>") == ("old saw", "tool")
    assert clipart_names(Path("01.svg"), "") == ()


def test_references_are_written_with_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def embedded(kind: int, names: list[str], source: str) -> Embedded:
        pictures = tuple(
            Captioned(
                id=f"{source}:{name}",
                names=(name,),
                load=lambda row=row: np.full((8, 8, 3), row, dtype=np.uint8),
                source=source,
                licence="CC0-1.0",
            )
            for row, name in enumerate(names)
        )
        return Embedded(pictures=pictures, vectors=cloud(axis(kind), len(names), kind))

    monkeypatch.setattr(building, "datasets_path", lambda *parts: tmp_path.joinpath(*parts))
    photos = embedded(0, ["dog", "revolver", "cat"], "photos")
    domains, others = take_references(ENCODER, photos, embedded(1, ["apple", "sword", "tree"], "drawn"))
    read = read_references(tmp_path / "screens" / "references.npz").domains
    assert [domain.ids for domain in read] == [("photos:dog", "photos:cat"), ("drawn:apple", "drawn:tree")]
    assert [len(vectors) for vectors in domains.values()] == [2, 2]
    assert len(others) == 0
    for domain in read:
        assert (domain.vectors * domains[domain.name]).sum(axis=1).min() > 0.999
    rows = read_catalogue(tmp_path / "screens")
    assert [(row.domain, row.id, row.row, row.source, row.licence) for row in rows] == [
        ("photographs", "photos:dog", 0, "photos", "CC0-1.0"),
        ("photographs", "photos:cat", 1, "photos", "CC0-1.0"),
        ("drawings", "drawn:apple", 0, "drawn", "CC0-1.0"),
        ("drawings", "drawn:tree", 1, "drawn", "CC0-1.0"),
    ]
    assert [path.name for path in (tmp_path / "screens").glob("*.webp")] == ["references-drawings.webp"]


def test_drawings_that_are_never_decoded_are_left_out(tmp_path: Path) -> None:
    side = int(DEFAULT_LIMITS.max_pixels**0.5) + 1
    for name, size in (("apple", (32, 32)), ("poster", (side, side))):
        for suffix in ("svg", "png"):
            (tmp_path / suffix).mkdir(exist_ok=True)
        (tmp_path / "svg" / f"{name}.svg").write_text("<svg/>")
        Image.new("1", size).save(tmp_path / "png" / f"{name}.png")
    (drawing,) = clipart(tmp_path)
    assert (drawing.id, drawing.licence) == ("apple.svg", "public domain")
    assert drawing.load().shape == (224, 224, 3)


def test_the_table_names_the_worst_concept(capsys: pytest.CaptureFixture[str]) -> None:
    heads = HeadSet([Linear(concept="c", encoder=ENCODER, weight=axis(3), bias=0.0)])
    show_rates({"photographs": cross_scored(heads, {"photographs": cloud(axis(0), 400, 1)}, "photographs")})
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| safe pictures | n scored | at 1% | at 3% | at 5% | outside |"
    assert row.startswith("| photographs | ")
    assert row.count("; c)") == 3
    assert row.endswith(" of 400 |")


def test_embedding_goes_on_where_it_stopped(tmp_path: Path) -> None:
    shown: list[str] = []

    def picture(name: str) -> Captioned:
        def load() -> np.ndarray:
            shown.append(name)
            return np.zeros((8, 8, 3), dtype=np.uint8)

        return Captioned(id=name, names=(name,), load=load)

    pictures = [picture(str(number)) for number in range(70)]
    with pytest.raises(DatasetUnavailable):
        cached(pictures, tmp_path)
    embed(pictures, AxisEncoder(axis(1)), tmp_path)
    (tmp_path / "000064.npz").unlink()
    shown.clear()
    embed(pictures, AxisEncoder(axis(1)), tmp_path)
    assert shown == [str(number) for number in range(64, 70)]
    known, vectors = cached(pictures, tmp_path)
    assert len(known) == len(vectors) == 70


def test_texts_are_read_once(tmp_path: Path) -> None:
    class Counting(AxisWords):
        read = 0

        def embed(self, texts: list[str]) -> np.ndarray:
            self.read += len(texts)
            return super().embed(texts)

    reader = Counting()
    first = Remembered(reader, tmp_path / "texts.npz")
    first.embed(["gun", "drill", "gun"])
    first.save()
    again = Remembered(reader, tmp_path / "texts.npz")
    np.testing.assert_array_equal(again.embed(["drill"])[0], axis(3))
    assert reader.read == 2


def test_gaps_are_those_that_are_certain() -> None:
    heads = HeadSet([Linear(concept="c", encoder=ENCODER, weight=axis(3), bias=0.0)])
    scored = cross_scored(heads, {"p": cloud(axis(0), 300, 4)}, "p")
    same = slices(scored, ["a" if number % 2 else "b" for number in range(300)], rate=0.2)
    assert gaps(same)["c"] == 0
    by_score = np.argsort(scored.scores[:, 0])
    groups = np.full(300, "low", dtype=object)
    groups[by_score[-30:]] = "high"
    assert gaps(slices(scored, list(groups), rate=0.2))["c"] > 0.1
