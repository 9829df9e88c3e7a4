"""`guardrails ledger`: the record of everything made and refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guardrails import home as homes
from guardrails.cli.output import (
    database_option,
    home_option,
    json_option,
    print_facts,
    print_heading,
    print_json,
    print_table,
)
from guardrails.cli.status import NOT_CONFIRMED
from guardrails.errors import KeyMaterialError, LedgerError

if TYPE_CHECKING:
    from guardrails.ledger import Ledger, LoggedRecord

_EMPTY: tuple[Any, ...] = (None, "", [], {})

EPILOG = """\b
Examples
  guardrails ledger list --limit 5
  guardrails ledger show 12
  guardrails ledger prove 12 > record-12.tlog-proof
  guardrails ledger export --from 100 --to 200 --out records.zip
  guardrails ledger verify record-12.tlog-proof records.zip --vkey log.vkey
  guardrails ledger erase 6f0c7b0e-5d0f-4c62-9d0a-0c9a3f6f2b11 --ground "asked for by the person"
  guardrails ledger retain --jurisdiction eu --dry-run
"""

_T = TypeVar("_T", bound=Callable[..., Any])


def where_options(command: _T) -> _T:
    """Which ledger: the home folder, and the database when it is not SQLite there."""
    return home_option(database_option(json_option(command)))


@click.group(name="ledger", epilog=EPILOG)
def command() -> None:
    """Read, check, prove and erase in the record of everything made and refused."""


@command.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@where_options
def list_records(limit: int, home: Path | None, database: str, as_json: bool) -> int:
    """The newest records."""
    with _open(home, database) as ledger:
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
@click.option("--private", is_flag=True, help="Also decrypt and print the erasable part: the prompt and the salts.")
@where_options
def show(which: str, private: bool, home: Path | None, database: str, as_json: bool) -> int:
    """One record, its inclusion verified. WHICH is an index, a record id, a manifest id or a watermark id."""
    from guardrails.domain.canonical import to_plain

    with _open(home, database) as ledger:
        logged = _find(ledger, which)
        proof = ledger.verify_record(logged)
        payload = ledger.payload(logged.record.id) if private else None
        state = _private_state(ledger, logged, shown=private)
    record = logged.record
    if as_json:
        print_json({**_document(logged), **({"payload": payload} if private else {}), "private": state, "proof": proof})
        return 0
    print_heading(record.kind.value.upper(), record.id, style="green")
    facts: dict[str, Any] = {
        "index": f"{logged.index} of {proof.size}, inclusion proof verified to root {proof.root.hex()[:16]}",
        "created at": record.created_at,
        "policy": f"{record.policy.id} {record.policy.version} ({record.policy.digest})",
        "manifest": record.manifest_id,
        "watermark id": record.mark_id,
        "image sha256": record.image_sha256,
        "private part": state,
        **record.facts,
        **(payload or {}),
    }
    print_facts([(name, _readable(value)) for name, value in to_plain(facts).items() if value not in _EMPTY])
    return 0


@command.command()
@where_options
def fsck(home: Path | None, database: str, as_json: bool) -> int:
    """Walk the whole log and recompute every hash, proof and signature."""
    with _open(home, database) as ledger:
        count = ledger.fsck()
        waiting, oldest = ledger.backlog()
        vkey = ledger.vkey
    if as_json:
        print_json({"ok": True, "records": count, "waiting": waiting, "oldest_waiting": oldest, "vkey": vkey})
        return 0
    print_heading("OK", f"{count} records, every hash and signature recomputed", style="green")
    facts = [("public key", vkey)]
    if waiting:
        facts.append(("waiting", f"{waiting} records for their place, the oldest of {oldest}"))
    print_facts(facts)
    return 0


@command.command()
@click.argument("index", type=int)
@where_options
def prove(index: int, home: Path | None, database: str, as_json: bool) -> int:
    """Print record INDEX with its inclusion proof (C2SP tlog-proof): checked offline, with the public key alone."""
    with _open(home, database) as ledger:
        text = ledger.tlog_proof(index)
        vkey = ledger.vkey
    if as_json:
        print_json({"proof": text, "vkey": vkey})
    else:
        click.echo(text, nl=False)
    return 0


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--vkey", default="", help="The log's verifier key, or its file.  [default: that of the home folder]")
@home_option
@json_option
def verify(files: tuple[Path, ...], vkey: str, home: Path | None, as_json: bool) -> int:
    """Check FILES without the log: proofs, exported bundles, receipts and checkpoints."""
    from guardrails.ledger.offline import Auditor, Invalid

    path = Path(vkey) if vkey else homes.ledger_folder(home or homes.home()) / "log.vkey"
    try:
        auditor = Auditor(path.read_text(encoding="utf-8") if not vkey or path.is_file() else vkey)
    except (Invalid, OSError, ValueError) as error:
        raise KeyMaterialError(f"the verifier key cannot be used: {error}", hint="name it with --vkey") from error
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            results.append({"file": str(file), "ok": True, "shows": auditor.file(file)})
        except Invalid as error:
            results.append({"file": str(file), "ok": False, "shows": str(error)})
    if as_json:
        print_json({"results": results})
    else:
        for each in results:
            word, style = ("OK", "green") if each["ok"] else ("INVALID", "red")
            print_heading(word, each["file"], style=style, explanation=each["shows"])
    return 0 if all(each["ok"] for each in results) else NOT_CONFIRMED


@command.command()
@click.option("--from", "start", type=click.IntRange(min=0), default=0, show_default=True, help="First index.")
@click.option("--to", "stop", type=click.IntRange(min=1), help="Index after the last one.  [default: the whole log]")
@click.option(
    "--since",
    "earlier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that was kept earlier: the archive then shows that the log only grew since.",
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The zip archive to write.")
@where_options
def export(
    start: int, stop: int | None, earlier: Path | None, out: Path, home: Path | None, database: str, as_json: bool
) -> int:
    """Write records with their proofs, and the verifier, to one archive. It holds nothing private."""
    from guardrails.ledger import export_bundle

    with _open(home, database) as ledger:
        note = earlier.read_text(encoding="utf-8", errors="replace") if earlier else ""
        count = export_bundle(ledger, out, start, stop if stop is not None else len(ledger), earlier=note)
        vkey = ledger.vkey
    if as_json:
        print_json({"file": str(out), "records": count, "vkey": vkey})
    else:
        print_facts([("archive", str(out)), ("records", str(count)), ("public key", vkey)])
    return 0


@command.command()
@click.argument("which", nargs=-1, required=True)
@click.option("--ground", required=True, help="Why, for the permanent record; no personal data.")
@click.option("--jurisdiction", "names", multiple=True, help="Refuse what this profile still wants kept; repeatable.")
@where_options
def erase(
    which: tuple[str, ...], ground: str, names: tuple[str, ...], home: Path | None, database: str, as_json: bool
) -> int:
    """Destroy the private part of records for good: prompt, key and salts. Entries stay, and proofs still verify."""
    from guardrails.ledger.retention import check_erasable, load_retention

    retention = load_retention(names) if names else None
    with _open(home, database, writes=True) as ledger:
        found = [_find(ledger, each) for each in which]
        for logged in found:
            if retention is not None:
                check_erasable(logged.record.created_at, retention, datetime.now(UTC))
        ids = [logged.record.id for logged in found]
        pictures = _remove_evidence(ledger, ids, home)
        receipt = ledger.erase(ids, ground=ground)
    if as_json:
        print_json({"erased": ids, "evidence_files": pictures, "receipt": receipt})
    else:
        print_facts(
            [("erased", str(len(ids))), ("recorded at", f"index {receipt.index}"), ("by record", receipt.record_id)]
        )
    return 0


@command.command()
@click.option(
    "--jurisdiction", "names", multiple=True, required=True, help="A profile or a .yaml file of one's own; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Only tell what is due.")
@where_options
def retain(names: tuple[str, ...], dry_run: bool, home: Path | None, database: str, as_json: bool) -> int:
    """Erase the private part of every record that is older than its jurisdictions let it be kept."""
    from guardrails.ledger.retention import load_retention, sweep

    retention = load_retention(names)
    with _open(home, database, writes=not dry_run) as ledger:
        now = datetime.now(UTC)
        if not dry_run:
            _remove_evidence(ledger, sweep(ledger, retention, now, dry_run=True), home)
        ids = sweep(ledger, retention, now, dry_run=dry_run)
    if as_json:
        print_json({"profile": retention.name, "erase_days": retention.erase_days, "dry_run": dry_run, "records": ids})
    else:
        word = "due" if dry_run else "erased"
        print_facts([("profile", f"{retention.name}: {retention.erase_days} days"), (word, f"{len(ids)} records")])
    return 0


def _open(home: Path | None, database: str = "", *, writes: bool = False) -> Ledger:
    from guardrails.ledger import Ledger

    folder = homes.ledger_folder(home or homes.home())
    if writes and not folder.exists():
        raise LedgerError(f"there is no ledger in {folder}", hint="check the folder; `generate` makes a ledger")
    return Ledger.open(folder, database=database, create=writes)


def _find(ledger: Ledger, which: str) -> LoggedRecord:
    by_index = ledger.find_by_index(int(which)) if which.isascii() and which.isdigit() and len(which) < 16 else None
    found = by_index or ledger.find_by_id(which) or ledger.find_by_manifest(which) or ledger.find_by_mark(which)
    if found is None:
        raise LedgerError(f"no record {which!r} in the ledger", hint="see `guardrails ledger list`")
    return found


def _remove_evidence(ledger: Ledger, record_ids: list[str], home: Path | None) -> int:
    """Remove the pictures for reviewers that private parts name; how many."""
    folder, removed = homes.evidence_folder(home or homes.home()), 0
    for record_id in record_ids:
        named = Path(str((ledger.payload(record_id) or {}).get("evidence_file") or ""))
        kept = folder / named.name
        if named.name and kept.is_file():
            kept.unlink()
            removed += 1
    return removed


def _document(logged: LoggedRecord) -> dict[str, Any]:
    return {"index": logged.index, "record": logged.record}


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


def _private_state(ledger: Ledger, logged: LoggedRecord, *, shown: bool) -> str:
    if not logged.payload_sha256:
        return "none"
    event = ledger.erased_by(logged.record.id)
    if event:
        return f"erased, told by record {event}"
    return "decrypted" if shown else "kept (print it with --private)"


def _readable(value: Any) -> str:
    """A fact on one line, without braces and empty fields."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_readable(item)}" for name, item in value.items() if item not in _EMPTY)
    if isinstance(value, list):
        return "; ".join(_readable(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
