"""`guardrails`: the group of commands, loaded one by one, and what becomes of every error."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from guardrails.cli.installation import missing_extra, refuse_name_clash
from guardrails.cli.output import print_error
from guardrails.cli.status import INTERRUPTED, INVALID
from guardrails.errors import GuardrailsError, OptionError
from guardrails.version import __version__

SECTIONS = {
    "Make and verify": {
        "generate": "make pictures; release only what every guard passes",
        "seal": "sign finished files, folders of them",
        "verify": "say what a file proves: manifest, watermark, ledger",
        "mark": "write, read and measure the invisible watermark alone",
        "label": "draw the visible label alone",
        "screens": "look at pictures, calibrate what is seen, enrol faces",
        "demo": "the main job from prompt to proof, with a page to look at",
    },
    "Rules, keys and records": {
        "datasets": "audit a training set: licences, repeats, opt-outs; its card",
        "audit": "does a model repeat the works it learnt from",
        "policy": "check a policy pack, explain a decision",
        "keys": "make, examine and rotate the keys of this installation",
        "similarity": "index works and hash lists, find what a picture resembles",
        "manifests": "keep manifests, find them, give stripped files theirs back",
        "tsa": "time-stamps, so that signed files outlive their certificate",
        "ledger": "read, check and prove the record of everything made and refused",
    },
    "The service": {
        "serve": "answer OpenAI clients and people over HTTP",
        "admin": "tenants, API keys, accounts, and who changed what",
    },
    "The embedded model": {
        "pocket": "rebuild, train, index and evaluate it",
    },
}
COMMANDS = {name: text for commands in SECTIONS.values() for name, text in commands.items()}
EPILOG = """\b
Exit status
  0  done; verify: every file is confirmed, recovered or signed
  1  unexpected failure
  2  the input cannot be used
  3  refused by the policy
  4  verify: something is not confirmed; datasets check: somebody should look
  5  a model, screen or data set is not available
  6  a key, a signature, the watermark or the model failed
  7  storage or ledger failed

\b
Examples
  guardrails generate "a red apple on a blue background" --seed 7
  guardrails verify out
  guardrails policy explain "a castle in the style of greg rutkowski"
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
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="guardrails")
def guardrails() -> None:
    """No image leaves without an allowed prompt, screened pixels, a watermark, a manifest and a record."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `guardrails` script.

    Args:
        arguments: `sys.argv[1:]` when omitted.

    Returns:
        The exit status. An exception that leaves is a bug; Python then prints it and exits with 1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    as_json = "--json" in words
    try:
        refuse_name_clash()
        return int(guardrails.main(words, prog_name="guardrails", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return INVALID
    except click.UsageError as error:
        return _report(_as_option_error(error), as_json)
    except GuardrailsError as error:
        return _report(error, as_json)
    except ModuleNotFoundError as error:
        absent = missing_extra(error)
        if absent is None:
            raise
        return _report(absent, as_json)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; nothing unfinished was released", err=True)
        return INTERRUPTED


def _report(error: GuardrailsError, as_json: bool) -> int:
    print_error(error, as_json=as_json)
    return error.exit_status


def _as_option_error(error: click.UsageError) -> OptionError:
    path = error.ctx.command_path if error.ctx is not None else "guardrails"
    return OptionError(error.format_message().rstrip("."), hint=f"see `{path} --help`")
