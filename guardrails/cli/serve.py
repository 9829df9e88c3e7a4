"""`guardrails serve`: the HTTP service on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from guardrails.cli.output import home_option, json_option, print_heading, print_json

EPILOG = """\b
Examples
  guardrails serve
  guardrails serve --config service.toml
  guardrails serve --role worker --database postgresql://guardrails@db/guardrails
"""


@click.command(name="serve", epilog=EPILOG)
@click.option("--config", type=click.Path(path_type=Path), envvar="GUARDRAILS_SERVICE_CONFIG", help="TOML file.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 for any free.  [default: 8000]")
@click.option("--database", help="postgresql://... for many machines.  [default: SQLite in the home]")
@click.option(
    "--role",
    type=click.Choice(["all", "api", "worker", "signer", "sequencer", "ray"]),
    default="all",
    show_default=True,
    help="What to run; on many machines, one each.",
)
@home_option
@json_option
def command(
    config: Path | None,
    host: str | None,
    port: int | None,
    database: str | None,
    role: str,
    home: Path | None,
    as_json: bool,
) -> int:
    """Answer OpenAI clients and people over HTTP, with every picture guarded and recorded.

    Keys for clients and accounts for people are made with `guardrails admin`.
    """
    from service import processes
    from service.observation import log_to_stderr
    from service.settings import load

    settings = load(config, home=home, host=host, port=port, database=database)

    def started(address: str) -> None:
        if as_json:
            print_json({"address": address, "role": role})
            return
        print_heading("SERVING", address, style="green", explanation="Stop with Ctrl-C; what runs is finished first.")

    if role == "all":
        processes.serve(settings, started=started)
        return 0
    log_to_stderr(settings.log_level)
    match role:
        case "api":
            processes.run_api(settings, started=started)
        case "worker":
            processes.run_worker(settings, started=started)
        case "ray":
            processes.run_ray(settings)
        case "sequencer":
            processes.run_sequencer(settings, started=started)
        case _:
            processes.run_signer(settings, started=started)
    return 0
