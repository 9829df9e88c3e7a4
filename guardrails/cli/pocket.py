"""`guardrails pocket`: the embedded model, from its sources to its evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, home_option, json_option, print_facts, print_heading, print_json
from guardrails.errors import DatasetUnavailable

if TYPE_CHECKING:
    from guardrails.imaging import Pixels
    from guardrails.pipeline.pictures import RebuiltPictures
    from guardrails.pocket.training import Library
    from guardrails.similarity.entries import EntryTable

AUTOENCODER_STEPS = 2000
LAYOUT_STEPS = 6000
DIFFUSION_STEPS = 20_000
SHARDS = 16

EPILOG = """\b
In this order
  guardrails pocket build                 fetch the sources, render the pictures (2 GB)
  guardrails pocket train autoencoder     hours on one core; resumes where it stopped
  guardrails pocket train diffusion       a day on one core; resumes; writes WORK/model
  guardrails pocket index                 hash the pictures into WORK/index
  guardrails pocket evaluate              draw the sample sheet
"""

work_option = click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), help="Work folder.  [default: HOME/pocket]"
)


@click.group(name="pocket", epilog=EPILOG)
def command() -> None:
    """Rebuild, train, index and evaluate the embedded model."""


@command.command()
@work_option
@click.option("--write-manifest", "rewrites", is_flag=True, help="Replace the shipped manifest by the one just made.")
@home_option
@json_option
def build(work: Path | None, rewrites: bool, home: Path | None, as_json: bool) -> int:
    """Fetch the source drawings and render every picture; resumes where it stopped."""
    from guardrails.pocket.dataset import MANIFEST, read_manifest, write_manifest
    from guardrails.pocket.dataset import build as build_pictures
    from guardrails.resources import datasets_path

    folder = _work_folder(work, home)
    folder.mkdir(parents=True, exist_ok=True)
    with Steps("rendering", quiet=as_json) as progress:
        pictures = build_pictures(folder, progress.each)
    manifest = datasets_path("pocket") / MANIFEST
    if rewrites:
        write_manifest(manifest, pictures)
    shipped = {picture.id: picture.sha256 for picture in read_manifest(manifest)}
    equal = sum(shipped.get(picture.id) == picture.sha256 for picture in pictures)
    if as_json:
        print_json({"work": str(folder), "pictures": len(pictures), "equal_to_manifest": equal})
    else:
        print_heading("BUILT", str(folder), style="green")
        print_facts(
            [("pictures", str(len(pictures))), ("as in the manifest", f"{equal} of {len(shipped)}, bit for bit")]
        )
    return 0


@command.command()
@click.argument("part", type=click.Choice(["autoencoder", "diffusion"]))
@click.option("--steps", type=click.IntRange(min=1), help=f"[default: {AUTOENCODER_STEPS} or {DIFFUSION_STEPS}]")
@click.option("--decoder-only", is_flag=True, help="Autoencoder: keep the encoder, so that latents stay valid.")
@click.option(
    "--shards", type=click.IntRange(min=1), default=SHARDS, show_default=True, help="Diffusion: of 512 scenes."
)
@work_option
@home_option
@json_option
def train(
    part: str,
    steps: int | None,
    decoder_only: bool,
    shards: int,
    work: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """Train PART; stop it at any time, it resumes from its last checkpoint."""
    from guardrails.pocket.dataset import MANIFEST
    from guardrails.pocket.training import Library
    from guardrails.resources import datasets_path

    folder = _work_folder(work, home)
    _require(folder / "pictures.npy", "the pictures are not rendered yet", "run `guardrails pocket build`")
    library = Library.open(folder, datasets_path("pocket", MANIFEST))
    if part == "autoencoder":
        loss = _train_autoencoder(library, folder, steps or AUTOENCODER_STEPS, decoder_only, as_json)
        result = folder / "autoencoder.pt"
    else:
        loss = _train_diffusion(library, folder, steps or DIFFUSION_STEPS, shards, as_json)
        result = folder / "model"
    if as_json:
        print_json({"result": str(result), "loss": loss})
    else:
        print_heading("TRAINED", str(result), style="green")
        print_facts([("last loss", "already trained to this step" if loss is None else f"{loss:.4f}")])
    return 0


@command.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: WORK/index]")
@work_option
@home_option
@click.option("--thumbnail-bytes", type=click.IntRange(0), default=0, help="Largest thumbnail of a work; 0 keeps none.")
@click.option("--keypoints", is_flag=True, help="Also keep keypoints beside the index, so that parts are found.")
@json_option
def index(
    out: Path | None, work: Path | None, home: Path | None, thumbnail_bytes: int, keypoints: bool, as_json: bool
) -> int:
    """Hash every picture into a rights-bearing similarity index."""
    from guardrails.pipeline.pictures import RebuiltPictures
    from guardrails.pocket.dataset import MANIFEST
    from guardrails.resources import datasets_path
    from guardrails.similarity.building import build_index, build_keypoints
    from guardrails.similarity.entries import read_entries

    folder = _work_folder(work, home)
    pictures = RebuiltPictures.open(folder)
    if pictures is None:
        raise _not_there(folder, "the pictures are not all rendered yet", "run `guardrails pocket build`")
    entries = read_entries(datasets_path("pocket", MANIFEST))
    target = out or folder / "index"
    with Steps("hashing", quiet=as_json) as progress:
        build_index(_in_order(pictures, entries), entries, target, progress.each, thumbnail_bytes=thumbnail_bytes)
    if keypoints:
        with Steps("finding keypoints", quiet=as_json) as progress:
            build_keypoints(_in_order(pictures, entries), entries, target.parent, progress.each)
    if as_json:
        print_json({"index": str(target), "entries": len(entries)})
    else:
        print_heading("INDEXED", str(target), style="green")
        print_facts([("works", str(len(entries)))])
    return 0


@command.command()
@click.option(
    "--model", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: the embedded model]"
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: WORK/evaluation]")
@work_option
@home_option
@json_option
def evaluate(model: Path | None, out: Path | None, work: Path | None, home: Path | None, as_json: bool) -> int:
    """Draw a sample sheet and measure the model."""
    from guardrails.cli.generate import quiet_libraries
    from guardrails.encoders import load_encoder
    from guardrails.pipeline.embedded import pocket_model
    from guardrails.pocket.dataset import MANIFEST
    from guardrails.pocket.evaluation import evaluate as evaluate_model
    from guardrails.pocket.evaluation import recognition
    from guardrails.pocket.training import Library
    from guardrails.resources import datasets_path

    quiet_libraries()
    pictures = _work_folder(work, home)
    _require(pictures / "pictures.npy", "the pictures are not rendered yet", "run `guardrails pocket build`")
    folder = out or pictures / "evaluation"
    with Steps("drawing the sheet", quiet=as_json) as progress:
        measures = evaluate_model(model or pocket_model(), folder, progress)
    library = Library.open(pictures, datasets_path("pocket", MANIFEST))
    with Steps("drawing every thing once", quiet=as_json) as progress:
        measures |= recognition(model or pocket_model(), library, load_encoder("offline-clip"), progress)
    if as_json:
        print_json({"out": str(folder), "measures": measures})
    else:
        print_heading("EVALUATED", str(folder), style="green")
        print_facts([(name, f"{value:.4g}") for name, value in measures.items()])
    return 0


def _work_folder(work: Path | None, home: Path | None) -> Path:
    return work or homes.pictures_folder(home or homes.home())


def _require(path: Path, message: str, hint: str) -> None:
    if not path.exists():
        raise _not_there(path, message, hint)


def _not_there(path: Path, message: str, hint: str) -> DatasetUnavailable:
    return DatasetUnavailable(f"{message} ({path})", hint=hint)


def _train_autoencoder(library: Library, work: Path, steps: int, decoder_only: bool, quiet: bool) -> float | None:
    from guardrails.pocket.autoencoder import train_autoencoder

    with _Losses("training the autoencoder", quiet=quiet) as losses:
        train_autoencoder(library, work, steps=steps, decoder_only=decoder_only, report=losses.report)
    return losses.last


def _train_diffusion(library: Library, work: Path, steps: int, shards: int, quiet: bool) -> float | None:
    from guardrails.pocket.diffusion import train_diffusion
    from guardrails.pocket.export import export
    from guardrails.pocket.latents import SHARD, encode_scenes
    from guardrails.pocket.layout import train_layout
    from guardrails.pocket.text import train_tokenizer

    _require(work / "autoencoder.pt", "there is no autoencoder yet", "run `guardrails pocket train autoencoder`")
    if not (work / "tokenizer").exists():
        train_tokenizer(library.pictures, work / "tokenizer")
    with Steps("encoding scenes", quiet=quiet) as progress:
        encode_scenes(library, work, range(shards), lambda done: progress(done, shards * SHARD))
    with _Losses("training the text encoder", quiet=quiet) as losses:
        train_layout(work, steps=LAYOUT_STEPS, report=losses.report)
    with _Losses("training the denoiser", quiet=quiet) as losses:
        train_diffusion(work, steps=steps, rank=0, processes=1, report=losses.report)
    export(work, work / "model")
    return losses.last


class _Losses(Steps):
    """A progress bar that remembers the loss it was told last."""

    last: float | None = None

    def __enter__(self) -> _Losses:
        super().__enter__()
        return self

    def report(self, step: int, steps: int, loss: float) -> None:
        self.last = loss
        self(step, steps)


def _in_order(pictures: RebuiltPictures, entries: EntryTable) -> Iterator[Pixels]:
    for number in range(len(entries)):
        picture = pictures.picture(entries[number].id)
        if picture is None:
            raise _not_there(Path(entries[number].id), "a work has no picture", "run `guardrails pocket build`")
        yield picture
