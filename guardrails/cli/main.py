"""`guardrails`: the group of commands, loaded one by one."""

from __future__ import annotations

import importlib
import sys

import click

from guardrails.cli.output import print_error
from guardrails.errors import GuardrailsError
from guardrails.version import __version__

COMMANDS = {
    "generate": "make pictures; release only what every guard passes",
    "verify": "say what a file proves: manifest, watermark, ledger",
    "demo": "the main job from prompt to proof, with a page to look at",
    "policy": "check a policy pack, explain a decision",
    "keys": "make, examine and rotate the keys of this installation",
    "ledger": "read and check the record of everything made and refused",
    "pocket": "rebuild, train, index and evaluate the embedded model",
}
EPILOG = """\b
Exit status
  0  done; verify: every file is confirmed, recovered or signed
  1  unexpected failure
  2  the input cannot be used
  3  refused by the policy or by a guard
  4  verify: something is not confirmed
  5  a model, screen or data set is not available
  6  a key, a signature, the watermark or the model failed
  7  storage or ledger failed

\b
Examples
  guardrails generate "a red apple on a blue background" --seed 7
  guardrails verify out/*.png
  guardrails policy explain "a portrait by a famous painter"
"""


class LazyGroup(click.Group):
    """Imports a command's module when the command is used; help for the group imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"guardrails.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="guardrails")
def guardrails() -> None:
    """No image leaves without an allowed prompt, screened pixels, a watermark, a manifest and a record."""


def main() -> None:
    """Entry point of the `guardrails` script."""
    as_json = "--json" in sys.argv
    try:
        sys.exit(guardrails.main(standalone_mode=False) or 0)
    except GuardrailsError as error:
        print_error(error, as_json=as_json)
        sys.exit(error.exit_status)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        if as_json:
            print_error(GuardrailsError(error.format_message(), hint="see --help"), as_json=True)
        else:
            error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; nothing unfinished was released", err=True)
        sys.exit(130)
