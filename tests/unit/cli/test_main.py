from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from guardrails.cli import verify
from guardrails.cli.main import COMMANDS, guardrails


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, (*words, name))


LEAVES = dict(leaves(guardrails))


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_explains_itself_and_speaks_json(words: tuple[str, ...], run: Callable[..., Any]) -> None:
    result = run(*words, "--help")

    assert result.status == 0
    assert result.out.startswith(f"Usage: guardrails {' '.join(words)}")
    assert "--json" in result.out
    assert LEAVES[words].help


def test_the_first_page_names_every_command_and_every_exit_status(run: Callable[..., Any]) -> None:
    result = run()

    assert result.status == 0
    assert all(f"  {name} " in result.out for name in COMMANDS)
    assert all(f"\n    {status}  " in result.out for status in range(8))


def test_the_first_page_imports_no_command(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))

    assert run("--help").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["verify"], "Missing argument 'FILES...'"),
        (["verify", "x.png", "--mode", "fastest"], "'fastest' is not one of"),
        (["generate", "a fox", "--count", "0"], "0 is not in the range"),
        (["generate", "a fox", "--sampler", "dream"], "'dream' is not one of"),
        (["keys", "doctor", "--chian", "x"], "No such option"),
    ],
)
def test_a_wrong_call_is_one_line_with_the_help_to_read(
    words: list[str], said: str, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    result = run(*words)

    one_line_error(result, "invalid_option", 2)
    assert said in result.err
    assert "--help`" in result.err


def test_a_wrong_call_with_json_is_one_document(run: Callable[..., Any]) -> None:
    result = run("verify", "--json")

    assert result.status == 2
    assert result.json["error"]["code"] == "invalid_option"
    assert result.err == ""


def test_a_group_without_a_command_prints_its_help(run: Callable[..., Any]) -> None:
    result = run("ledger")

    assert result.status == 2
    assert "fsck" in result.out + result.err


def replace_verify(monkeypatch: pytest.MonkeyPatch, raised: BaseException) -> None:
    def fail(**_: object) -> int:
        raise raised

    monkeypatch.setattr(verify.command, "callback", fail)


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    replace_verify(monkeypatch, KeyboardInterrupt())

    result = run("verify", "x.png")

    assert result.status == 130
    assert result.err.strip().splitlines()[-1] == "stopped; nothing unfinished was released"


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    replace_verify(monkeypatch, ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))

    result = run("verify", "x.png")

    one_line_error(result, "unavailable", 5)
    assert "pip install 'latent-guardrails[generate]'" in result.err


def test_a_missing_module_of_our_own_is_a_bug_and_shows_as_one(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    replace_verify(monkeypatch, ModuleNotFoundError("No module named 'guardrails.x'", name="guardrails.x"))

    with pytest.raises(ModuleNotFoundError):
        run("verify", "x.png")


def test_the_distribution_that_shares_our_import_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    metadata = tmp_path / "guardrails_ai-0.6.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: guardrails-ai\nVersion: 0.6.1\n")
    monkeypatch.syspath_prepend(tmp_path)

    result = run("policy", "check")

    one_line_error(result, "unavailable", 5)
    assert "guardrails-ai 0.6.1" in result.err
