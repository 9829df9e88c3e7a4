from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.ledger import Ledger

SECRET = "the words of a prompt"


def record(number: int) -> Record:
    return Record(
        id=f"00000000-0000-4000-8000-{number:012d}",
        kind=RecordKind.GENERATION,
        created_at="2026-01-01T00:00:00.000Z",
        policy=PolicyRef(id="default", version="1", digest="00" * 32),
        mark_id=f"{number:016x}",
        manifest_id=f"urn:c2pa:00000000-0000-4000-8000-{number:012d}",
        facts={"action": "allow", "generation": {"model": "pocket"}},
    )


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A home whose ledger holds five records."""
    with Ledger.open(homes.ledger_folder(tmp_path)) as ledger:
        for number in range(5):
            ledger.append(record(number), {"request": {"prompt": SECRET}})
    return tmp_path


def test_the_list_is_newest_first_and_limited(logged: Path, run: Callable[..., Any]) -> None:
    result = run("ledger", "list", "--home", logged, "--limit", "2", "--json")

    assert result.json["size"] == 5
    assert [entry["index"] for entry in result.json["records"]] == [4, 3]
    assert "pocket" in run("ledger", "list", "--home", logged).out


@pytest.mark.parametrize("which", ["3", record(3).id, record(3).manifest_id, record(3).mark_id])
def test_a_record_is_found_by_any_of_its_names(which: str, logged: Path, run: Callable[..., Any]) -> None:
    result = run("ledger", "show", which, "--home", logged, "--json")

    assert result.json["record"]["id"] == record(3).id
    assert result.json["proof"]["index"] == 3


def test_private_words_are_printed_only_when_asked_for(logged: Path, run: Callable[..., Any]) -> None:
    for options in ([], ["--json"]):
        assert SECRET not in run("ledger", "show", "0", "--home", logged, *options).out
        assert SECRET in run("ledger", "show", "0", "--home", logged, "--private", *options).out
    assert SECRET not in run("ledger", "list", "--home", logged, "--json").out


def test_a_printed_proof_convinces_someone_who_has_the_public_key(
    logged: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    vkey = homes.ledger_folder(logged) / "log.vkey"
    for index in range(5):
        proof = tmp_path / f"{index}.tlog-proof"
        proof.write_text(run("ledger", "prove", index, "--home", logged).out)
        result = run("ledger", "verify", proof, "--vkey", vkey, "--json")
        assert result.status == 0
        assert record(index).id in result.json["results"][0]["shows"]
        assert SECRET not in proof.read_text()
        proof.write_text(proof.read_text().replace(f"index {index}", f"index {index + 1}"))
        result = run("ledger", "verify", proof, "--home", logged)
        assert (result.status, "INVALID" in result.out) == (4, True)


def test_an_exported_archive_verifies_offline_and_shows_growth(
    logged: Path, run: Callable[..., Any], tmp_path: Path, one_line_error: Callable[..., None]
) -> None:
    kept = tmp_path / "kept-checkpoint"
    kept.write_bytes((homes.ledger_folder(logged) / "checkpoint").read_bytes())
    with Ledger.open(homes.ledger_folder(logged)) as ledger:
        ledger.append(record(5))
        vkey = ledger.vkey
    archive = tmp_path / "records.zip"
    options = ("--from", 1, "--to", 4, "--since", kept, "--out", archive, "--home", logged)
    assert run("ledger", "export", *options, "--json").json["records"] == 3
    shown = run("ledger", "verify", archive, kept, "--vkey", vkey, "--json").json["results"]
    assert [each["ok"] for each in shown] == [True, True]
    assert "3 records of the 6" in shown[0]["shows"]
    assert "grown from 5" in shown[0]["shows"]
    one_line_error(run("ledger", "verify", archive, "--vkey", "nonsense"), "key_unusable", 6)
    one_line_error(run("ledger", "export", "--from", 9, "--out", archive, "--home", logged), "ledger_failed", 7)


def test_erasure_takes_the_words_and_leaves_the_record(
    logged: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    result = run("ledger", "erase", "3", record(1).id, "--ground", "asked", "--home", logged, "--json")
    assert result.json["erased"] == [record(3).id, record(1).id]
    for index, gone in ((3, True), (1, True), (2, False)):
        shown = run("ledger", "show", index, "--private", "--home", logged, "--json").json
        assert (shown["payload"] is None) is gone
        assert ("erased" in shown["private"]) is gone
        assert shown["record"]["id"] == record(index).id
    assert run("ledger", "fsck", "--home", logged, "--json").json["records"] == 6
    one_line_error(run("ledger", "erase", "x", "--ground", "asked", "--home", logged), "ledger_failed", 7)


def test_erasure_also_removes_the_picture_that_reviewers_had(
    logged: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    picture, other = tmp_path / "evidence" / "draft.png", tmp_path / "outside.png"
    picture.parent.mkdir()
    for path in (picture, other):
        path.write_bytes(b"a picture")
    with Ledger.open(homes.ledger_folder(logged)) as ledger:
        ledger.append(record(5), {"evidence_file": str(picture)})
        ledger.append(record(6), {"evidence_file": str(other)})
    result = run("ledger", "erase", "5", "6", "--ground", "asked", "--home", logged, "--json")
    assert result.json["evidence_files"] == 1
    assert not picture.exists()
    assert other.exists()


def test_retention_follows_the_jurisdictions(
    logged: Path, run: Callable[..., Any], tmp_path: Path, one_line_error: Callable[..., None]
) -> None:
    profile = tmp_path / "own.yaml"
    profile.write_text(
        "id: own\nreview_by: 2999-01-01\nretention: {keep_days: 36500, erase_days: 36500, source: none}\n"
    )
    kept = ("ledger", "erase", "3", "--ground", "asked", "--jurisdiction", profile, "--home", logged)
    one_line_error(run(*kept), "ledger_failed", 7)
    assert run("ledger", "retain", "--jurisdiction", profile, "--home", logged, "--json").json["records"] == []
    profile.write_text("id: own\nreview_by: 2999-01-01\nretention: {erase_days: 1, source: none}\n")
    retain = ("ledger", "retain", "--jurisdiction", profile, "--home", logged, "--json")
    assert len(run(*retain, "--dry-run").json["records"]) == 5
    assert len(run(*retain).json["records"]) == 5
    assert run(*retain).json["records"] == []
    assert run("ledger", "show", "0", "--private", "--home", logged, "--json").json["payload"] is None
    one_line_error(run("ledger", "retain", "--jurisdiction", "atlantis", "--home", logged), "invalid_policy", 2)


def test_erasing_makes_no_ledger(tmp_path: Path, run: Callable[..., Any], one_line_error: Callable[..., None]) -> None:
    one_line_error(run("ledger", "erase", "0", "--ground", "asked", "--home", tmp_path), "ledger_failed", 7)
    assert list(tmp_path.iterdir()) == []


def test_a_sound_log_passes_and_a_changed_one_does_not(
    logged: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    assert run("ledger", "fsck", "--home", logged, "--json").json["records"] == 5
    with sqlite3.connect(homes.ledger_folder(logged) / "ledger.db") as database:
        database.execute("UPDATE records SET entry = CAST(replace(entry, 'pocket', 'packet') AS BLOB) WHERE seq = 3")
    database.close()

    one_line_error(run("ledger", "fsck", "--home", logged), "ledger_corrupt", 7)
    one_line_error(run("ledger", "show", "2", "--home", logged), "ledger_corrupt", 7)


@pytest.mark.parametrize("which", ["5", "99999999999999999999999", "x", "00000000-0000-4000-8000-000000000009"])
def test_what_is_not_there_is_one_line(
    which: str, logged: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    one_line_error(run("ledger", "show", which, "--home", logged), "ledger_failed", 7)


@pytest.mark.parametrize("index", ["5", "9223372036854775808"])
def test_no_proof_beyond_the_log(
    index: str, logged: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    one_line_error(run("ledger", "prove", index, "--home", logged), "ledger_failed", 7)


def test_reading_makes_no_ledger(tmp_path: Path, run: Callable[..., Any], one_line_error: Callable[..., None]) -> None:
    one_line_error(run("ledger", "list", "--home", tmp_path), "ledger_failed", 7)
    assert list(tmp_path.iterdir()) == []
