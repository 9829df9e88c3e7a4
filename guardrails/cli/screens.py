"""`guardrails screens`: what is seen in pictures, how sure that is, and whom the face gallery knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, clean, home_option, json_option, print_facts, print_heading, print_json
from guardrails.cli.screens_calibration import calibrate, report, verify
from guardrails.cli.screens_persons import enrol, forget, persons
from guardrails.cli.screens_training import train
from guardrails.cli.status import REFUSED

if TYPE_CHECKING:
    from guardrails.domain.findings import Finding
    from guardrails.errors import GuardrailsError
    from guardrails.policy.model import ScreenRule
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.protocol import Screen
    from guardrails.screens.scanning import Scan

    Seen = tuple[Path, Scan | GuardrailsError]

EPILOG = """\b
Examples
  guardrails screens scan picture.png
  guardrails screens scan downloads --html sheet.html --heat
  guardrails screens scan downloads --concepts house-rules.yaml --json
  guardrails screens scan picture.png --policy public-figures-by-face --prompt "Jane Doe on a stage"

\b
Exits with 3 when the policy holds back one of the files, or one cannot be read.
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
@click.option(
    "--concepts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Further concept packs; their owners' actions hold for what the policy has no rule for.",
)
@click.option(
    "--references",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Safe pictures that scores are measured against, made by `calibrate`.  [default: the shipped ones]",
)
@click.option("--prompt", default="", help="What FILES are said to show; whom it names is joined with the faces.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a sheet to look at.")
@click.option("--heat", is_flag=True, help="In the sheet, show where each concept is seen.")
@home_option
@json_option
def scan(
    files: tuple[Path, ...],
    policy: str,
    concepts: tuple[Path, ...],
    references: Path | None,
    prompt: str,
    html: Path | None,
    heat: bool,
    home: Path | None,
    as_json: bool,
) -> int:
    """Run every screen over FILES, or over the pictures in folders."""
    from guardrails.cli.screens_sheet import shown_file, write_sheet
    from guardrails.cli.verify import images_of
    from guardrails.domain.requests import PromptRequest
    from guardrails.errors import GuardrailsError, OptionError
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard
    from guardrails.screens import default_screens
    from guardrails.screens.concepts import read_pack, shipped_pack
    from guardrails.screens.owners import rules_of

    if heat and html is None:
        raise OptionError("--heat draws into the sheet", hint="say where the sheet is to be written: --html sheet.html")
    pack, further = load_policy(policy), [read_pack(path) for path in concepts]
    prompted = PromptGuard(pack).decide(PromptRequest(prompt=prompt)).findings if prompt else ()
    packs = (shipped_pack(), *further)
    faces = homes.faces_folder(home or homes.home())
    screens = default_screens(packs=packs, gallery=faces, references=references)
    rules = (*pack.screen_rules, *rules_of(further, pack.screen_rules))
    paths = [path for source in files for path in images_of(source)]
    heated = _heated(screens) if heat else None
    scans: list[Seen] = []
    shown: list[dict[str, Any]] = []
    with Steps("Looking", quiet=as_json) as steps:
        for path, scanned in _scanned(steps.each(paths, len(paths)), screens, rules, prompted):
            if html is not None:
                shown.append(shown_file(path, scanned, packs, heated))
            # The pixels of thousands of files do not fit into memory.
            scans.append((path, scanned if isinstance(scanned, GuardrailsError) else replace(scanned, showings={})))
    if not as_json:
        for path, scanned in scans:
            _show(path, scanned)
    if html is not None:
        write_sheet(shown, html)
    if as_json:
        print_json([{"file": str(path), **as_plain(scanned)} for path, scanned in scans])
    elif html is not None:
        click.echo(f"Sheet: {html}")
    return REFUSED if any(not _releases(scanned) for _, scanned in scans) else 0


def _scanned(
    paths: Iterable[Path], screens: Sequence[Screen], rules: Sequence[ScreenRule], prompted: Sequence[Finding]
) -> Iterator[Seen]:
    """What the screens say about each file, or why it cannot be read."""
    from guardrails.errors import GuardrailsError
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.screens.scanning import scan as scan_bytes

    for path in paths:
        try:
            yield path, scan_bytes(read_image_bytes(path), screens, rules, prompted)
        except GuardrailsError as error:
            yield path, error


def _heated(screens: Iterable[Screen]) -> ClipConcepts | None:
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
        said = "; ".join(part for part in (scores, silent) if part)
        facts.append((check.component.name, said or f"{check.status.value}: {check.reason}"))
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
    shown = f"; seen {finding.evidence['shown']}" if "shown" in finding.evidence else ""
    score = f"Score {finding.score:.3f}, threshold {finding.threshold:g}{like}{read}{shown}."
    return f"{finding.message} {score} {finding.error_rate}"
