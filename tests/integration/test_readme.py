"""The README tells the truth: its examples run, its commands exist, its output is the output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from guardrails.cli.main import COMMANDS, EPILOG, guardrails, main

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:guardrails|make) [^`]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)\)")


def _blocks(language: str) -> list[str]:
    return [text for name, text in _BLOCK.findall(README) if name == language]


def _commands() -> list[str]:
    """Every command line of the README, in blocks and in running text."""
    lines = [line for block in _blocks("console") for line in block.splitlines()]
    return sorted({*lines, *_INLINE.findall(_BLOCK.sub("", README))})


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a home of its own."""
    monkeypatch.setenv("GUARDRAILS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run_one_after_the_other(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for number, block in enumerate(_blocks("python"), start=1):
        exec(compile(block, f"README.md, example {number}", "exec"), {"__name__": "__main__"})
        said.append(capsys.readouterr().out)
    generated, wrapped, verified, decided = said
    assert generated.startswith("released out/")
    assert " trusted " in generated
    assert wrapped == ""
    assert verified.startswith("confirmed - ")
    assert decided.startswith("REWRITE ['STYLE-01', 'STYLE-02']\n")
    assert "rutkowski" not in decided.splitlines()[1]
    assert len(list((installation / "out").glob("*.png"))) == 1


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that `words` name, and the words that are left for it."""
    command: click.Command = guardrails
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        command, words = found, words[1:]
    return command, words


def _makefile_targets() -> Iterator[str]:
    for line in (CHECKOUT / "Makefile").read_text(encoding="utf-8").splitlines():
        if target := re.match(r"([a-z-]+):", line):
            yield target[1]


@pytest.mark.parametrize("line", _commands())
def test_the_command_exists_with_these_options(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        assert set(words) <= set(_makefile_targets())
        return
    assert program == "guardrails"
    command, rest = _resolve(words)
    # Parses the words as the real run would: unknown options and missing arguments raise.
    command.make_context("guardrails", list(rest))


def test_every_command_is_mentioned() -> None:
    unmentioned = {name for name in COMMANDS if f"guardrails {name}" not in README}
    # `make demo` runs the demo, and the data set's card speaks of rebuilding the model.
    assert unmentioned <= {"demo", "pocket"}


def test_the_printed_decision_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [line for line in _commands() if line.startswith("guardrails policy explain")]
    (printed,) = _blocks("text")
    status = main(shlex.split(line)[1:])
    assert status == 3
    assert capsys.readouterr().out.startswith(printed)


def test_the_exit_statuses_are_those_of_the_help() -> None:
    of_help = re.findall(r"^  (\d)  (.+)$", EPILOG, re.MULTILINE)
    of_readme = re.findall(r"^\| (\d) \| (.+) \|$", README, re.MULTILINE)
    assert of_readme == of_help


def test_every_verdict_is_explained() -> None:
    from guardrails.audit import FileVerdict

    explained = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert explained == {verdict.value for verdict in FileVerdict}


def test_every_link_leads_somewhere() -> None:
    pages = [CHECKOUT / "README.md", *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("datasets/**/*.md")]
    missing = [
        f"{page.relative_to(CHECKOUT)}: {target}"
        for page in pages
        for target in _LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []
