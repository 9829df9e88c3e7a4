"""`guardrails verify`: what files prove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, console, home_option, json_option, print_json

if TYPE_CHECKING:
    from guardrails.audit import FileReport

NOT_CONFIRMED = 4
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".gif", ".bmp"})


@click.command(name="verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["fast", "standard", "deep"]),
    default="standard",
    show_default=True,
    help="How hard the watermark is looked for.",
)
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="Further trust anchors (PEM).")
@home_option
@json_option
def command(files: tuple[Path, ...], mode: str, trust: tuple[Path, ...], home: Path | None, as_json: bool) -> int:
    """Say what FILES (or folders of images) prove: manifest, watermark, ledger, and whether they agree."""
    from guardrails.audit import Auditor, FileVerdict
    from guardrails.errors import ImageError
    from guardrails.provenance import TrustStore

    auditor = Auditor.open(home, trust=TrustStore.pem(*trust) if trust else None)
    reports: list[FileReport | dict[str, Any]] = []
    good = True
    paths = [path for file in files for path in _images(file)]
    with Steps("verifying", quiet=as_json or len(paths) < 3) as progress:
        for path in progress.each(paths, len(paths)):
            try:
                report = auditor.verify_file(path, mode=mode)
            except ImageError as error:
                reports.append({"source": str(path), **error.to_json()})
                good = False
                continue
            reports.append(report)
            good = good and report.verdict in (FileVerdict.CONFIRMED, FileVerdict.RECOVERED, FileVerdict.SIGNED)
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            show(report)
    return 0 if good else NOT_CONFIRMED


def _images(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def show(report: Any) -> None:
    """One file's report as a table."""
    from rich.table import Table

    out = console()
    if isinstance(report, dict):
        error = report["error"]
        out.print(f"[bold]{report['source']}[/bold]\n  error[{error['code']}]: {error['message']}")
        return
    table = Table(title=report.source, title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_row("verdict", f"[bold]{report.verdict.value}[/bold]  {report.explanation}")
    table.add_row("manifest", f"{report.manifest.status.value}  {report.manifest.explanation}")
    if report.mark is not None:
        mark = report.mark
        detail = report.problem or f"p = {mark.p_value:.1e}, {mark.tests} tests, {mark.stage}"
        table.add_row("watermark", f"{mark.verdict.value}  {detail}")
    else:
        table.add_row("pixels", report.problem)
    table.add_row("ledger", _ledger_line(report))
    if report.ledger.record_id:
        ledger = report.ledger
        rules = ", ".join(ledger.rules) or "no rule spoke"
        table.add_row("made", f"{ledger.created_at} by {ledger.model}")
        table.add_row("decision", f"{ledger.action} under {ledger.policy}; {rules}")
    table.add_row("ids", "  ".join(f"{layer} {name}" for layer, name in report.ids.items()) or "none")
    out.print(table)
    out.print()


def _ledger_line(report: FileReport) -> str:
    ledger = report.ledger
    if ledger.proof is None:
        return f"{ledger.status.value}  {ledger.reason}"
    proof = ledger.proof
    exact = "the very bytes that were released" if report.exact else "not the released bytes"
    return (
        f"{ledger.status.value}  record {proof.index} of {proof.size}, inclusion proof verified, "
        f"root {proof.root.hex()[:16]}, found by {ledger.found_by}; {exact}"
    )
