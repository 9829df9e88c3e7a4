"""`guardrails keys`: the signing chain and the watermark key of this installation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails import home as homes
from guardrails.cli.output import home_option, json_option, print_facts, print_heading, print_json, print_table
from guardrails.cli.status import UNFIT_KEYS
from guardrails.errors import KeyMaterialError

if TYPE_CHECKING:
    from guardrails.provenance import Diagnosis

EPILOG = """\b
Examples
  guardrails keys init
  guardrails keys doctor
  guardrails keys doctor --chain chain.pem --key key.pem
"""


@click.group(name="keys", epilog=EPILOG)
def command() -> None:
    """Make, examine and rotate the keys of this installation."""


@command.command()
@home_option
@json_option
def init(home: Path | None, as_json: bool) -> int:
    """Make development signing keys and a watermark key; keep those that are there.

    Development certificates are trusted only where their root is added: they are not for production.
    """
    from guardrails.provenance import create_dev_chain
    from guardrails.provenance.certificates import KEY_FOLDER
    from guardrails.watermark.keys import KEY_FILE, Keyring

    folder = _folder(home)
    parts = {"signing": folder / KEY_FOLDER, "watermark": folder / KEY_FILE}
    states = {name: "kept" if path.exists() else "created" for name, path in parts.items()}
    create_dev_chain(folder, now=datetime.now(UTC))
    Keyring.load_or_create(folder)
    if as_json:
        print_json({name: {"path": str(path), "state": states[name]} for name, path in parts.items()})
    else:
        advice = "Back up the watermark key: without it the marks in released pictures cannot be read."
        print_heading("KEYS", str(folder), style="green", explanation=advice)
        print_facts([(name, f"{states[name]}: {path}") for name, path in parts.items()])
    return 0


@command.command()
@home_option
@json_option
def rotate(home: Path | None, as_json: bool) -> int:
    """Issue a new signing key and certificate under the same development root."""
    from guardrails.provenance import rotate_dev_leaf
    from guardrails.provenance.certificates import load_dev_key

    folder = _folder(home)
    rotate_dev_leaf(folder, now=datetime.now(UTC))
    leaf = load_dev_key(folder).leaf
    expires = leaf.not_valid_after_utc.isoformat()
    if as_json:
        print_json({"keys": str(folder), "serial_number": f"{leaf.serial_number:x}", "expires": expires})
    else:
        print_heading("ROTATED", str(folder), style="green")
        print_facts([("serial number", f"{leaf.serial_number:x}"), ("expires", expires)])
    return 0


@command.command()
@click.option("--chain", type=click.Path(path_type=Path), help="PEM certificates, leaf first.  [default: own]")
@click.option("--key", type=click.Path(path_type=Path), help="PEM private key of --chain.")
@click.option("--password-file", type=click.Path(path_type=Path), help="First line: the password of --key.")
@home_option
@json_option
def doctor(chain: Path | None, key: Path | None, password_file: Path | None, home: Path | None, as_json: bool) -> int:
    """Name every rule that the keys have to meet, whether it holds, and how to mend it."""
    from guardrails.provenance import doctor as diagnose
    from guardrails.provenance.opening import open_key

    signing = open_key(_folder(home), chain, key, password_file)
    diagnoses = list(diagnose(signing.chain_pem, signing.key_pem))
    if chain is None:
        diagnoses.append(_diagnose_watermark_key(_folder(home)))
    if as_json:
        print_json(diagnoses)
    else:
        print_table(("", "rule", "why", "fix"), [(_mark(d), d.rule, d.why, d.fix) for d in diagnoses])
    return 0 if all(diagnosis.passed or not diagnosis.required for diagnosis in diagnoses) else UNFIT_KEYS


def _folder(home: Path | None) -> Path:
    return homes.keys_folder(home or homes.home())


def _diagnose_watermark_key(folder: Path) -> Diagnosis:
    from guardrails.provenance import Diagnosis
    from guardrails.watermark.keys import KEY_FILE, Keyring

    rule = "watermark key"
    if not (folder / KEY_FILE).exists():
        return Diagnosis(
            rule=rule, passed=False, why=f"{folder / KEY_FILE} does not exist", fix="run `guardrails keys init`"
        )
    try:
        Keyring.load_or_create(folder)
    except KeyMaterialError as error:
        return Diagnosis(rule=rule, passed=False, why=error.message, fix=error.hint)
    return Diagnosis(rule=rule, passed=True)


def _mark(diagnosis: Diagnosis) -> str:
    if diagnosis.passed:
        return "ok"
    return "FAIL" if diagnosis.required else "warn"
