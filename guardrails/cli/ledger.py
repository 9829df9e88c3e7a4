"""`guardrails ledger`: the record of everything made and refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import home_option, json_option, print_facts, print_heading, print_json, print_table
from guardrails.errors import LedgerError

if TYPE_CHECKING:
    from guardrails.ledger import Ledger, LoggedRecord

_EMPTY: tuple[Any, ...] = (None, "", [], {})

EPILOG = """\b
Examples
  guardrails ledger list --limit 5
  guardrails ledger show 12
  guardrails ledger prove 12 > record-12.tlog-proof
"""


@click.group(name="ledger", epilog=EPILOG)
def command() -> None:
    """Read, check and prove the record of everything made and refused."""


@command.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@home_option
@json_option
def list_records(limit: int, home: Path | None, as_json: bool) -> int:
    """The newest records."""
    with _open(home) as ledger:
        size = len(ledger)
        found = [ledger.find_by_index(index) for index in range(size - 1, max(size - limit, 0) - 1, -1)]
    records = [logged for logged in found if logged is not None]
    if as_json:
        print_json({"size": size, "records": [_document(logged) for logged in records]})
        return 0
    columns = ("index", "created at", "kind", "action", "model", "id")
    print_table(columns, [_row(logged) for logged in records])
    print_facts([("records", f"{len(records)} of {size}")])
    return 0


@command.command()
@click.argument("which")
@click.option("--private", is_flag=True, help="Also print the erasable part: the prompt and the salts.")
@home_option
@json_option
def show(which: str, private: bool, home: Path | None, as_json: bool) -> int:
    """One record, its inclusion verified. WHICH is an index, a record id, a manifest id or a watermark id."""
    from guardrails.domain.canonical import to_plain

    with _open(home) as ledger:
        logged = _find(ledger, which)
        proof = ledger.verify_record(logged)
    if as_json:
        print_json({**_document(logged, private=private), "proof": proof})
        return 0
    record = logged.record
    print_heading(record.kind.value.upper(), record.id, style="green")
    facts: dict[str, Any] = {
        "index": f"{logged.index} of {proof.size}, inclusion proof verified to root {proof.root.hex()[:16]}",
        "created at": record.created_at,
        "policy": f"{record.policy.id} {record.policy.version} ({record.policy.digest})",
        "manifest": record.manifest_id,
        "watermark id": record.mark_id,
        "image sha256": record.image_sha256,
        "private part": _private_state(logged, private),
        **record.facts,
    }
    if private and logged.payload is not None:
        facts |= logged.payload
    print_facts([(name, _readable(value)) for name, value in to_plain(facts).items() if value not in _EMPTY])
    return 0


@command.command()
@home_option
@json_option
def fsck(home: Path | None, as_json: bool) -> int:
    """Walk the whole log and recompute every hash, proof and signature."""
    with _open(home) as ledger:
        count = ledger.fsck()
        vkey = ledger.vkey
    if as_json:
        print_json({"ok": True, "records": count, "vkey": vkey})
    else:
        print_heading("OK", f"{count} records, every hash and signature recomputed", style="green")
        print_facts([("public key", vkey)])
    return 0


@command.command()
@click.argument("index", type=int)
@home_option
@json_option
def prove(index: int, home: Path | None, as_json: bool) -> int:
    """Print the inclusion proof of record INDEX (C2SP tlog-proof): checked offline, with the log's public key alone."""
    with _open(home) as ledger:
        text = ledger.tlog_proof(index)
        vkey = ledger.vkey
    if as_json:
        print_json({"proof": text, "vkey": vkey})
    else:
        click.echo(text, nl=False)
    return 0


def _open(home: Path | None) -> Ledger:
    from guardrails.ledger import Ledger

    return Ledger.open(homes.ledger_folder(home or homes.home()), create=False)


def _find(ledger: Ledger, which: str) -> LoggedRecord:
    by_index = ledger.find_by_index(int(which)) if which.isascii() and which.isdigit() and len(which) < 16 else None
    found = by_index or ledger.find_by_id(which) or ledger.find_by_manifest(which) or ledger.find_by_mark(which)
    if found is None:
        raise LedgerError(f"no record {which!r} in the ledger", hint="see `guardrails ledger list`")
    return found


def _document(logged: LoggedRecord, *, private: bool = False) -> dict[str, Any]:
    document: dict[str, Any] = {"index": logged.index, "record": logged.record}
    return {**document, "payload": logged.payload} if private else document


def _row(logged: LoggedRecord) -> tuple[str, ...]:
    record = logged.record
    model = record.facts.get("generation", {}).get("model", "")
    return (
        str(logged.index),
        record.created_at,
        record.kind.value,
        str(record.facts.get("action", "")),
        str(model),
        record.id,
    )


def _private_state(logged: LoggedRecord, shown: bool) -> str:
    if logged.payload is None:
        return "none, or erased"
    return "below" if shown else "kept (print it with --private)"


def _readable(value: Any) -> str:
    """A fact on one line, without braces and empty fields."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_readable(item)}" for name, item in value.items() if item not in _EMPTY)
    if isinstance(value, list):
        return "; ".join(_readable(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
