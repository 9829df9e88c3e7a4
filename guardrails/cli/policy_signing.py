"""`guardrails policy sign` and `verify`: whose rules these are."""

from __future__ import annotations

from pathlib import Path

import click

from guardrails.cli.output import json_option, print_facts, print_heading, print_json
from guardrails.cli.status import NOT_CONFIRMED

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("pack", type=_FILE)
@click.option("--key", "key_file", type=_FILE, required=True, help="Ed25519 private key, PEM.")
@json_option
def sign(pack: Path, key_file: Path, as_json: bool) -> int:
    """Sign the YAML file PACK; the signature lies beside it and travels with every decision."""
    from guardrails.policy import load_policy
    from guardrails.policy.signing import check_signature, load_private_key, sign_policy, signature_path

    policy = load_policy(pack)
    signature = sign_policy(pack, policy.ref, load_private_key(key_file))
    key = check_signature(policy.ref, signature)
    if as_json:
        print_json({"policy": policy.ref, "key": key, "signature": signature, "file": str(signature_path(pack))})
        return 0
    print_heading("SIGNED", f"{policy.id} {policy.version}", style="green")
    print_facts([("digest", policy.digest), ("key", key), ("signature", str(signature_path(pack)))])
    return 0


@click.command()
@click.argument("pack")
@click.option("--key", "key_file", type=_FILE, help="Ed25519 public key that must have signed, PEM.")
@json_option
def verify(pack: str, key_file: Path | None, as_json: bool) -> int:
    """Check the signature beside PACK against the rules that it holds now.

    Without --key this says which key signed, not that it is one to trust. Exits with 4 when there is no such signature.
    """
    from guardrails.errors import PolicyError
    from guardrails.policy import load_policy
    from guardrails.policy.signing import check_signature, load_public_key

    policy = load_policy(pack)
    trusted = load_public_key(key_file) if key_file else None
    key, problem = "", ""
    try:
        if not policy.signature:
            raise PolicyError("there is no signature of these rules", hint="sign the pack")
        key = check_signature(policy.ref, policy.signature, trusted=trusted)
    except PolicyError as error:
        problem = error.message
    if as_json:
        print_json({"policy": policy.ref, "key": key, "trusted": bool(trusted and not problem), "problem": problem})
    else:
        word, style = ("NOT SIGNED", "red") if problem else ("SIGNED", "green")
        print_heading(word, f"{policy.id} {policy.version}", style=style, explanation=problem)
        print_facts([("digest", policy.digest), ("key", key or "none")])
    return NOT_CONFIRMED if problem else 0
