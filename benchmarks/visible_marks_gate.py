"""What the look for lettering before the reader costs and saves: marks that it loses, pictures that it lets pass.

::

    python benchmarks/visible_marks_gate.py --marked FOLDER ... --unmarked FOLDER ... --fonts FOLDER

Marks are laid over photographs of the first folders, of one kind after the other: as in `visible_marks`, and softly,
as a model paints them (bent, blurred, smaller and larger again). Names, fonts, sizes and places are drawn anew for
every `--seed`; half of the fonts are those of `--fonts`. Where no lettering is seen, the reader is asked as well: only
what it finds is lost.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import cv2
import numpy as np
from visible_marks import (  # type: ignore[import-not-found]  # beside this script
    FONTS,
    jpeg,
    laid,
    sized,
)
from visible_marks import THRESHOLD as LEAST_SCORE
from visible_marks_false import SUFFIXES, read  # type: ignore[import-not-found]

from guardrails.domain.calibration import clopper_pearson_upper
from guardrails.errors import GuardrailsError
from guardrails.imaging import Pixels
from guardrails.screens.concepts import shipped_pack
from guardrails.screens.lettering import THRESHOLD, Lettering
from guardrails.screens.marks import VisibleMarks

BAND, TILED = (110, 255), (60, 120)
# Kind, opacity, tiled, JPEG quality, painted softly.
KINDS = (
    ("band or corner, opacity 110-255", BAND, False, None, False),
    ("band or corner, opacity 110-255, JPEG 60", BAND, False, 60, False),
    ("tiled, opacity 60-120", TILED, True, None, False),
    ("tiled, opacity 60-120, JPEG 60", TILED, True, 60, False),
    ("painted softly, in a band or corner", BAND, False, 80, True),
    ("painted softly, tiled", (80, 140), True, 80, True),
    ("tiled, opacity 35", (35, 35), True, None, False),
)


def softened(pixels: Pixels, where: random.Random) -> Pixels:
    """The picture bent by a pixel or two, blurred, and made smaller and larger again."""
    height, width = pixels.shape[:2]
    noise = np.random.default_rng(where.getrandbits(32))
    bend = [noise.normal(0, where.uniform(0.3, 1.2), (height // 24, width // 24)).astype(np.float32) for _ in "xy"]
    across, down = (cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in bend)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    bent = cv2.remap(pixels, columns + across, rows + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    blurred = cv2.GaussianBlur(bent, (0, 0), where.uniform(0.4, 1.0))
    share = where.uniform(0.7, 1)
    small = cv2.resize(blurred, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def marked(number: int, seed: int, paths: list[Path], fonts: list[str], names: list[str]) -> tuple[str, Pixels]:
    """The kind and the picture."""
    where = random.Random(seed * 100_000 + number)  # noqa: S311 (no secret)
    kind, opacity, tiled, quality, soft = KINDS[number % len(KINDS)]
    name = where.choice((str, str, str.upper, str.title))(where.choice(names))
    pixels = laid(
        sized(paths[number % len(paths)]),
        name,
        alpha=where.randint(*opacity),
        size=where.randint(16, 28),
        font=where.choice(fonts if fonts and where.random() < 0.5 else list(FONTS)),
        tiled=tiled,
        where=where,
    )
    pixels = softened(pixels, where) if soft else pixels
    return kind, jpeg(pixels, quality) if quality else pixels


def readable(path: Path) -> Pixels | None:
    """A picture; none where the file is refused, as some drawings are for their size."""
    try:
        return read(path)
    except GuardrailsError:
        return None


def folders(paths: list[Path], each: int, chance: random.Random) -> dict[str, list[Path]]:
    """At most `each` pictures of every folder."""
    found = {str(path): sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES) for path in paths}
    return {name: chance.sample(own, min(each, len(own))) for name, own in found.items()}


def main(options: argparse.Namespace) -> None:
    """Print the tables."""
    chance = random.Random(options.seed)  # noqa: S311 (no secret)
    gate, reader, spent = Lettering(), VisibleMarks(read_all=True), []
    names = [word for concept in shipped_pack().of_kind("ocr") for word in concept.words]
    fonts = sorted(str(path) for path in options.fonts.iterdir()) if options.fonts else []

    def score(pixels: Pixels) -> float:
        start = time.process_time()
        seen = gate.score(pixels)
        spent.append(time.process_time() - start)
        return seen

    grounds = [path for own in folders(options.marked, options.each, chance).values() for path in own]
    chance.shuffle(grounds)
    counts = {kind: [0, 0, 0] for kind, *_ in KINDS}
    for number in range(options.count if grounds else 0):
        kind, pixels = marked(number, options.seed, grounds, fonts, names)
        counts[kind][0] += 1
        if score(pixels) < THRESHOLD:
            counts[kind][1] += 1
            counts[kind][2] += reader.score(pixels).scores["stock-mark"] >= LEAST_SCORE
    print("marked pictures: no lettering seen, and of these a mark that the reader finds")
    for kind, (n, unseen, lost) in counts.items():
        print(
            f"{kind:44s} {unseen:4d}, {lost:4d} of {n:4d} (lost below {clopper_pearson_upper(lost, max(n, 1)):.2%})",
            flush=True,
        )
    print("pictures without a mark that pass on to the reader")
    for name, paths in folders(options.unmarked, options.each, chance).items():
        passed = [score(pixels) >= THRESHOLD for pixels in map(readable, paths) if pixels is not None]
        bound = clopper_pearson_upper(sum(passed), len(passed))
        print(f"{name:44s} {sum(passed):4d} of {len(passed):4d} (below {bound:.2%})", flush=True)
    print(f"{np.median(spent) * 1e3:.1f} ms of processor time a picture (median), one thread")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Count marks that the look for lettering loses, and pictures that pass."
    )
    parser.add_argument("--marked", type=Path, nargs="*", default=[])
    parser.add_argument("--unmarked", type=Path, nargs="*", default=[])
    parser.add_argument("--fonts", type=Path)
    parser.add_argument("--count", type=int, default=700)
    parser.add_argument("--each", type=int, default=600)
    parser.add_argument("--seed", type=int, default=20261127)
    main(parser.parse_args())
