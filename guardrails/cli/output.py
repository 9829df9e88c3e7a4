"""What commands print: aligned facts and tables for people, one JSON document with --json, one-line errors."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guardrails.domain.canonical import to_plain
from guardrails.errors import GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

_Item = TypeVar("_Item")
_Function = TypeVar("_Function", bound=Callable[..., Any])

# Off a terminal lines are read by programs and mail clients: long enough that a path stays in one piece.
_WIDTH_OFF_TERMINAL = 200

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GUARDRAILS_HOME",
    help="Keys and ledger of this installation.  [default: $GUARDRAILS_HOME or ~/.guardrails]",
)
database_option = click.option(
    "--database",
    default="",
    envvar="GUARDRAILS_LEDGER_DATABASE",
    metavar="URL",
    help="PostgreSQL database of the ledger.  [default: SQLite in the home folder]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def option(*names: str, section: str, **settings: Any) -> Callable[[_Function], _Function]:
    """A `click.option` that `SectionedCommand` shows under its own heading."""
    return click.option(*names, cls=_SectionedOption, section=section, **settings)


class _SectionedOption(click.Option):
    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help groups its options by `section`; those without one come last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        sections: dict[str, list[tuple[str, str]]] = {}
        for shown in sorted(options, key=lambda one: not isinstance(one, _SectionedOption)):
            record = shown.get_help_record(ctx)
            if record is not None:
                title = shown.section if isinstance(shown, _SectionedOption) else "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def console(*, error: bool = False) -> Console:
    """A rich console on standard output, or on standard error."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    return Console(stderr=error, highlight=False, width=None if stream.isatty() else _WIDTH_OFF_TERMINAL)


def clean(text: str) -> str:
    """Foreign text on one line, with the characters that could steer a terminal made visible.

    One character becomes one character, so that positions in the text stay right.
    """
    return "".join(" " if c in "\t\r\n" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_heading(word: str, subject: str, *, style: str, explanation: str = "") -> None:
    """A word in colour and what it is about; below it, a sentence."""
    from rich.text import Text

    out = console()
    out.print(Text.assemble((clean(word), f"bold {style}"), "  ", (clean(subject), "bold")), soft_wrap=True)
    if explanation:
        out.print(Text(f"  {clean(explanation)}"))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Pairs of name and value below each other; wrapped on a terminal, one line each elsewhere."""
    from rich.text import Text

    out = console()
    pairs = list(facts)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        text = clean(value)
        lines = textwrap.wrap(text, max(out.width - width - 4, 20)) if out.is_terminal else [text]
        for label, line in zip([name, *[""] * len(lines)], lines, strict=False):
            out.print(Text.assemble("  ", (label.ljust(width), "dim"), "  ", line), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under headings."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console().print(table)


def print_json(value: Any) -> None:
    """One JSON document on standard output; ASCII, because file names may hold bytes that are no text."""
    click.echo(json.dumps(to_plain(value), indent=2))


def print_error(error: GuardrailsError, *, as_json: bool) -> None:
    """One line and a hint on standard error, or one JSON document on standard output."""
    if as_json:
        print_json(error.to_json())
        return
    click.echo(f"error[{error.code}]: {clean(error.message)}", err=True)
    if error.hint:
        click.echo(f"hint: {clean(error.hint)}", err=True)


class Steps:
    """A progress bar on standard error that any `progress(done, total)` callback can drive; silent off a terminal."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label = label
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Steps:
        if not self._quiet:
            from rich.progress import Progress

            self._bar = Progress(console=console(error=True), transient=True)
            self._task = self._bar.add_task(self._label, total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def count(self, done: int) -> None:
        """A step where nobody knows how many there will be."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"{self._label}: {done:,}")

    def each(self, items: Iterable[_Item], total: int) -> Iterable[_Item]:
        """Pass items through, one step each."""
        for number, item in enumerate(items, start=1):
            yield item
            self(number, total)
