"""Checking a training set: licences, gaps, repeats, objections, hash lists; its card; removals."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.audit.collection import open_collection
from guardrails.audit.dataset_card import NOT_STATED, Provider, as_markdown, dataset_card
from guardrails.audit.dataset_check import check_dataset, read_hash_list
from guardrails.audit.optout_signals import read_ai_txt
from guardrails.audit.removal import REMOVED, remove_works
from guardrails.domain.canonical import canonical_json, to_plain
from guardrails.errors import InputError
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.provenance import TrustStore, Verifier
from guardrails.similarity.hashes import pdq256
from guardrails.testing.doubles import draw_shapes

NOW = "2026-01-01T00:00:00Z"
MINING = b"<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED</plus:DataMining>"
COLUMNS = ("id", "name", "licence", "creator", "package", "rights", "file", "repeats")
ROWS = [
    ("a", "boat", "MIT", "Ada", "set@1", "", "a.png", ""),
    ("b", "boat again", "MIT", "Ada", "set@1", "", "b.png", "4"),
    ("c", "boat, saved", "CC-BY-SA-4.0", "Bo", "https://e.org/c.jpg", "", "c.jpg", ""),
    ("d", "house", "", "", "", "", "d.png", ""),
    ("e", "tree", "CC-BY-NC-4.0", "Bo", "https://e.org/e.png", "opt-out", "e.png", ""),
    ("f", "blank", "CC0-1.0", "Bo", "https://f.org/f.png", "", "f.png", ""),
    ("g", "lost", "CC0-1.0", "Bo", "x", "", "none.png", ""),
    ("h", "only a row", "Custom", "Bo", "x", "", "", ""),
    ("i", "mined", "CC0-1.0", "Bo", "x", "", "i.png", ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "works"
    work.mkdir()
    for name, pixels, xmp in (
        ("a.png", draw_shapes(1), None),
        ("b.png", draw_shapes(1), None),
        ("c.jpg", draw_shapes(1), None),
        ("d.png", draw_shapes(2), None),
        ("e.png", draw_shapes(3), None),
        ("f.png", np.full((64, 64, 3), 255, np.uint8), None),
        ("i.png", draw_shapes(4), MINING),
    ):
        (work / name).write_bytes(encode(pixels, ImageFormat.parse(name), xmp=xmp))
    with (work / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    return work


@pytest.fixture
def verifier(home: Path) -> Verifier:
    return Verifier(TrustStore.dev(home / "keys"))


@pytest.fixture
def report(folder: Path, verifier: Verifier):
    return check_dataset(open_collection(folder), verifier, now=NOW)


def test_licences_and_terms_are_counted(report):
    assert (report.works, report.rows) == (9, 12)
    assert report.licences == {"CC0-1.0": 3, "MIT": 2, "CC-BY-SA-4.0": 1, "unknown": 1, "CC-BY-NC-4.0": 1, "Custom": 1}
    assert report.terms == {
        "public-domain": 3,
        "permissive": 2,
        "unknown": 2,
        "share-alike": 1,
        "restricted": 1,
    }
    assert report.missing == {"licence": ("d",), "creator": ("d",), "source": ("d",)}


def test_repeats_are_grouped_across_containers_and_counted(report):
    (group,) = report.groups
    assert (group.works, group.repeats, group.exact) == (("a", "b", "c"), 6, False)


def test_equal_pixels_alone_are_exact(folder, verifier):
    (folder / "c.jpg").unlink()
    (group,) = check_dataset(open_collection(folder), verifier, now=NOW).groups
    assert (group.works, group.repeats, group.exact) == (("a", "b"), 5, True)


def test_a_row_that_states_its_repeats_is_a_group_of_its_own(tmp_path, verifier):
    (tmp_path / "manifest.csv").write_text("id,name,repeats\na,boat,7\nb,car,1\n")
    (group,) = check_dataset(open_collection(tmp_path), verifier, now=NOW).groups
    assert (group.works, group.repeats) == (("a",), 7)


def test_objections_come_from_the_table_and_from_files(report):
    assert report.opted_out == ("e", "i")
    assert [signal.raw for signal in report.signals["i"]] == ["DMI-PROHIBITED"]


def test_what_was_not_compared_is_said(report):
    assert report.unhashable == ("f",)
    assert report.absent == 1
    assert list(report.unreadable) == ["g"]
    assert report.hashed == 6


def test_site_files_hold_for_every_work_of_the_site(folder, verifier, tmp_path):
    (tmp_path / "ai.txt").write_text("User-Agent: *\nDisallow: *.jpg\n")
    sites = [read_ai_txt(tmp_path / "ai.txt", NOW)]
    assert check_dataset(open_collection(folder), verifier, now=NOW, sites=sites).opted_out == ("c", "e", "i")


def test_hash_list_hits_are_named_with_their_distance(folder, verifier, tmp_path):
    code = pdq256(draw_shapes(2)).upright
    (tmp_path / "list.txt").write_text(f"# known\npdq {code}\n{'0' * 64}\n\n")
    listed = read_hash_list(tmp_path / "list.txt")
    report = check_dataset(open_collection(folder), verifier, now=NOW, hash_list=listed)
    assert [(hit.work, hit.hash, hit.distance) for hit in report.list_hits] == [("d", str(code), 0)]
    assert report.lists == 2


@pytest.mark.parametrize("way", ["turned", "mirrored", "below a transparency"])
def test_a_listed_picture_is_found_as_the_guards_find_it(tmp_path, verifier, way):
    pixels, folder = draw_shapes(2), tmp_path / "works"
    folder.mkdir()
    made = {
        "turned": np.rot90(pixels),
        "mirrored": pixels[:, ::-1],
        "below a transparency": np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)]),
    }
    Image.fromarray(np.ascontiguousarray(made[way])).save(folder / "a.png")
    listed = np.frombuffer(pdq256(pixels).upright.bits, np.uint8)[None]
    report = check_dataset(open_collection(folder), verifier, now=NOW, hash_list=listed)
    assert [hit.work for hit in report.list_hits] == ["a.png"]


@pytest.mark.parametrize("line", ["pdq 12", "x" * 64, "md5 " + "0" * 32])
def test_a_damaged_hash_list_is_refused_with_its_line(tmp_path, line):
    (tmp_path / "list.txt").write_text("0" * 64 + "\n" + line + "\n")
    with pytest.raises(InputError, match=r"list\.txt:2"):
        read_hash_list(tmp_path / "list.txt")


def test_a_folder_without_a_table_has_no_rights_at_all(folder, verifier):
    (folder / "manifest.csv").unlink()
    report = check_dataset(open_collection(folder), verifier, now=NOW)
    assert report.works == 7
    assert {name: len(ids) for name, ids in report.missing.items()} == {"licence": 7, "creator": 7, "source": 7}
    assert report.opted_out == ("i.png",)


@pytest.mark.parametrize("text", ["", "name\nx\n", "id,name,repeats\na,b,many\n"])
def test_tables_that_cannot_be_used_are_refused(tmp_path, text):
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(InputError):
        open_collection(tmp_path)


def test_the_card_has_the_fields_of_the_training_summary(report):
    card = dataset_card(report, Provider(name="Example", contact="a@e.org"), NOW)
    assert set(card) == {"card", "dataset", "made_at", "general_information", "data_sources", "data_processing"}
    general, sources, processing = (card[name] for name in ("general_information", "data_sources", "data_processing"))
    assert general["provider"] == "Example"
    assert general["collected"] == NOT_STATED
    assert (general["modalities"], general["size_range"]) == (["image"], "less than 1 million images")
    assert sources["crawled"]["top_domains"] == [{"domain": "e.org", "works": 2}, {"domain": "f.org", "works": 1}]
    assert sources["licensed"]["works_under_a_known_open_licence"] == 6
    assert processing["opt_outs"]["works_opted_out"] == 2
    assert processing["duplicates"]["most_repeats"] == 6
    canonical_json(card)


def test_the_card_for_people_says_the_same_and_a_table_cannot_be_broken_out_of(report):
    broken = dataclasses.replace(report, licences={"a|b\n# c": 1})
    text = as_markdown(dataset_card(broken, Provider(), NOW))
    assert "## Data processing" in text
    assert "a\\|b # c: 1" in text
    assert "works opted out: 2" in text


def test_the_report_has_a_json_form(report):
    assert json.loads(json.dumps(to_plain(report)))["opted_out"] == ["e", "i"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_removals_move_rows_with_who_when_and_why(folder):
    assert remove_works(folder / "manifest.csv", {"e", "i"}, by="desk", reason="claim 1", at=NOW) == 2
    assert [row["id"] for row in rows(folder / "manifest.csv")] == ["a", "b", "c", "d", "f", "g", "h"]
    moved = rows(folder / REMOVED)
    assert [(row["id"], row["removed_by"], row["reason"], row["removed_at"]) for row in moved] == [
        ("e", "desk", "claim 1", NOW),
        ("i", "desk", "claim 1", NOW),
    ]
    remove_works(folder / "manifest.csv", {"a"}, by="desk", reason="claim 2", at=NOW)
    assert [row["id"] for row in rows(folder / REMOVED)] == ["e", "i", "a"]


def test_an_unknown_work_removes_nothing(folder):
    before = (folder / "manifest.csv").read_bytes()
    with pytest.raises(InputError, match="nobody"):
        remove_works(folder / "manifest.csv", {"a", "nobody"}, by="desk", reason="x", at=NOW)
    assert (folder / "manifest.csv").read_bytes() == before
    assert not (folder / REMOVED).exists()


def test_a_crash_between_the_two_files_loses_no_row_and_is_completed_by_trying_again(folder, monkeypatch):
    from guardrails.audit import removal

    real = removal.write_atomically

    def crash(path: Path, data: bytes) -> None:
        if path.name == "manifest.csv":
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(removal, "write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        remove_works(folder / "manifest.csv", {"a"}, by="desk", reason="x", at=NOW)
    monkeypatch.undo()
    assert [row["id"] for row in rows(folder / "manifest.csv")] == [row[0] for row in ROWS]
    remove_works(folder / "manifest.csv", {"a"}, by="desk", reason="x", at=NOW)
    assert [row["id"] for row in rows(folder / REMOVED)] == ["a"]
    assert "a" not in [row["id"] for row in rows(folder / "manifest.csv")]
