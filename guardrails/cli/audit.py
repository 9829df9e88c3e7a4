"""`guardrails audit`: what a model does, measured on the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, home_option, json_option, print_facts, print_heading, print_json, print_table
from guardrails.errors import OptionError

if TYPE_CHECKING:
    from guardrails.audit.memorisation import Caption, MemorisationReport
    from guardrails.generation.protocol import Generator
    from guardrails.similarity.search import SimilarityIndex

POCKET = "pocket"
SHOWN = 10
EPILOG = """\b
Examples
  guardrails audit memorisation --limit 20 --seeds 4
  guardrails audit memorisation --model FOLDER --captions captions.csv --index INDEX --out run
"""


@click.group(name="audit", epilog=EPILOG)
def command() -> None:
    """Measure a model: does it repeat the works it learnt from?"""


@command.command()
@click.option("--model", default=POCKET, show_default=True, help="pocket, a diffusers folder, or a hub id.")
@click.option(
    "--captions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="One a line, or a CSV column named caption.  [default: of the works that the pocket model learnt from]",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first captions.")
@click.option("--seeds", type=click.IntRange(min=1), default=4, show_default=True, help="Pictures for each caption.")
@click.option("--first-seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--index",
    "index_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Similarity index of the training set.  [default: the shipped one]",
)
@click.option("--entries", type=click.Path(dir_okay=False, path_type=Path), help="Its entry table.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("memorisation"), show_default=True,
    help="Folder of the run; a run that stopped goes on.",
)  # fmt: skip
@home_option
@json_option
def memorisation(
    model: str,
    captions: Path | None,
    limit: int | None,
    seeds: int,
    first_seed: int,
    index_folder: Path | None,
    entries: Path | None,
    out: Path,
    home: Path | None,
    as_json: bool,
) -> int:
    """Draw from training captions with many seeds and count the pictures that repeat a known work."""
    from guardrails.audit.memorisation import MemorisationAudit, read_captions
    from guardrails.cli.audit_page import write_page
    from guardrails.cli.generate import quiet_libraries
    from guardrails.domain.canonical import to_plain
    from guardrails.files import write_atomically

    prompts = (_pocket_captions(model) if captions is None else read_captions(captions))[:limit]
    quiet_libraries()
    with Steps("loading the model and the index", quiet=as_json):
        index = _index(index_folder, entries, home or homes.home())
        generator = _generator(model)
    with Steps("drawing and comparing", quiet=as_json) as progress:
        audit = MemorisationAudit(generator, index, out, model=model)
        report = audit.run(prompts, range(first_seed, first_seed + seeds), progress)
    plain = json.dumps(to_plain(report), indent=1, sort_keys=True) + "\n"
    write_atomically(out / "report.json", plain.encode("utf-8"))
    page = write_page(report, out)
    if as_json:
        print_json(report)
    else:
        _show(report, page)
    return 0


def _pocket_captions(model: str) -> list[Caption]:
    from guardrails.audit.memorisation import Caption
    from guardrails.pocket.dataset import MANIFEST, read_manifest
    from guardrails.resources import datasets_path

    if model != POCKET:
        raise OptionError("which captions did this model learn from?", hint="name them with --captions")
    pictures = read_manifest(datasets_path("pocket", MANIFEST))
    return [Caption(f"a {picture.name}, {picture.style} style", picture.id) for picture in pictures if picture.trained]


def _index(folder: Path | None, entries: Path | None, home: Path) -> SimilarityIndex:
    from guardrails.pipeline.embedded import shipped_index
    from guardrails.pipeline.pictures import RebuiltPictures
    from guardrails.pocket.reference import ReferencePictures
    from guardrails.resources import datasets_path
    from guardrails.similarity.search import SimilarityIndex

    if folder is not None:
        return SimilarityIndex.open(folder, entries=entries)
    work = homes.pictures_folder(home)
    if RebuiltPictures.open(work) is not None:
        return shipped_index(home)
    return SimilarityIndex.open(datasets_path("pocket", "index"), ReferencePictures(work))


def _generator(model: str) -> Generator:
    from guardrails.generation.loading import load_generator
    from guardrails.pipeline.embedded import default_generator

    return default_generator() if model == POCKET else load_generator(model)


def _show(report: MemorisationReport, page: Path) -> None:
    found = report.extracted > 0
    print_heading("REPEATS WORKS" if found else "NONE FOUND", report.model, style="yellow" if found else "green")
    compared = report.pictures - report.unhashable
    print_facts(
        [
            ("pictures", f"{report.pictures} from {report.prompts} prompts; {report.unhashable} too plain to compare"),
            (
                "extracted",
                f"{report.extracted} of {compared} ({report.rate:.1%}, 95 % upper bound {report.upper_bound:.1%})",
            ),
            (
                "by pixels",
                f"{report.confirmed} confirmed by the index alone; the others agree with their caption's own work",
            ),
            ("to review", str(report.review)),
            ("searched", f"{report.works_in_index} works; what is not among them is not known"),
            ("page", str(page.resolve())),
        ]
    )
    if report.works:
        print_table(("repeated", "work"), [(str(count), work) for work, count in report.works[:SHOWN]])
