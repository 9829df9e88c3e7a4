"""What commands print: tables for people, one JSON document with --json, one-line errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guardrails.domain.canonical import to_plain
from guardrails.errors import GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

_Item = TypeVar("_Item")

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GUARDRAILS_HOME",
    help="Keys and ledger of this installation  [default: ~/.guardrails]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def console(*, error: bool = False) -> Console:
    """A rich console on standard output, or on standard error."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(to_plain(value), indent=2, ensure_ascii=False))


def print_error(error: GuardrailsError, *, as_json: bool) -> None:
    """One line and a hint on standard error, or one JSON document on standard output."""
    if as_json:
        print_json(error.to_json())
        return
    click.echo(f"error[{error.code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


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

    def each(self, items: Iterable[_Item], total: int) -> Iterable[_Item]:
        """Pass items through, one step each."""
        for number, item in enumerate(items, start=1):
            yield item
            self(number, total)
