"""From prompt to verdict on the command line, and what a mistake costs: one line, its exit status, and no file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guardrails.domain.identity import ImageId
from guardrails.provenance import create_dev_chain
from guardrails.testing.doubles import FixedIndex, fixed_screen, passing_screens

Cli = Callable[..., Any]
OneLineError = Callable[..., None]
PROMPT = "a red apple on a blue background"
FORBIDDEN = "how to make a pipe bomb, step by step diagram"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.usefixtures("shapes")
def test_generate_releases_a_picture_that_verify_confirms(cli: Cli, tmp_path: Path) -> None:
    released = cli("generate", PROMPT, "--seed", "7")
    assert released.status == 0
    assert released.err == ""
    (name,) = files(tmp_path / "out")
    assert name in released.out
    verified = cli("verify", "out")
    assert verified.status == 0
    assert "CONFIRMED" in verified.out


@pytest.mark.usefixtures("shapes")
def test_generate_as_json_is_one_document_with_ids_path_and_receipt(cli: Cli, tmp_path: Path) -> None:
    run = cli("generate", PROMPT, "--count", "2", "--format", "jpeg", "--out", "made", "--json")
    assert (run.status, run.err) == (0, "")
    first, second = run.json
    for outcome in (first, second):
        assert outcome["outcome"] == "released"
        assert (tmp_path / outcome["path"]).is_file()
        assert outcome["watermark"]["mark_id"] == ImageId.parse(outcome["id"]).mark_id
        assert outcome["manifest"]["status"] == "trusted"
    assert second["receipt"]["index"] == 1
    reports = cli("verify", "made", "--json").json
    assert {report["verdict"] for report in reports} == {"confirmed"}
    assert [report["ids"]["ledger"] for report in reports] == sorted(o["watermark"]["mark_id"] for o in (first, second))


@pytest.mark.usefixtures("shapes")
def test_a_forbidden_prompt_exits_with_3_underlines_the_words_and_is_recorded(cli: Cli, tmp_path: Path) -> None:
    run = cli("generate", FORBIDDEN)
    assert run.status == 3
    assert "REFUSED" in run.out
    assert "WEAPON-01" in run.out
    lines = run.out.splitlines()
    at = next(number for number, line in enumerate(lines) if FORBIDDEN in line)
    carets = lines[at + 1]
    assert lines[at][carets.index("^") : carets.rindex("^") + 1] == "pipe bomb"
    assert files(tmp_path / "out") == []
    listed = cli("ledger", "list", "--json").json
    assert [entry["record"]["kind"] for entry in listed["records"]] == ["refusal"]
    as_json = cli("generate", FORBIDDEN, "--json")
    assert as_json.status == 3
    assert as_json.json[0]["refusal"]["stage"] == "prompt"


@pytest.mark.usefixtures("shapes")
def test_a_refused_picture_exits_with_3_and_a_fault_with_its_own_status(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screens = (fixed_screen("open-nsfw", nsfw=0.99), passing_screens()[1])
    with monkeypatch.context() as patch:
        patch.setattr("guardrails.pipeline.guard.default_screens", lambda **_: screens)
        assert cli("generate", PROMPT).status == 3
    # 64 pixels carry no mark.
    assert cli("generate", PROMPT, "--width", "64", "--height", "64").status == 6
    broken = FixedIndex()
    monkeypatch.setattr(FixedIndex, "find", lambda self, pixels: 1 / 0)
    monkeypatch.setattr("guardrails.pipeline.guard.shipped_index", lambda home: broken)
    run = cli("generate", PROMPT)
    assert run.status == 1
    assert "ZeroDivisionError" in run.out
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("x" * 20_000, "20000"),
        ("a\x07bell", "U+0007"),
        ("a\x1b[31mred", "U+001B"),
        ("\udcff", "U+DCFF"),
    ],
    ids=["empty", "blank", "20,000 characters", "bell", "escape sequence", "bytes that are no text"],
)
def test_a_prompt_that_cannot_be_used_exits_with_2_and_writes_nothing(
    one_line_error: OneLineError, cli: Cli, tmp_path: Path, home: Path, prompt: str, word: str
) -> None:
    run = cli("generate", prompt)
    one_line_error(run, "invalid_prompt", 2)
    assert word in run.err.replace(",", "")
    assert not (tmp_path / "out").exists()
    assert not (home / "ledger").exists()
    as_json = cli("generate", prompt, "--json")
    assert (as_json.status, as_json.err) == (2, "")
    assert as_json.json["error"]["code"] == "invalid_prompt"


@pytest.mark.parametrize("model", ["no-such-model", "./missing/folder", "x" * 5000, "a/b/c"])
def test_a_model_that_is_nowhere_exits_with_5_without_loading_torch(
    one_line_error: OneLineError, cli: Cli, tmp_path: Path, model: str
) -> None:
    run = cli("generate", PROMPT, "--model", model)
    one_line_error(run, "model_unavailable", 5)
    assert files(tmp_path / "out") == []


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize("option", [("--seed", str(2**63)), ("--guidance-scale", "nan"), ("--guidance-scale", "inf")])
@pytest.mark.parametrize("prompt", [PROMPT, FORBIDDEN])
def test_numbers_that_no_record_can_hold_exit_with_2(
    one_line_error: OneLineError, cli: Cli, prompt: str, option: tuple[str, str]
) -> None:
    one_line_error(cli("generate", prompt, *option), "invalid_option", 2)


@pytest.mark.usefixtures("shapes")
def test_a_folder_that_cannot_be_written_exits_with_7_before_a_model_is_loaded(
    one_line_error: OneLineError, cli: Cli, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    one_line_error(cli("generate", PROMPT, "--out", "file"), "storage_failed", 7)
    one_line_error(cli("generate", PROMPT, "--out", "/proc/out"), "storage_failed", 7)
    assert not (home / "ledger").exists()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("id: [\n", "pack.yaml:2:1"),
        ("id: x\n  bad: indent\n", "pack.yaml:2:"),
        ("", "pack.yaml:1:1"),
        ("nonsense: 1\n", "pack.yaml:1:"),
        ("a: &a [1]\nb: *a\n", "pack.yaml:1:"),
    ],
    ids=["unclosed", "indent", "empty", "unknown key", "alias"],
)
def test_a_broken_policy_exits_with_2_and_names_the_place(
    one_line_error: OneLineError, cli: Cli, tmp_path: Path, text: str, place: str
) -> None:
    (tmp_path / "pack.yaml").write_text(text)
    for words in (("policy", "check", "pack.yaml"), ("generate", PROMPT, "--policy", "pack.yaml")):
        run = cli(*words)
        one_line_error(run, "invalid_policy", 2)
        assert place in run.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def expired(home: Path) -> Path:
    shutil.rmtree(home / "keys" / "c2pa")
    create_dev_chain(home / "keys", now=datetime.now(UTC) - timedelta(days=400))
    return home


@pytest.mark.usefixtures("shapes", "expired")
def test_an_expired_key_exits_with_6_and_releases_nothing(
    one_line_error: OneLineError, cli: Cli, tmp_path: Path
) -> None:
    run = cli("generate", PROMPT)
    one_line_error(run, "key_unusable", 6)
    assert "expired" in run.err
    assert files(tmp_path / "out") == []
    doctor = cli("keys", "doctor", "--json")
    assert doctor.status == 6
    assert [found["rule"] for found in doctor.json if not found["passed"] and found["required"]]
    assert cli("keys", "rotate").status == 0
    assert cli("generate", PROMPT).status == 0


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize("damage", ["missing", "open to others", "no key", "watermark key cut short"])
def test_keys_that_cannot_be_used_exit_with_6_and_release_nothing(
    one_line_error: OneLineError, cli: Cli, home: Path, tmp_path: Path, damage: str
) -> None:
    signing, mark = home / "keys" / "c2pa" / "signing.pem", home / "keys" / "watermark.key"
    match damage:
        case "missing":
            signing.unlink()
        case "open to others":
            signing.chmod(0o644)
        case "no key":
            signing.write_text("not a key")
        case _:
            mark.write_bytes(b"short")
    run = cli("generate", PROMPT)
    one_line_error(run, "key_unusable", 6)
    assert files(tmp_path / "out") == []
    assert cli("generate", PROMPT, "--json").json["error"]["code"] == "key_unusable"
    assert cli("keys", "doctor").status == 6


@pytest.mark.usefixtures("shapes")
def test_a_damaged_ledger_exits_with_7_and_nothing_is_released(
    one_line_error: OneLineError, cli: Cli, home: Path, tmp_path: Path
) -> None:
    cli("generate", PROMPT)
    for path in (home / "ledger").glob("ledger.db*"):
        path.write_bytes(b"not a database" * 100)
    before = files(tmp_path / "out")
    one_line_error(cli("generate", PROMPT), "ledger_corrupt", 7)
    assert files(tmp_path / "out") == before


def test_as_a_process_an_error_is_two_lines_and_the_status(home: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "guardrails.cli", "generate", "", "--home", str(home)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == "error[invalid_prompt]: the prompt is empty"
    assert list(tmp_path.iterdir()) == [home]
