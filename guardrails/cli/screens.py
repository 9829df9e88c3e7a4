"""`guardrails screens`: what is seen in pictures, how sure that is, and whom the face gallery knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, clean, home_option, json_option, print_facts, print_heading, print_json
from guardrails.cli.picture_files import pictures_of
from guardrails.cli.screens_calibration import calibrate, report, verify
from guardrails.cli.screens_persons import enrol, forget, persons
from guardrails.cli.screens_training import train
from guardrails.cli.status import REFUSED

if TYPE_CHECKING:
    from guardrails.screens.protocol import Screen
    from guardrails.screens.scanning import Scan

EPILOG = """\b
Examples
  guardrails screens scan picture.png
  guardrails screens scan downloads --html sheet.html --heat
  guardrails screens scan downloads --concepts house-rules.yaml --json
  guardrails screens scan picture.png --policy public-figures-by-face --prompt "Jane Doe on a stage"

\b
Exits with 3 when the policy holds back one of the files.
"""
_STYLES = {"allow": "green", "flag": "yellow", "review": "yellow", "block": "red"}


@click.group(name="screens")
def command() -> None:
    """Look at pictures, learn concepts, calibrate what is seen, enrol faces."""


for _one in (train, calibrate, verify, report, enrol, forget, persons):
    command.add_command(_one)


@command.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--policy", default="default", show_default=True, help="Name of a pack, or a YAML file.")
@click.option("--concepts", multiple=True, type=click.Path(path_type=Path), help="Further concept packs.")
@click.option("--prompt", default="", help="What FILES are said to show; whom it names is joined with the faces.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a sheet to look at.")
@click.option("--heat", is_flag=True, help="In the sheet, show where each concept is seen.")
@home_option
@json_option
def scan(
    files: tuple[Path, ...],
    policy: str,
    concepts: tuple[Path, ...],
    prompt: str,
    html: Path | None,
    heat: bool,
    home: Path | None,
    as_json: bool,
) -> int:
    """Run every screen over FILES, or over the pictures in folders."""
    from guardrails.domain.requests import PromptRequest
    from guardrails.errors import GuardrailsError
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard
    from guardrails.screens import default_screens
    from guardrails.screens.concepts import read_pack, shipped_pack
    from guardrails.screens.scanning import scan as scan_bytes

    pack = load_policy(policy)
    prompted = PromptGuard(pack).decide(PromptRequest(prompt=prompt)).findings if prompt else ()
    packs = (shipped_pack(), *(read_pack(path) for path in concepts))
    screens = default_screens(packs=packs, gallery=homes.faces_folder(home or homes.home()))
    paths = list(pictures_of(files))
    scans: list[tuple[Path, Scan | GuardrailsError]] = []
    with Steps("Looking", quiet=as_json) as steps:
        for path in steps.each(paths, len(paths)):
            try:
                scans.append((path, scan_bytes(read_image_bytes(path), screens, pack.screen_rules, prompted)))
            except GuardrailsError as error:
                scans.append((path, error))
    if html is not None:
        from guardrails.cli.screens_sheet import write_sheet

        write_sheet(scans, html, packs, _heated(screens) if heat else None)
    if as_json:
        print_json([{"file": str(path), **as_plain(scanned)} for path, scanned in scans])
    else:
        for path, scanned in scans:
            _show(path, scanned)
        if html is not None:
            click.echo(f"Sheet: {html}")
    return REFUSED if any(not _releases(scanned) for _, scanned in scans) else 0


def _heated(screens: Iterable[Screen]) -> Any:
    from guardrails.screens.clip_concepts import ClipConcepts

    return next((screen for screen in screens if isinstance(screen, ClipConcepts)), None)


def _releases(scanned: Scan | Exception) -> bool:
    return not isinstance(scanned, Exception) and scanned.action.releases


def as_plain(scanned: Scan | Any) -> dict[str, Any]:
    """One file as JSON: what was measured and what follows, or the error."""
    if isinstance(scanned, Exception):
        return scanned.to_json()  # type: ignore[attr-defined, no-any-return]
    return {
        "action": scanned.action.name.lower(),
        "findings": list(scanned.findings),
        "checks": list(scanned.checks),
        "agreement": {
            category: {"spoke": spoke, "silent": silent} for category, (spoke, silent) in scanned.agreement.items()
        },
    }


def _show(path: Path, scanned: Scan | Any) -> None:
    if isinstance(scanned, Exception):
        print_heading("UNREADABLE", str(path), style="red", explanation=str(scanned))
        return
    word = scanned.action.name.lower()
    print_heading(word.upper(), str(path), style=_STYLES.get(word, "yellow"))
    facts = [(finding.rule, _sentence(finding)) for finding in scanned.findings]
    for check in scanned.checks:
        scores = ", ".join(f"{name} {score:.3f}" for name, score in sorted(check.scores.items()))
        silent = "; ".join(sorted(set(check.abstained.values())))
        facts.append((check.component.name, scores or silent or f"{check.status.value}: {check.reason}"))
    for category, (spoke, silent_rules) in scanned.agreement.items():
        if silent_rules:
            facts.append((f"on {category}", f"{', '.join(spoke)} spoke; {', '.join(silent_rules)} did not"))
    print_facts(facts)


def _sentence(finding: Any) -> str:
    if finding.score is None:
        return f"{finding.message} {finding.evidence.get('reason', '')}"
    nearest = finding.evidence.get("nearest") or []
    like = f"; nearest: {', '.join(str(label) for label, _ in nearest)}" if nearest else ""
    read = f"; read: {clean(str(finding.evidence['read']))}" if "read" in finding.evidence else ""
    score = f"Score {finding.score:.3f}, threshold {finding.threshold:g}{like}{read}."
    return f"{finding.message} {score} {finding.error_rate}"
