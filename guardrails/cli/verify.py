"""`guardrails verify`: what files prove."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.generate import quiet_libraries
from guardrails.cli.output import (
    Steps,
    database_option,
    home_option,
    json_option,
    print_error,
    print_facts,
    print_heading,
    print_json,
)
from guardrails.cli.picture_files import pictures_of
from guardrails.cli.rubric import check_files
from guardrails.cli.status import NOT_CONFIRMED
from guardrails.errors import ImageError, OptionError

if TYPE_CHECKING:
    from guardrails.audit import Auditor, FileReport
    from guardrails.domain.images import ManifestVerdict, MarkReading
    from guardrails.watermark.public_marks import PublicMark

# What counts as an image in a folder; a file that is named itself is read whatever its name.
PROVEN = frozenset({"confirmed", "recovered", "signed"})
WRONG = frozenset({"conflict", "tampered", "unreadable"})

EPILOG = """\b
Verdicts
  confirmed   manifest, watermark and ledger name the same image
  recovered   stripped or changed since, but the watermark leads to the ledger's record, or
              the manifest was kept
  signed      a manifest of a trusted signer alone
  suspected   a trace of the watermark, or a manifest of an unknown signer; no proof
  not_found   no evidence; that does not mean the image is not AI-made
  conflict, tampered, unreadable

\b
Examples
  guardrails verify picture.png
  guardrails verify out downloads/*.jpg --mode deep --json
  guardrails verify out --rubric
  guardrails verify regenerated.png --latent pocket
"""


@click.command(name="verify", epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["fast", "standard", "deep"]),
    default="deep",
    show_default=True,
    help="How hard the watermark is looked for.",
)
@click.option(
    "--strict", is_flag=True, help="Also look at bytes that no signature covers: padding, headers, checksums."
)
@click.option("--rubric", is_flag=True, help="Judge only how manifests are formed: 31 statements for C2PA 2.4.")
@click.option(
    "--latent",
    "latent_model",
    metavar="MODEL",
    help="Look for the latent mark too, with this model: pocket, a diffusers folder or a hub id. Seconds a picture.",
)
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="Further trust anchors (PEM).")
@database_option
@home_option
@json_option
def command(
    files: tuple[Path, ...],
    mode: str,
    strict: bool,
    rubric: bool,
    latent_model: str | None,
    trust: tuple[Path, ...],
    database: str,
    home: Path | None,
    as_json: bool,
) -> int:
    """Say what FILES prove: manifest, watermark, ledger, and whether they agree.

    Folders stand for the images in them. Exits with 0 only when every file is confirmed, recovered or signed; with
    --rubric, when every manifest meets every statement.
    """
    paths = [path for file in files for path in images_of(file)]
    from guardrails.audit import Auditor
    from guardrails.provenance import TrustStore

    anchors = TrustStore.pem(*trust) if trust else None
    if latent_model:
        quiet_libraries()
    with Steps("loading the model", quiet=as_json or not latent_model):
        auditor = Auditor.open(home, trust=anchors, strict=strict, latent_model=latent_model, database=database)
    if rubric:
        return check_files(paths, auditor.verifier, as_json=as_json)
    results: list[FileReport | dict[str, Any]] = []
    for path in paths:
        with Steps(f"verifying {path.name}", quiet=as_json):
            result = _verify(auditor, path, mode)
        results.append(result)
        if not as_json:
            show(result)
    if as_json:
        print_json(results)
    elif len(results) > 1:
        _show_total(results)
    return 0 if all(_verdict(result) in PROVEN for result in results) else NOT_CONFIRMED


def images_of(path: Path) -> list[Path]:
    found = list(pictures_of([path]))
    if not found:
        raise OptionError(f"there is no image in the folder {path}", hint="name image files, or another folder")
    return found


def _verify(auditor: Auditor, path: Path, mode: str) -> FileReport | dict[str, Any]:
    """The report on a file, or the error of one that cannot be read: it must not keep the others from their turn."""
    try:
        return auditor.verify_file(path, mode=mode)
    except ImageError as error:
        return {"source": str(path), "verdict": "unreadable", **error.to_json()}


def _verdict(result: Any) -> str:
    return str(result["verdict"] if isinstance(result, dict) else result.verdict.value)


def _show_total(results: list[Any]) -> None:
    counts = Counter(_verdict(result) for result in results)
    detail = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.most_common())
    click.echo(f"{len(results)} files: {detail}")


def show(result: Any) -> None:
    """One file's report for people."""
    if isinstance(result, dict):
        print_heading("UNREADABLE", result["source"], style="red")
        print_error(ImageError(result["error"]["message"], hint=result["error"]["hint"]), as_json=False)
        return
    verdict = _verdict(result)
    style = "green" if verdict in PROVEN else "red" if verdict in WRONG else "yellow"
    print_heading(verdict.replace("_", " ").upper(), result.source, style=style, explanation=result.explanation)
    print_facts(_facts(result))


def _facts(report: FileReport) -> list[tuple[str, str]]:
    manifest, ledger = report.manifest, report.ledger
    facts = [("manifest", f"{manifest.status.value}: {manifest.explanation}")]
    if manifest.issuer:
        attested = " (attested by a time-stamp authority)" if manifest.time_stamped else ""
        facts.append(("signed", f"{manifest.signed_at} by {manifest.issuer}{attested}".strip()))
        facts.append(("checks", _checks(manifest)))
    if manifest.label:
        facts.append(("visible label", f"the manifest says that the picture reads {manifest.label}"))
    facts += _recovery(report)
    facts.append(("watermark", _mark(report)))
    if report.latent is not None:
        facts.append(("latent mark", _reading(report.latent)))
    if report.public_mark is not None:
        facts.append(("public mark", _public_mark(report.public_mark)))
    facts.append(("ledger", _ledger(report)))
    if ledger.record_id:
        rules = ", ".join(ledger.rules) or "no rule spoke"
        facts += [
            ("made", f"{ledger.created_at} by {ledger.model}"),
            ("decision", f"{ledger.action} under policy {ledger.policy}; {rules}"),
        ]
    if report.ids:
        facts.append(("ids", ", ".join(f"{layer} {identifier}" for layer, identifier in report.ids.items())))
    return facts


def _checks(manifest: ManifestVerdict) -> str:
    parts = ("integrity", "signature", "trust", "lineage")
    return ", ".join(f"{part} {getattr(manifest, part).value.replace('_', ' ')}" for part in parts)


def _recovery(report: FileReport) -> list[tuple[str, str]]:
    recovery = report.recovery
    if recovery is None:
        return []
    kept = recovery.manifest
    bits = ((recovery.iscc_bits, "ISCC {} of 64"), (recovery.pdq_bits, "PDQ {} of 256"))
    near = ", ".join(text.format(count) for count, text in bits if count is not None)
    level = recovery.level.value.replace("_", " ")
    return [
        ("kept manifest", f"{level}, found by {recovery.found_by}{f'; bits that differ: {near}' if near else ''}"),
        ("", f"{kept.manifest_id}: {kept.status.value}: {kept.explanation}"),
        ("", f"signed {kept.signed_at} by {kept.issuer}, model {kept.model or 'not named'}, kept {recovery.added_at}"),
        ("", f"wrong: {recovery.error_rate}"),
    ]


def _mark(report: FileReport) -> str:
    mark = report.mark
    if mark is None:
        return f"not looked for: {report.problem}"
    if report.problem:
        return f"{mark.verdict.value}: {report.problem}"
    return _reading(mark)


def _reading(mark: MarkReading) -> str:
    return f"{mark.verdict.value.replace('_', ' ')}: p = {mark.p_value:.1e} over {mark.tests} tests ({mark.stage})"


def _public_mark(mark: PublicMark) -> str:
    return (
        f"{mark.program}'s known public mark, {mark.agreeing} of {mark.bits} bits; anyone can write it, "
        "so it proves nothing"
    )


def _ledger(report: FileReport) -> str:
    ledger, proof = report.ledger, report.ledger.proof
    if proof is None:
        return f"{ledger.status.value.replace('_', ' ')}: {ledger.reason}"
    exact = "the very bytes that were released" if report.exact else "not the very bytes that were released"
    return (
        f"record {proof.index} of {proof.size}, found by {ledger.found_by}, inclusion proof verified to root "
        f"{proof.root.hex()[:16]}; {exact}"
    )
