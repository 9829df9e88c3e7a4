"""Registries from lists: what is taken, in which form, and what is left out."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from guardrails.errors import InputError
from guardrails.policy.registries import open_registry, refer
from guardrails.prompts.registry_building import build_registry

HEADER = ["name", "id", "aliases", "roles", "living", "tags", "standalone", "source", "licence"]


def build(tmp_path: Path, *rows: list[str], out: str = "out.csv") -> list[tuple[str, bool, str]]:
    source = tmp_path / "source.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    build_registry(source, tmp_path / out)
    registry = open_registry(refer("r", tmp_path / out))
    return [(entry.key, entry.cased, entry.style) for entry in map(registry.entry, range(len(registry)))]


def person(name: str, *, roles: str = "actor", tags: str = "", standalone: str = "", aliases: str = "") -> list[str]:
    return [name, name, aliases, roles, "yes", tags, standalone, "test", "CC0-1.0"]


def test_match_forms_are_those_of_the_views(tmp_path: Path) -> None:
    keys = [key for key, _, _ in build(tmp_path, person("Beyoncé Knowles-Carter"), person("Łukasz O'Neill"))]
    assert keys == ["beyonce knowles carter", "lukasz o neill"]


def test_aliases_are_rows(tmp_path: Path) -> None:
    assert [key for key, _, _ in build(tmp_path, person("Ada Example", aliases="Countess Ada|Ada E Example"))] == [
        "ada e example",
        "ada example",
        "countess ada",
    ]


def test_single_words_need_to_be_chosen(tmp_path: Path) -> None:
    assert build(tmp_path, person("Pink"), person("Zendaya", standalone="yes"), person("Ada Example")) == [
        ("ada example", False, ""),
        ("zendaya", False, ""),
    ]


def test_names_of_ordinary_words_count_with_capitals_only(tmp_path: Path) -> None:
    rows = build(tmp_path, person("Tiger Woods"), person("The Rock"), person("Tilda Swinton"))
    assert rows == [("tiger woods", True, ""), ("tilda swinton", False, "")]


@pytest.mark.parametrize("missing", ["roles", "source", "licence"])
def test_rows_without_role_source_or_licence_are_left_out(tmp_path: Path, missing: str) -> None:
    row = person("Bo Example")
    row[HEADER.index(missing)] = ""
    assert [key for key, _, _ in build(tmp_path, row, person("Ada Example"))] == ["ada example"]


def test_style_words_come_from_movements_and_media(tmp_path: Path) -> None:
    rows = build(
        tmp_path,
        person("Ada Example", roles="artist|painter", tags="Oil|Surrealism|France|sd=200|Marvel"),
        person("Bo Example", roles="artist|photographer", tags="USA"),
    )
    assert [style for _, _, style in rows] == ["oil, surrealism", "fine art photography"]


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path, person("Ada Example"), out="one.csv.gz")
    build(tmp_path, person("Ada Example"), out="two.csv.gz")
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.csv.gz").read_bytes()).startswith(b"key,id,name")


def test_a_source_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column `name`"):
        build_registry(tmp_path / "x.csv", tmp_path / "out.csv")
    with pytest.raises(InputError, match="cannot be read"):
        build_registry(tmp_path / "none.csv", tmp_path / "out.csv")
