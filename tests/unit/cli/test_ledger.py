from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.domain.records import InclusionProof, Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.ledger import Checkpoint, Ledger, NoteVerifier, verify_inclusion
from guardrails.ledger.entries import encode_entry
from guardrails.ledger.merkle import leaf_hash

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


def test_a_printed_proof_convinces_someone_who_has_the_record_and_the_public_key(
    logged: Path, run: Callable[..., Any]
) -> None:
    for index in range(5):
        text = run("ledger", "prove", index, "--home", logged).out
        head, _, note = text.partition("\n\n")
        header, place, *hashes = head.splitlines()
        vkey = (homes.ledger_folder(logged) / "log.vkey").read_text()
        checkpoint = Checkpoint.parse(NoteVerifier.from_vkey(vkey).verify(note))
        proof = InclusionProof(
            index=int(place.removeprefix("index ")),
            size=checkpoint.size,
            leaf_hash=leaf_hash(encode_entry(record(index))),
            root=checkpoint.root,
            path=tuple(base64.b64decode(line) for line in hashes),
        )
        assert header == "c2sp.org/tlog-proof@v1"
        assert proof.index == index
        assert verify_inclusion(proof)


def test_a_sound_log_passes_and_a_changed_one_does_not(
    logged: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    assert run("ledger", "fsck", "--home", logged, "--json").json["records"] == 5
    with sqlite3.connect(homes.ledger_folder(logged) / "ledger.db") as database:
        database.execute("UPDATE leaves SET entry = replace(entry, 'pocket', 'packet') WHERE idx = 2")
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
