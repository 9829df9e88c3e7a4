"""Looking at the pocket model: a sample sheet, obedient backgrounds, things that can be recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from guardrails.domain.requests import PromptRequest
from guardrails.encoders import ImageEncoder
from guardrails.files import write_atomically
from guardrails.generation.loading import load_generator
from guardrails.generation.protocol import Generator
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline.embedded import POCKET_GUIDANCE, POCKET_STEPS
from guardrails.pocket.scenes import COLOURS, UNNAMED_STYLE, canonical
from guardrails.pocket.training import Library

SUBJECTS = (
    "red apple",
    "banana",
    "cat",
    "dog",
    "fish",
    "pizza",
    "rose",
    "umbrella",
    "guitar",
    "rocket",
    "penguin",
    "strawberry",
    "airplane",
    "castle",
    "elephant",
    "snowman",
)
COLUMNS = 4
# A background is right when its median is nearest, among all colour words, to the one that was asked for.
BORDER = 12


def evaluate(model: Path, out: Path, progress: Callable[[int, int], None]) -> dict[str, float]:
    """Draw the sample sheet `sheet.png` into `out` and measure background obedience.

    Returns:
        {"pictures": n, "background_obeyed": share of pictures whose border has the colour of the caption}.
    """
    generator = load_generator(str(model))
    colours = list(COLOURS)
    pictures, obeyed = [], 0
    for number, subject in enumerate(SUBJECTS):
        wanted = colours[(number * 5) % len(colours)]
        picture = _draw(generator, f"a {subject} on a {wanted} background", seed=7)
        obeyed += background_of(picture) == wanted
        pictures.append(picture)
        progress(number + 1, len(SUBJECTS))
    write_atomically(out / "sheet.png", encode(sheet(pictures, COLUMNS), ImageFormat.PNG))
    return {"pictures": float(len(pictures)), "background_obeyed": obeyed / len(pictures)}


def recognition(
    model: Path, library: Library, encoder: ImageEncoder, progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Draw every thing the model was taught, and ask an image encoder which of them each picture shows.

    The encoder never saw the model: it compares with the drawings themselves. Chance is one in the number of names.

    Returns:
        {"names": n, "recognised": share of pictures whose nearest drawing bears the name that was asked for,
        "recognised_top5": share with that name among the five nearest}.
    """
    generator = load_generator(str(model))
    rows = [number for number, picture in enumerate(library.pictures) if picture.style == UNNAMED_STYLE]
    names = [library.pictures[row].name for row in rows]
    drawings = encoder.embed([canonical(library.rgba[row]) for row in rows])
    ranks = []
    for number, name in enumerate(names):
        picture = _draw(generator, f"a {name} on a white background", seed=number)
        likeness = drawings @ encoder.embed([picture])[0]
        ranks.append(int((likeness > likeness[number]).sum()))
        progress(number + 1, len(names))
    found = np.array(ranks)
    return {
        "names": float(len(names)),
        "recognised": float((found == 0).mean()),
        "recognised_top5": float((found < 5).mean()),
    }


def background_of(picture: Pixels) -> str:
    """The colour word nearest to the median of the border."""
    border = np.concatenate(
        [picture[:BORDER].reshape(-1, 3), picture[-BORDER:].reshape(-1, 3), picture[:, :BORDER].reshape(-1, 3)]
    )
    median = np.median(border, axis=0)
    return min(COLOURS, key=lambda name: float(np.linalg.norm(median - np.array(COLOURS[name]))))


def sheet(pictures: list[Pixels], columns: int) -> Pixels:
    """Pictures of one size side by side, `columns` in a row; the last row is filled with white."""
    blank = np.full_like(pictures[0], 255)
    padded = pictures + [blank] * (-len(pictures) % columns)
    rows = [np.concatenate(padded[start : start + columns], axis=1) for start in range(0, len(padded), columns)]
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def _draw(generator: Generator, prompt: str, seed: int) -> Pixels:
    request = PromptRequest(prompt=prompt, seed=seed, steps=POCKET_STEPS, guidance_scale=POCKET_GUIDANCE)
    return generator.draw(request, prompt)[0].pixels
