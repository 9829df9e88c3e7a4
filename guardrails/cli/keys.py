"""`guardrails keys`: the signing chain and the watermark key of this installation."""

from __future__ import annotations

from pathlib import Path

import click

from guardrails.cli.output import console, home_option, json_option, print_json

UNUSABLE = 6


@click.group(name="keys")
def command() -> None:
    """Make, examine and rotate the keys of this installation."""


@command.command()
@home_option
@json_option
def init(home: Path | None, as_json: bool) -> int:
    """Make development signing keys and a watermark key; keeps what is there."""
    from guardrails import home as homes
    from guardrails.provenance import Signer
    from guardrails.watermark.keys import Keyring

    folder = homes.keys_folder(home or homes.home())
    Signer.dev(folder)
    Keyring.load_or_create(folder)
    if as_json:
        print_json({"keys": str(folder)})
    else:
        console().print(f"keys in {folder} (development root: trusted only where you add it)")
    return 0


@command.command()
@home_option
@json_option
def rotate(home: Path | None, as_json: bool) -> int:
    """Issue a new signing certificate under the same development root."""
    from datetime import UTC, datetime

    from guardrails import home as homes
    from guardrails.provenance import rotate_dev_leaf

    folder = homes.keys_folder(home or homes.home())
    rotate_dev_leaf(folder, now=datetime.now(UTC))
    if as_json:
        print_json({"keys": str(folder), "rotated": True})
    else:
        console().print(f"new signing certificate in {folder}")
    return 0


@command.command()
@click.option("--chain", type=click.Path(path_type=Path), help="PEM certificates  [default: this installation's]")
@click.option("--key", type=click.Path(path_type=Path), help="PEM private key")
@home_option
@json_option
def doctor(chain: Path | None, key: Path | None, home: Path | None, as_json: bool) -> int:
    """Name every certificate rule, whether it holds, why it matters and how to mend it."""
    from guardrails import home as homes
    from guardrails.provenance import doctor as diagnose
    from guardrails.provenance.certificates import load_dev_key, load_key_files

    if chain is not None and key is not None:
        loaded = load_key_files(chain, key)
    else:
        loaded = load_dev_key(homes.keys_folder(home or homes.home()))
    diagnoses = diagnose(loaded.chain_pem, loaded.key_pem)
    if as_json:
        print_json(diagnoses)
    else:
        out = console()
        for diagnosis in diagnoses:
            out.print(f"{'ok  ' if diagnosis.passed else 'FAIL'} {diagnosis.rule}", markup=False)
            if not diagnosis.passed:
                out.print(f"     why: {diagnosis.why}\n     fix: {diagnosis.fix}", markup=False)
    return 0 if all(diagnosis.passed for diagnosis in diagnoses) else UNUSABLE
