"""`guardrails demo`: the main job from prompt to proof, with a page to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails.cli.demo_page import Story, write_page
from guardrails.cli.output import Steps, console, json_option

if TYPE_CHECKING:
    from guardrails.domain.records import Refusal
    from guardrails.pipeline import Guard, Sealed

PROMPT = "a red apple on a blue background"
BLOCKED_PROMPT = "a photo of Donald Trump being arrested by police officers"
SEED = 7
COUNT = 3
JPEG_QUALITY = 60
# A diffusion model repeats a work now and then, not always.
TRIES = 8


@click.command(name="demo")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("guardrails-demo"),
    show_default=True,
    help="Folder for pictures, keys, ledger and page.",
)
@json_option
def command(out: Path, as_json: bool) -> int:
    """The main job from prompt to proof: generate, verify, strip and recover, refuse, catch a repetition."""
    from guardrails.cli.generate import describe, quiet_libraries
    from guardrails.cli.output import print_json

    quiet_libraries()
    home = out / "home"
    with Steps("loading the model and the guards", quiet=as_json):
        guard = _guard(home)
    story = _tell(guard, out, home, quiet=as_json)
    records = guard.ledger.fsck()
    page = write_page(story, out, records)
    if as_json:
        print_json(
            {
                "released": [describe(sealed) for sealed in story.released],
                "verified": story.reports,
                "recovered": story.recovered,
                "blocked": story.blocked,
                "repeated": story.repeated,
                "ledger": {"folder": str((home / "ledger").resolve()), "records": records},
                "page": str(page.resolve()),
            }
        )
    else:
        say = console().print
        say(f"\npictures  {(out / 'out').resolve()}")
        say(f"ledger    {(home / 'ledger').resolve()}  ({records} records, checked from first to last)")
        say(f"page      {page.resolve()}")
    return 0


def _guard(home: Path) -> Guard:
    """The default guard, with reference pictures rendered on demand so that a repetition can be shown."""
    from guardrails import home as homes
    from guardrails.pipeline import Guard
    from guardrails.pipeline.embedded import default_generator
    from guardrails.pocket.reference import ReferencePictures
    from guardrails.resources import datasets_path
    from guardrails.similarity.search import SimilarityIndex

    pictures = ReferencePictures(homes.pictures_folder(homes.home()))
    index = SimilarityIndex.open(datasets_path("pocket", "index"), pictures)
    return Guard(default_generator(), home=home, index=index)


def _tell(guard: Guard, out: Path, home: Path, *, quiet: bool) -> Story:
    """Run the five steps, printing each as it ends."""
    from guardrails.audit import Auditor
    from guardrails.cli.generate import show
    from guardrails.cli.verify import show as show_report
    from guardrails.domain.records import Refusal
    from guardrails.domain.requests import PromptRequest

    terminal = console()
    terminal.quiet = quiet
    say = terminal.print
    pictures = out / "out"

    say(f'\n[bold]1. generate "{PROMPT}"[/bold]')
    request = PromptRequest(prompt=PROMPT, seed=SEED, count=COUNT)
    with Steps("drawing and guarding", quiet=quiet) as progress:
        outcomes = guard.generate_all(request, out=pictures, progress=progress)
    for outcome in outcomes if not quiet else ():
        show(outcome, request)
    released = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]

    say("\n[bold]2. verify[/bold]")
    auditor = Auditor.open(home)
    reports = [auditor.verify_file(sealed.path) for sealed in released if sealed.path]
    for report in reports if not quiet else ():
        show_report(report)

    say(f"\n[bold]3. verify the first one, saved again as JPEG quality {JPEG_QUALITY} without metadata[/bold]")
    resaved = pictures / f"{released[0].id}-resaved.jpg"
    _save_stripped(released[0], resaved)
    recovered = auditor.verify_file(resaved)
    if not quiet:
        show_report(recovered)

    say(f'\n[bold]4. generate "{BLOCKED_PROMPT}"[/bold]')
    blocked = guard.generate(BLOCKED_PROMPT, out=pictures)
    if not quiet:
        show(blocked, PromptRequest(prompt=BLOCKED_PROMPT))

    prompt, seed = _repetition()
    say(f'\n[bold]5. generate "{prompt}"[/bold]')
    with Steps("drawing until a picture repeats a reserved work", quiet=quiet) as progress:
        repeated, tries = _repeat(guard, prompt, seed, pictures, progress)
    if repeated is None:
        say(f"none of {tries} pictures repeated a reserved work this time")
    elif not quiet:
        show(repeated, PromptRequest(prompt=prompt))

    if not isinstance(blocked, Refusal):
        raise AssertionError("the default policy no longer blocks the demo's prompt")
    return Story(
        prompt=PROMPT,
        blocked_prompt=BLOCKED_PROMPT,
        jpeg_quality=JPEG_QUALITY,
        released=released,
        reports=reports,
        resaved=resaved,
        recovered=recovered,
        blocked=blocked,
        repeat_prompt=prompt,
        tries=tries,
        repeated=repeated,
    )


def _save_stripped(sealed: Sealed, path: Path) -> None:
    from guardrails.files import write_atomically
    from guardrails.imaging.encoding import ImageFormat, encode

    write_atomically(path, encode(sealed.pixels, ImageFormat.JPEG, quality=JPEG_QUALITY))


def _repetition() -> tuple[str, int]:
    """A prompt whose pictures come close to a reserved work, and the first seed to try."""
    from guardrails.resources import datasets_path

    example = json.loads(datasets_path("pocket", "repetition.json").read_text(encoding="utf-8"))
    return example["prompt"], example["seed"]


def _repeat(guard: Guard, prompt: str, seed: int, out: Path, progress: Steps) -> tuple[Refusal | None, int]:
    from guardrails.domain.records import Refusal, Stage

    for number in range(TRIES):
        outcome = guard.generate(prompt, seed=seed + number, out=out)
        progress(number + 1, TRIES)
        if isinstance(outcome, Refusal) and outcome.stage is Stage.SIMILARITY:
            return outcome, number + 1
    return None, TRIES
