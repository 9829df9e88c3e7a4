"""Rows of registries: roles as of a day, and what a rule's query selects."""

from __future__ import annotations

import csv
import datetime
import gzip
from pathlib import Path

import pytest

from guardrails.errors import PolicyError
from guardrails.policy import default_policy
from guardrails.policy.model import RegistryQuery
from guardrails.policy.registries import COLUMNS, open_registry, refer
from guardrails.resources import policies_path

ROWS = [
    ("ada example", "Q1", "Ada Example", "head_of_state|actor", "2025-01-20", "yes", "2025", "plain", "", "t", "CC0"),
    ("bo example", "Q2", 'Bo "B." Example', "painter", "", "no", "2025", "cased", "oil, portrait", "t", "CC0-1.0"),
    ("cy example", "Q3", "Cy Example", "painter", "", "unknown", "2025", "plain", "", "t", "CC0-1.0"),
]  # fmt: skip
BEFORE, AFTER = datetime.date(2025, 1, 20), datetime.date(2025, 1, 21)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *ROWS])
    return path


def test_rows_are_read_when_asked_for(path: Path) -> None:
    registry = open_registry(refer("people", path))
    assert len(registry) == 3
    assert list(registry.keys()) == ["ada example", "bo example", "cy example"]
    entry = registry.entry(1)
    assert (entry.name, entry.cased, entry.style, entry.roles) == (
        'Bo "B." Example',
        True,
        "oil, portrait",
        ("painter",),
    )


def test_the_names_of_an_id_are_those_of_its_rows_alone(tmp_path: Path) -> None:
    ids = [("Ada Example", "Q1"), ("Countess Example", "Q1"), ("Bo Example", "Q12"), ('"Odd, Cy"', 'x:"Odd",_Cy')]
    path = tmp_path / "people.csv"
    with path.open("w", newline="") as file:
        rows = [(name.lower(), id, name, "painter", "", "no", "2025", "plain", "", "t", "CC0-1.0") for name, id in ids]
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    registry = open_registry(refer("people", path))
    assert registry.names("Q1") == ("Ada Example", "Countess Example")
    assert registry.names('x:"Odd",_Cy') == ('"Odd, Cy"',)
    assert registry.names("Q") == ()


def test_compressed_and_plain_files_are_the_same(path: Path) -> None:
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    first, second = refer("people", path), refer("people", packed)
    assert first.digest == second.digest
    assert list(open_registry(second).keys()) == list(open_registry(first).keys())


def test_an_office_ends(path: Path) -> None:
    entry = open_registry(refer("people", path)).entry(0)
    assert entry.roles_on(BEFORE) == {"head_of_state", "actor"}
    assert entry.roles_on(AFTER) == {"former_head_of_state", "actor"}


@pytest.mark.parametrize(
    ("living", "selected"), [("", {"Q1", "Q2", "Q3"}), ("yes", {"Q1"}), ("no", {"Q2"}), ("maybe", {"Q1", "Q3"})]
)
def test_queries_by_life(path: Path, living: str, selected: set[str]) -> None:
    registry = open_registry(refer("people", path))
    query = RegistryQuery(registries=("people",), living=living)
    assert {entry.id for entry in map(registry.entry, range(3)) if entry.answers(query, AFTER)} == selected


def test_queries_by_role(path: Path) -> None:
    entry = open_registry(refer("people", path)).entry(0)
    query = RegistryQuery(registries=("people",), roles=("head_of_state",))
    assert entry.answers(query, BEFORE)
    assert not entry.answers(query, AFTER)


def test_a_file_that_changed_since_is_not_used(path: Path) -> None:
    ref = refer("people", path)
    path.write_text(path.read_text().replace("cy example", "cyd example"))
    with pytest.raises(PolicyError, match="has changed since"):
        open_registry(ref)


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardrails.policy.registries.MAX_REGISTRY_BYTES", 10_000)
    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(b"a" * 1_000_000))
    with pytest.raises(PolicyError, match="larger than"):
        refer("people", bomb)


def test_every_shipped_row_has_a_source_a_licence_and_a_public_role() -> None:
    refs = default_policy().registries
    assert {ref.name for ref in refs} == {"public-figures", "artists"}
    for ref in refs:
        registry = open_registry(ref)
        for entry in map(registry._entry, range(len(registry))):
            assert entry.key
            assert entry.id
            assert entry.roles
            assert entry.source in ("enwiki", "project")
            assert entry.licence == "CC0-1.0"
            assert entry.living in ("yes", "no", "unknown")


def test_the_registries_state_purpose_and_removal() -> None:
    text = policies_path("registries", "README.md").read_text(encoding="utf-8")
    for word in ("Purpose", "Removal", "CC0"):
        assert word in text
