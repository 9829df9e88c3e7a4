"""`guardrails demo`: the main job from prompt to proof, with a page to look at."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, console

if TYPE_CHECKING:
    from guardrails.audit import FileReport
    from guardrails.domain.records import Refusal
    from guardrails.pipeline import Guard, Sealed

PROMPT = "a red apple on a blue background"
BLOCKED_PROMPT = "a photo of a beheading in the desert"
SEED = 7
COUNT = 3
JPEG_QUALITY = 60
TRIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A released picture and its address relative to the page."""

    sealed: Sealed
    file: str


@click.command(name="demo")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("guardrails-demo"),
    show_default=True,
    help="Folder for pictures, keys, ledger and page.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(out: Path, as_json: bool) -> int:
    """The main job from prompt to proof: generate, verify, strip and recover, refuse, catch a repetition."""
    from guardrails.audit import Auditor
    from guardrails.cli.generate import describe, quiet_libraries, show
    from guardrails.cli.output import print_json
    from guardrails.cli.verify import show as show_report
    from guardrails.domain.requests import PromptRequest

    say = (lambda *_: None) if as_json else console().print
    quiet_libraries()
    home = out / "home"
    with Steps("loading the model and the guards", quiet=as_json):
        guard = _guard(home)
    say(f'\n[bold]1. generate "{PROMPT}"[/bold]')
    request = PromptRequest(prompt=PROMPT, seed=SEED, count=COUNT)
    with Steps("drawing and guarding", quiet=as_json) as progress:
        outcomes = guard.generate_all(request, out=out / "out", progress=progress)
    released = [outcome for outcome in outcomes if hasattr(outcome, "path")]
    if not as_json:
        for outcome in outcomes:
            show(outcome, request)

    say("\n[bold]2. verify[/bold]")
    auditor = Auditor.open(home)
    reports = [auditor.verify_file(sealed.path) for sealed in released]
    stripped = out / "out" / f"{released[0].id}-resaved.jpg"
    _save_stripped(released[0], stripped)
    recovered = auditor.verify_file(stripped)
    if not as_json:
        for report in reports:
            show_report(report)
    say(f"[bold]3. the first picture saved again as JPEG quality {JPEG_QUALITY}, metadata stripped[/bold]")
    if not as_json:
        show_report(recovered)

    say(f'[bold]4. generate "{BLOCKED_PROMPT}"[/bold]')
    blocked = guard.generate(BLOCKED_PROMPT, seed=SEED, out=out / "out")
    if not as_json:
        show(blocked, PromptRequest(prompt=BLOCKED_PROMPT))

    repeat_prompt, seeds = _repeat_prompt()
    say(f'\n[bold]5. generate "{repeat_prompt}"[/bold]')
    with Steps("drawing until a picture repeats a reserved work", quiet=as_json):
        repeated = _repeat(guard, repeat_prompt, seeds, out)
    if not as_json and repeated is not None:
        show(repeated, PromptRequest(prompt=repeat_prompt))
        say(f"  side by side: {repeated.evidence_file}")
    if repeated is None:
        say(f"none of {len(seeds)} pictures repeated a reserved work")

    page = _write_page(out, guard, released, reports, recovered, stripped, blocked, repeat_prompt, repeated, seeds)
    if as_json:
        print_json(
            {
                "released": [describe(sealed) for sealed in released],
                "verified": reports,
                "recovered": recovered,
                "blocked": blocked,
                "repeated": repeated,
                "page": str(page.resolve()),
            }
        )
    say(f"\npictures  {(out / 'out').resolve()}\nledger    {(home / 'ledger').resolve()}\npage      {page.resolve()}")
    return 0


def _guard(home: Path) -> Guard:
    """The default guard, with reference pictures rendered on demand so that a repetition can be shown."""
    from guardrails import home as homes
    from guardrails.pipeline import Guard
    from guardrails.pipeline.guard import default_generator
    from guardrails.pocket.reference import ReferencePictures
    from guardrails.resources import datasets_path
    from guardrails.similarity.search import SimilarityIndex

    pictures = ReferencePictures(homes.pictures_folder(homes.home()))
    index = SimilarityIndex.open(datasets_path("pocket", "index"), pictures)
    return Guard(default_generator(), home=home, index=index)


def _save_stripped(sealed: Sealed, path: Path) -> None:
    from guardrails.files import write_atomically
    from guardrails.imaging.encoding import ImageFormat, encode

    write_atomically(path, encode(sealed.pixels, ImageFormat.JPEG, quality=JPEG_QUALITY))


def _repeat_prompt() -> tuple[str, list[int]]:
    """A prompt whose pictures come close to a reserved work, and the seeds to try."""
    from guardrails.resources import datasets_path

    example = json.loads(datasets_path("pocket", "repetition.json").read_text())
    return example["prompt"], [example["seed"] + step for step in range(TRIES)]


def _repeat(guard: Guard, prompt: str, seeds: list[int], out: Path) -> Refusal | None:
    from guardrails.domain.records import Refusal, Stage

    for seed in seeds:
        outcome = guard.generate(prompt, seed=seed, out=out / "out")
        if isinstance(outcome, Refusal) and outcome.stage is Stage.SIMILARITY:
            return outcome
    return None


def _write_page(
    out: Path,
    guard: Guard,
    released: list[Sealed],
    reports: list[FileReport],
    recovered: FileReport,
    stripped: Path,
    blocked: Any,
    repeat_prompt: str,
    repeated: Refusal | None,
    seeds: list[int],
) -> Path:
    from jinja2 import Environment, PackageLoader

    from guardrails.files import write_atomically

    evidence = ""
    if repeated is not None and repeated.evidence_file:
        evidence = f"out/{Path(repeated.evidence_file).stem}-evidence.png"
        shutil.copyfile(repeated.evidence_file, out / evidence)
    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True)
    guard.ledger.fsck()
    html = environment.get_template("demo.html").render(
        prompt=PROMPT,
        released=[Shown(sealed=sealed, file=f"out/{sealed.path.name}") for sealed in released if sealed.path],
        reports=reports,
        stripped=f"out/{stripped.name}",
        recovered=recovered,
        blocked=blocked,
        blocked_prompt=_split(blocked),
        repeat_prompt=repeat_prompt,
        repeat_tries=len(seeds),
        repeated=repeated,
        evidence=evidence,
        ledger_size=len(guard.ledger),
        ledger_folder=str((out / "home" / "ledger").resolve()),
    )
    page = out / "index.html"
    write_atomically(page, html.encode())
    return page


def _split(refusal: Refusal) -> dict[str, str]:
    """The blocked prompt, cut at the span that the rule matched."""
    span = refusal.findings[0].span
    start, end = (span.start, span.end) if span else (0, 0)
    return {"before": BLOCKED_PROMPT[:start], "words": BLOCKED_PROMPT[start:end], "after": BLOCKED_PROMPT[end:]}
