"""Builds the text side of the offline tower, `datasets/screens/lit-text.npz`, and measures it on names it never saw.

::

    python -m guardrails.screens.text_building --pocket POCKET --clipart C --symbols S --labelled L ... \\
        --measured P --anchors A --cache W

POCKET is what `guardrails pocket build` made, C openclipart unpacked, S the Mulberry symbols as PNG files, L folders of
photographs in one folder for each thing (at most six of each from Caltech-101 without faces and background, and
three from the Grocery Store Dataset), P photographs named `<id>_<what it shows>.jpg` that are measured on and never
trained on (ImageNet samples, one a class), A an `.npz` with `names` and `vectors` (CLIP's own text vectors of some
names), W a folder for the embeddings: hours of work the first time, resumed where it stopped.

1. Embed every picture once.
2. Set aside the names of P and of some drawings: every caption and every anchor with such a name, and every drawing of
   such a thing. Train on the rest and measure.
3. Train on everything but P.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guardrails.encoders import load_encoder
from guardrails.encoders.lit_text import WEIGHTS, LitText
from guardrails.encoders.minilm import load_minilm
from guardrails.errors import OptionError
from guardrails.files import write_atomically
from guardrails.resources import datasets_path
from guardrails.screens.captioned import (
    Captioned,
    Embedded,
    Remembered,
    clipart,
    emoji,
    labelled,
    photographs,
    prepared,
    symbols,
)
from guardrails.screens.heads import Vectors
from guardrails.screens.text_training import make_captions, ridge, to_bytes, train, zero_shot

SEED = 3
HELD_OUT_SHARE = 0.15
WAYS = 200
RIDGE = 1.0
RIDGE_OF_CAPTIONS = 10.0


def kept_aside(drawings: Embedded) -> Embedded:
    """One drawing of each thing that is measured on and not trained on."""
    random = np.random.default_rng(SEED)
    things = sorted({own[0] for own in drawings.names})
    aside = set(random.permutation(things)[: round(HELD_OUT_SHARE * len(things))])
    first = {own[0]: row for row, own in reversed(list(enumerate(drawings.names))) if own[0] in aside}
    return drawings.only(sorted(first.values()))


def centred(vectors: Vectors) -> Vectors:
    """Unit rows without what all of them share, which tells drawings from photographs and no thing from another."""
    rows = vectors - vectors.mean(axis=0)
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def build(options: argparse.Namespace) -> None:
    """All steps; prints what it measures."""
    encoder, reader = load_encoder("offline-clip"), Remembered(load_minilm(), options.cache / "texts.npz")
    manifest, store = datasets_path("pocket", "manifest.csv"), options.pocket / "pictures.npy"

    def embedded(name: str, pictures: Sequence[Captioned]) -> Embedded:
        return prepared(pictures, None if options.no_embedding else encoder, options.cache / name)

    measured = embedded("photographs", photographs(options.measured))
    named = Embedded.joined(
        [embedded("noto", emoji(store, manifest, "noto")), embedded("clipart", clipart(options.clipart))]
    )
    further = [
        embedded("fluent-emoji", emoji(store, manifest, "fluent-emoji")),
        embedded("symbols", symbols(options.symbols)),
    ]
    drawings = Embedded.joined([named, *further])
    photos = Embedded.joined([embedded(folder.name, labelled(folder)) for folder in options.labelled])
    shown = [*drawings.names, *photos.names]
    pictures = np.concatenate([centred(drawings.vectors), centred(photos.vectors)])
    with np.load(options.anchors, allow_pickle=False) as file:
        names, vectors = [str(name) for name in file["names"]], file["vectors"]
    texts = reader.embed([f"a photo of a {name}" for name in names])

    aside = kept_aside(named)
    unseen = frozenset(own[0] for own in (*measured.names, *aside.names))
    captions = make_captions(shown, reader, unseen)
    rows = [row for row, name in enumerate(names) if name not in unseen]
    anchors = texts[rows], vectors[rows]
    print(f"{len(captions.texts)} captions of {len(set(captions.images.tolist()))} pictures, {len(rows)} anchors")
    reader.save()
    for way, weight in (
        ("anchors alone", ridge(*anchors, RIDGE)),
        ("captions by ridge", ridge(captions.texts, pictures[captions.images], RIDGE_OF_CAPTIONS)),
        ("captions against each other, and anchors", train(captions, pictures, anchors)[0]),
    ):
        text = LitText(id="measured", reader=reader, projection=weight, bias=-(captions.texts @ weight).mean(axis=0))
        for name, one, phrase in (
            ("photographs", measured, "a photo of a {}"),
            ("drawings of things kept aside", aside, "a drawing of {}"),
        ):
            words = text.embed([phrase.format(own[0]) for own in one.names])
            first, five = zero_shot(words, centred(one.vectors), min(WAYS, len(words)))
            print(f"{way}: {WAYS}-way of {len(words)} {name}: top-1 {first:.1%}, top-5 {five:.1%}")
    reader.save()
    projection = train(make_captions(shown, reader), pictures, (texts, vectors))
    write_atomically(datasets_path() / Path(*WEIGHTS), to_bytes(*projection))


def main() -> None:
    """Command line of `build`."""
    parser = argparse.ArgumentParser(description="Build datasets/screens/lit-text.npz.")
    for name in ("pocket", "clipart", "symbols", "measured", "anchors", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--labelled", type=Path, nargs="+", required=True)
    parser.add_argument("--no-embedding", action="store_true", help="use what the cache has, and embed nothing more")
    options = parser.parse_args()
    if not options.anchors.is_file():
        raise OptionError(f"there are no anchors at {options.anchors}", hint="see the module's first lines")
    build(options)


if __name__ == "__main__":
    main()
