"""`guardrails similarity semantic`: works that mean the same, by an encoder's embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails.cli.output import Steps, json_option, print_facts, print_heading, print_json, print_table
from guardrails.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guardrails.encoders import ImageEncoder

EPILOG = """\b
Examples
  guardrails similarity semantic build meaning photos/
  guardrails similarity semantic search meaning picture.png
  guardrails similarity semantic search meaning --words "a red boat"
  guardrails similarity semantic build copies photos/ --encoder sscd:sscd_disc_mixup.torchscript.pt@<sha256>
"""
_SHOWN_UNREADABLE = 20

folder_argument = click.argument("index", type=click.Path(file_okay=False, path_type=Path))
encoder_option = click.option(
    "--encoder",
    "spec",
    default="offline-clip",
    show_default=True,
    help="open_clip:<model>/<tag>, folder:<path>, or sscd:<path>@<sha256>; the same when building and when asking.",
)


@click.group(name="semantic", epilog=EPILOG)
def semantic() -> None:
    """Neighbours by meaning, in a side index of embeddings: a help for people, never a verdict."""


@semantic.command()
@folder_argument
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@encoder_option
@json_option
def build(index: Path, sources: tuple[Path, ...], spec: str, as_json: bool) -> int:
    """Embed collections into INDEX, in place of an older one. SOURCES are those of `similarity build`."""
    from itertools import chain

    from guardrails.encoders import load_encoder
    from guardrails.similarity.semantic import build_semantic
    from guardrails.similarity.sources import read_source

    collections = [read_source(source) for source in sources]
    encoder = load_encoder(spec)
    with Steps("embedding", quiet=as_json) as progress:
        report = build_semantic(index, chain.from_iterable(collections), encoder, progress.count)
    if as_json:
        print_json({"index": str(index), "encoder": encoder.id, "report": report})
        return 0
    print_heading("EMBEDDED", str(index), style="green")
    print_facts(
        [
            ("works", f"{report.embedded:,}"),
            ("repeated ids", f"{report.repeated:,}"),
            ("unreadable", f"{len(report.unreadable):,}"),
            ("encoder", encoder.id),
        ]
    )
    print_facts((one.id, one.message) for one in report.unreadable[:_SHOWN_UNREADABLE])
    return 0


@semantic.command()
@folder_argument
@click.argument("picture", required=False, type=click.Path(path_type=Path))
@click.option("--words", help="In place of a picture, for encoders that read words.")
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, help="Works to show.")
@encoder_option
@json_option
def search(index: Path, picture: Path | None, words: str | None, count: int, spec: str, as_json: bool) -> int:
    """The works of INDEX that are most like PICTURE, or like words, with their cosines."""
    from guardrails.encoders import load_encoder
    from guardrails.similarity.semantic import SemanticIndex

    if (picture is None) == (words is None):
        raise OptionError("nothing, or two things, to look for", hint="give a picture, or --words")
    encoder = load_encoder(spec)
    opened = SemanticIndex(index, encoder.id)
    vector = _picture_vector(encoder, picture) if picture is not None else _word_vector(encoder, words or "")
    found = opened.nearest(vector, count)
    if as_json:
        neighbours = [{"id": one, "cosine": cosine} for one, cosine in found]
        print_json({"index": str(index), "encoder": encoder.id, "searched": len(opened), "neighbours": neighbours})
        return 0
    asked = str(picture) if picture is not None else repr(words)
    explanation = f"of {len(opened):,} works; alike in meaning, which says nothing about copying"
    print_heading("NEIGHBOURS", asked, style="yellow", explanation=explanation)
    print_table(("cosine", "entry"), [(f"{cosine:.3f}", one) for one, cosine in found])
    return 0


def _picture_vector(encoder: ImageEncoder, picture: Path) -> NDArray[np.float32]:
    from guardrails.imaging.decoding import decode, read_image_bytes

    vectors: NDArray[np.float32] = encoder.embed([decode(read_image_bytes(picture)).pixels])
    return vectors.ravel()


def _word_vector(encoder: ImageEncoder, words: str) -> NDArray[np.float32]:
    from guardrails.encoders import text_side

    reader = text_side(encoder)
    if reader is None:
        raise OptionError(f"{encoder.id} does not read words", hint="give a picture, or another encoder")
    vectors: NDArray[np.float32] = reader.embed([words])
    return vectors.ravel()
