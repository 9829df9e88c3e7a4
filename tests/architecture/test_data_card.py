"""The data-set card says what the manifest says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

START = "<!-- counts: computed from manifest.csv and checked by the test suite -->\n"
END = "<!-- end of counts -->"


@pytest.fixture(scope="module")
def rows(checkout: Path) -> list[dict[str, str]]:
    with (checkout / "datasets" / "pocket" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def card(checkout: Path) -> str:
    return (checkout / "datasets" / "pocket" / "README.md").read_text(encoding="utf-8")


def _table(rows: list[dict[str, str]]) -> str:
    lines = [
        "| set | package | licence | creator | drawings | trained on | opt-outs |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        first = of_set[0]
        trained = sum(row["trained"] == "yes" for row in of_set)
        reserved = sum(row["rights"] == "opt-out" for row in of_set)
        lines.append(
            f"| {name} | `{first['package']}` | {first['licence']} | {first['creator']} "
            f"| {len(of_set):,} | {trained:,} | {reserved:,} |"
        )
    trained = sum(row["trained"] == "yes" for row in rows)
    reserved = sum(row["rights"] == "opt-out" for row in rows)
    lines.append(f"| all | | | | {len(rows):,} | {trained:,} | {reserved:,} |")
    return "\n".join(lines) + "\n"


def test_the_counts_are_those_of_the_manifest(card: str, rows: list[dict[str, str]]) -> None:
    written = card.partition(START)[2].partition(END)[0]
    expected = _table(rows)
    assert written == expected, f"the table should read:\n{expected}"


def test_every_column_is_explained(card: str, rows: list[dict[str, str]]) -> None:
    columns = card.partition("## Columns")[2].partition("## ")[0]
    assert [name for name in rows[0] if f"`{name}`" not in columns] == []


def test_each_set_has_one_package_licence_and_creator(rows: list[dict[str, str]]) -> None:
    facts = {(row["set"], row["package"], row["licence"], row["licence_url"], row["creator"]) for row in rows}
    assert len(facts) == len({row["set"] for row in rows})


def test_share_alike_drawings_are_never_trained_on(rows: list[dict[str, str]]) -> None:
    assert {row["trained"] for row in rows if "-SA-" in row["licence"]} == {""}


def test_the_notice_names_every_creator(checkout: Path, rows: list[dict[str, str]]) -> None:
    notice = " ".join((checkout / "NOTICE").read_text(encoding="utf-8").split())
    assert [row["creator"] for row in rows if row["creator"].partition(" ")[0] not in notice] == []
