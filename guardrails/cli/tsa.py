"""`guardrails tsa`: an own time-stamp authority, and time-stamps for files that were signed without one."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import click

from guardrails import home as homes
from guardrails.cli.output import home_option, json_option, print_facts, print_heading, print_json
from guardrails.errors import OptionError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DEFAULT_PORT = 3161

EPILOG = """\b
Examples
  guardrails tsa init
  guardrails tsa serve --port 3161
  guardrails tsa stamp out/picture.png
  guardrails tsa stamp out/picture.png --url http://127.0.0.1:3161/ --trust tsa-root.pem
"""


@click.group(name="tsa", epilog=EPILOG)
def command() -> None:
    """Keep signed files trusted after their certificate expires: time-stamps (RFC 3161)."""


@command.command()
@home_option
@json_option
def init(home: Path | None, as_json: bool) -> int:
    """Make the keys of an own authority; from then on it stamps what this installation signs."""
    from guardrails.provenance.certificates import ROOT_FILE
    from guardrails.provenance.timestamps import create_authority_keys
    from guardrails.provenance.timestamps.keys import TSA_FOLDER

    folder = homes.keys_folder(home or homes.home())
    made = create_authority_keys(folder, now=datetime.now(UTC))
    state, root = "created" if made else "kept", folder / TSA_FOLDER / ROOT_FILE
    if as_json:
        print_json({"state": state, "path": str(folder / TSA_FOLDER), "root": str(root)})
        return 0
    advice = (
        "Give root.pem to whoever verifies your files (`--trust`). "
        "An authority beside the signer proves less than one elsewhere."
    )
    print_heading("TIME-STAMP AUTHORITY", str(folder / TSA_FOLDER), style="green", explanation=advice)
    print_facts([("keys", state), ("root", str(root))])
    return 0


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 for any free.")
@home_option
@json_option
def serve(host: str, port: int, home: Path | None, as_json: bool) -> int:
    """Answer time-stamp requests over HTTP until stopped. Only this machine can reach it, unless --host says more."""
    import uvicorn

    from guardrails.provenance.timestamps import TimeStampAuthority
    from guardrails.provenance.timestamps.server import TimeStampApplication

    authority = TimeStampAuthority.open(homes.keys_folder(home or homes.home()))
    if host not in LOOPBACK:
        click.echo(f"warning: {host} is not loopback; anyone who reaches it can have digests stamped", err=True)
    # Listening before it is announced, so that whoever reads the address can use it.
    listening = _listen(host, port)
    config = uvicorn.Config(
        TimeStampApplication(authority),
        lifespan="off",
        log_level="warning",
        server_header=False,
        limit_concurrency=64,
        timeout_keep_alive=5,
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    if as_json:
        print_json({"address": address})
    else:
        print_heading("SERVING", address, style="green", explanation="Time-stamps by RFC 3161; stop with Ctrl-C.")
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OptionError(
            f"cannot listen on {host} port {port}: {error.strerror or error}", hint="choose another --host or --port"
        ) from error


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write here instead of replacing FILE.")
@click.option("--url", help="Of another authority; asked over the network.  [default: this installation's own]")
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="Trust anchors of --url (PEM).")
@home_option
@json_option
def stamp(
    file: Path, out: Path | None, url: str | None, trust: tuple[Path, ...], home: Path | None, as_json: bool
) -> int:
    """Add a time-stamp to FILE, which was signed without one; the signature stays what it is."""
    from guardrails.provenance import TrustStore
    from guardrails.provenance.stamping import stamp_path
    from guardrails.provenance.timestamps import Stamper, TimeStampAuthority, TimeStampClient

    if trust and url is None:
        raise OptionError("--trust belongs to --url", hint="the own authority needs no anchors")
    stamper: Stamper
    if url is None:
        stamper = TimeStampAuthority.open(homes.keys_folder(home or homes.home()))
    else:
        stamper = TimeStampClient(url, anchors=TrustStore.pem(*trust).anchors)
    target = out or file
    proven = stamp_path(file, target, stamper)
    if as_json:
        print_json({"file": str(target), "time": proven.time.isoformat(), "authority": proven.authority})
    else:
        print_heading("STAMPED", str(target), style="green")
        print_facts([("time", proven.time.isoformat()), ("authority", proven.authority)])
    return 0
