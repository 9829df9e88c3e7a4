from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.similarity.hashes import pdq256
from guardrails.testing.doubles import draw_shapes


@pytest.fixture
def works(tmp_path: Path) -> Path:
    folder = tmp_path / "works"
    folder.mkdir()
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        (folder / name).write_bytes(encode(draw_shapes(seed), ImageFormat.PNG))
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = [[n, f"work {n}", "MIT", "Ada & <Co>", "set@1", f"{n}.png"] for n in "abc"]
        csv.writer(file).writerows([["id", "name", "licence", "creator", "package", "file"], *rows])
    return folder


def test_a_set_in_order_exits_with_0_and_its_repeats_are_told(cli, works):
    result = cli("datasets", "check", works)
    assert result.status == 0
    assert "NOTHING TO LOOK AT" in result.out
    assert "a, b" in result.out
    assert cli("datasets", "check", works, "--json").json["licences"] == {"MIT": 3}


def test_the_page_shows_repeats_and_escapes_foreign_text(cli, works, tmp_path):
    cli("datasets", "check", works, "--out", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/webp;base64,") == 2
    assert "Ada &amp; &lt;Co&gt;" in page
    assert "<Co>" not in page
    assert json.loads((tmp_path / "report" / "report.json").read_text())["works"] == 3


def test_a_hit_on_a_hash_list_is_named_and_never_shown(cli, works, tmp_path):
    (tmp_path / "list.txt").write_text(f"pdq {pdq256(draw_shapes(1)).upright}\n")
    result = cli("datasets", "check", works, "--hash-list", tmp_path / "list.txt", "--out", tmp_path / "report")
    assert result.status == 4
    page = (tmp_path / "report" / "index.html").read_text()
    assert "data:image" not in page
    assert "<td>a</td>" in page


def test_an_objection_is_written_down_heeded_and_taken_back(cli, works):
    words = ("datasets", "opt-out", works, "a", "--by", "desk", "--reason", "asked", "--source", "claim 7")
    assert cli(*words).status == 0
    checked = cli("datasets", "check", works, "--json")
    assert (checked.status, checked.json["opted_out"]) == (4, ["a"])
    assert checked.json["signals"]["a"][0]["source"] == "claim 7"
    assert cli(*words, "--withdraw").status == 0
    assert cli("datasets", "check", works, "--json").json["opted_out"] == []
    assert len((works / "opt-outs.jsonl").read_text().splitlines()) == 2


def test_a_removal_takes_the_row_out_and_keeps_why(cli, works):
    result = cli("datasets", "opt-out", works, "b", "--by", "desk", "--reason", "asked", "--remove", "--json")
    assert result.json["removed"] == 1
    assert cli("datasets", "check", works, "--json").json["works"] == 2
    assert "desk,asked" in (works / "removed.csv").read_text()


@pytest.mark.parametrize(("extra", "word"), [(("nobody",), "nobody"), (("a", "--remove", "--withdraw"), "contradict")])
def test_what_cannot_be_written_down_changes_nothing(cli, works, extra, word):
    before = (works / "manifest.csv").read_bytes()
    result = cli("datasets", "opt-out", works, *extra, "--by", "desk", "--reason", "x")
    assert result.status == 2
    assert word in result.err
    assert (works / "manifest.csv").read_bytes() == before
    assert not (works / "opt-outs.jsonl").exists()


def test_the_card_is_written_as_markdown_or_json(cli, works, tmp_path):
    assert cli("datasets", "card", works).out.startswith("# Training content: works\n")
    cli("datasets", "card", works, "--out", tmp_path / "card.json", "--provider", "Example")
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["general_information"]["provider"] == "Example"
    assert card["data_processing"]["duplicates"]["exact_groups"] == 1


def test_the_shipped_collection_has_a_card_without_its_pictures(cli):
    card = cli("datasets", "card", "pocket", "--json").json
    assert card["general_information"]["works"] == 7967
    assert card["data_sources"]["terms"] == {"permissive": 4711, "share-alike": 1629, "attribution": 1627}
    assert card["data_processing"]["opt_outs"]["works_opted_out"] == 38
    assert card["data_processing"]["not_compared"]["no_picture_at_hand"] == 7967


@pytest.mark.parametrize("name", ["none", "empty"])
def test_what_is_no_data_set_is_refused(cli, tmp_path, name):
    (tmp_path / "empty").mkdir()
    result = cli("datasets", "check", tmp_path / name)
    assert result.status == 2
    assert "is no data set" in result.err
