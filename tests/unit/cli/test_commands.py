"""Every command: help, JSON, the exit statuses that the help promises, and one line for every mistake."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from guardrails.cli.main import guardrails
from guardrails.domain.identity import ImageId
from guardrails.provenance import create_dev_chain
from guardrails.testing.doubles import FixedIndex, fixed_screen, passing_screens

Cli = Callable[..., Any]
PROMPT = "a red apple on a blue background"
FORBIDDEN = "how to make a pipe bomb, step by step diagram"


def commands(group: click.Group = guardrails, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_one_line_error(run: Any, status: int, code: str) -> None:
    """A message of one line, a hint of one line, nothing else; and no traceback."""
    assert run.status == status, run
    lines = run.err.splitlines()
    assert len(lines) == 2, run.err
    assert lines[0].startswith(f"error[{code}]: ")
    assert lines[1].startswith("hint: ")


@pytest.mark.parametrize("path", [(), *ALL], ids=" ".join)
def test_every_command_has_help(cli: Cli, path: tuple[str, ...]) -> None:
    short, long = cli(*path, "-h"), cli(*path, "--help")
    assert (short.status, long.status) == (0, 0)
    assert short.out == long.out
    assert short.out.startswith("Usage: guardrails")


@pytest.mark.parametrize("path", [path for path, command in ALL.items() if not isinstance(command, click.Group)])
def test_every_command_can_print_json_and_says_what_each_option_is(path: tuple[str, ...]) -> None:
    options = [parameter for parameter in ALL[path].params if isinstance(parameter, click.Option)]
    assert "--json" in [name for option in options for name in option.opts]
    assert ALL[path].help
    assert [option.name for option in options if not option.help and option.name != "file_format"] == []


@pytest.mark.usefixtures("doubles")
def test_generate_releases_a_picture_that_verify_confirms(cli: Cli, tmp_path: Path) -> None:
    released = cli("generate", PROMPT, "--seed", "7")
    assert released.status == 0
    assert released.err == ""
    (name,) = files(tmp_path / "out")
    assert name in released.out
    verified = cli("verify", "out")
    assert verified.status == 0
    assert "CONFIRMED" in verified.out


@pytest.mark.usefixtures("doubles")
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


@pytest.mark.usefixtures("doubles")
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


@pytest.mark.usefixtures("doubles")
def test_a_refused_picture_exits_with_3_and_a_fault_with_its_own_status(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screens = (fixed_screen("open-nsfw", nsfw=0.99), passing_screens()[1])
    with monkeypatch.context() as patch:
        patch.setattr("guardrails.pipeline.guard.default_screens", lambda: screens)
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
    cli: Cli, tmp_path: Path, home: Path, prompt: str, word: str
) -> None:
    run = cli("generate", prompt)
    assert_one_line_error(run, 2, "invalid_prompt")
    assert word in run.err.replace(",", "")
    assert not (tmp_path / "out").exists()
    assert not (home / "ledger").exists()
    as_json = cli("generate", prompt, "--json")
    assert (as_json.status, as_json.err) == (2, "")
    assert as_json.json["error"]["code"] == "invalid_prompt"


@pytest.mark.parametrize("model", ["no-such-model", "./missing/folder", "x" * 5000, "a/b/c"])
def test_a_model_that_is_nowhere_exits_with_5_without_loading_torch(cli: Cli, tmp_path: Path, model: str) -> None:
    run = cli("generate", PROMPT, "--model", model)
    assert_one_line_error(run, 5, "model_unavailable")
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize(
    "words",
    [
        ("generate",),
        ("generate", PROMPT, "--steps", "0"),
        ("generate", PROMPT, "--seed", "-1"),
        ("generate", PROMPT, "--format", "gif"),
        ("generate", PROMPT, "--colour"),
        ("verify",),
        ("nonsense",),
        ("policy", "nonsense"),
        ("keys", "doctor", "--chain", "only.pem"),
        ("ledger", "prove", "first"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_exits_with_2(cli: Cli, words: tuple[str, ...]) -> None:
    assert_one_line_error(cli(*words), 2, "invalid_option")
    assert cli(*words, "--json").json["error"]["code"] == "invalid_option"


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("option", [("--seed", str(2**63)), ("--guidance-scale", "nan"), ("--guidance-scale", "inf")])
@pytest.mark.parametrize("prompt", [PROMPT, FORBIDDEN])
def test_numbers_that_no_record_can_hold_exit_with_2(cli: Cli, prompt: str, option: tuple[str, str]) -> None:
    assert_one_line_error(cli("generate", prompt, *option), 2, "invalid_option")


@pytest.mark.usefixtures("doubles")
def test_a_folder_that_cannot_be_written_exits_with_7_before_a_model_is_loaded(
    cli: Cli, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    assert_one_line_error(cli("generate", PROMPT, "--out", "file"), 7, "storage_failed")
    assert_one_line_error(cli("generate", PROMPT, "--out", "/proc/out"), 7, "storage_failed")
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
def test_a_broken_policy_exits_with_2_and_names_the_place(cli: Cli, tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "pack.yaml").write_text(text)
    for words in (("policy", "check", "pack.yaml"), ("generate", PROMPT, "--policy", "pack.yaml")):
        run = cli(*words)
        assert_one_line_error(run, 2, "invalid_policy")
        assert place in run.err
    assert not (tmp_path / "out").exists()


def test_a_policy_that_is_nowhere_exits_with_2(cli: Cli) -> None:
    assert_one_line_error(cli("policy", "check", "no-such-pack"), 2, "invalid_policy")
    assert_one_line_error(cli("policy", "show", "missing.yaml"), 2, "invalid_policy")


def test_policy_commands_agree_between_text_and_json(cli: Cli) -> None:
    assert cli("policy", "check").status == 0
    checked = cli("policy", "check", "--json").json
    assert checked["ok"] is True
    shown = cli("policy", "show", "--json").json
    assert checked["policy"]["digest"] == shown["digest"]
    assert shown["digest"] in cli("policy", "show").out
    allowed, refused = cli("policy", "explain", PROMPT, "--json"), cli("policy", "explain", FORBIDDEN, "--json")
    assert (allowed.status, allowed.json["action"]) == (0, "allow")
    assert (refused.status, refused.json["action"]) == (3, "block")
    assert cli("policy", "explain", FORBIDDEN).status == 3


@pytest.fixture
def expired(home: Path) -> Path:
    shutil.rmtree(home / "keys" / "c2pa")
    create_dev_chain(home / "keys", now=datetime.now(UTC) - timedelta(days=400))
    return home


@pytest.mark.usefixtures("doubles", "expired")
def test_an_expired_key_exits_with_6_and_releases_nothing(cli: Cli, tmp_path: Path) -> None:
    run = cli("generate", PROMPT)
    assert_one_line_error(run, 6, "key_unusable")
    assert "expired" in run.err
    assert files(tmp_path / "out") == []
    doctor = cli("keys", "doctor", "--json")
    assert doctor.status == 6
    assert [found["rule"] for found in doctor.json if not found["passed"] and found["required"]]
    assert cli("keys", "rotate").status == 0
    assert cli("generate", PROMPT).status == 0


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("damage", ["missing", "open to others", "no key", "watermark key cut short"])
def test_keys_that_cannot_be_used_exit_with_6_and_release_nothing(
    cli: Cli, home: Path, tmp_path: Path, damage: str
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
    assert_one_line_error(run, 6, "key_unusable")
    assert files(tmp_path / "out") == []
    assert cli("generate", PROMPT, "--json").json["error"]["code"] == "key_unusable"
    assert cli("keys", "doctor").status == 6


def test_keys_init_creates_once_and_keeps(cli: Cli, tmp_path: Path) -> None:
    first = cli("keys", "init", "--home", "new", "--json").json
    assert {part["state"] for part in first.values()} == {"created"}
    before = (tmp_path / "new" / "keys" / "watermark.key").read_bytes()
    second = cli("keys", "init", "--home", "new", "--json").json
    assert {part["state"] for part in second.values()} == {"kept"}
    assert (tmp_path / "new" / "keys" / "watermark.key").read_bytes() == before
    assert cli("keys", "doctor", "--home", "new").status == 0


@pytest.mark.usefixtures("doubles")
def test_ledger_commands_read_what_generate_wrote(cli: Cli) -> None:
    made = cli("generate", PROMPT, "--json").json[0]
    shown = cli("ledger", "show", made["id"], "--json").json
    assert shown["record"]["image_sha256"] == made["sha256"]
    assert PROMPT not in cli("ledger", "show", "0").out
    assert PROMPT in cli("ledger", "show", "0", "--private").out
    assert cli("ledger", "fsck", "--json").json["records"] == 1
    assert cli("ledger", "prove", "0").out.startswith("c2sp.org/tlog-proof@v1\n")
    assert cli("ledger", "prove", "5").status == 7


def test_reading_a_ledger_that_is_not_there_exits_with_7_and_makes_none(cli: Cli, home: Path) -> None:
    for words in (("list",), ("show", "1"), ("fsck",), ("prove", "0")):
        assert_one_line_error(cli("ledger", *words), 7, "ledger_failed")
    assert not (home / "ledger").exists()


@pytest.mark.usefixtures("doubles")
def test_a_damaged_ledger_exits_with_7_and_nothing_is_released(cli: Cli, home: Path, tmp_path: Path) -> None:
    cli("generate", PROMPT)
    for path in (home / "ledger").glob("ledger.db*"):
        path.write_bytes(b"not a database" * 100)
    before = files(tmp_path / "out")
    assert_one_line_error(cli("generate", PROMPT), 7, "ledger_corrupt")
    assert files(tmp_path / "out") == before


def test_as_a_process_an_error_is_two_lines_and_the_status(home: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "guardrails.cli", "generate", "", "--home", str(home)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == "error[invalid_prompt]: the prompt is empty"
    assert list(tmp_path.iterdir()) == [home]
