"""What a second description of the same picture buys: recall of copies against false pairs, for one rule after another.

::

    OMP_NUM_THREADS=1 python benchmarks/similarity_second.py PICTURES.npy --manifest datasets/pocket/manifest.csv
    OMP_NUM_THREADS=1 python benchmarks/similarity_second.py PICTURES.npy --folder clips/ --attacks plain

Copies are those of `similarity_recall.py`, false pairs ordered pairs of drawings of different creators and concepts.
Both are described by PDQ, by `sym256` and by an 8 x 8 colour layout, of the frame and of the box inside plain borders.
A rule asks PDQ within one radius for rows of the frame and another for rows of the box, and that the same rows, in the
orientation that PDQ found, agree in the second description, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from similarity_recall import ATTACKS, PLAIN, on_white  # type: ignore[import-not-found]  # beside this script

from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.similarity.borders import content_box
from guardrails.similarity.entries import read_entries
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import MIN_QUALITY, ORIENTATIONS, PDQ256, SYM256, oriented

GRID = 8
SIDE = 640
WIDEST = 72
_PDQ, _SYM = Fingerprinter(PDQ256, boxes=False), Fingerprinter(SYM256, boxes=False)


@dataclass(frozen=True, slots=True)
class Described:
    """One region: its codes in all orientations and then of the negative, and its mean colours."""

    box: bool
    pdq: NDArray[np.uint8]
    sym: NDArray[np.uint8]
    colours: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rule:
    """Radii of PDQ for rows of the frame and of the box, and of the second description."""

    frame: int
    box: int
    colour: float = np.inf
    sym: float = np.inf

    def holds(self, near: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Rows as `nearness` gives them."""
        box, pdq, sym, colour = near[:, 1:].T
        return (pdq <= np.where(box > 0, self.box, self.frame)) & (sym <= self.sym) & (colour <= self.colour)


RULES: dict[str, tuple[Rule, ...]] = {
    "PDQ 50/31": (Rule(50, 31),),
    "PDQ 42/36": (Rule(42, 36),),
    "PDQ 40/31": (Rule(40, 31),),
    "PDQ 60/45, sym256 40": (Rule(60, 45, sym=40),),
    "PDQ 60/45, sym256 60": (Rule(60, 45, sym=60),),
    "PDQ 60/60, colours 10": (Rule(60, 60, colour=10),),
    "PDQ 72/72, colours 10": (Rule(72, 72, colour=10),),
    "PDQ 40/31, or 60/60 and colours 10": (Rule(40, 31), Rule(60, 60, colour=10)),
    "PDQ 40/31, or 72/72 and colours 10": (Rule(40, 31), Rule(72, 72, colour=10)),
}


def describe(pixels: Pixels) -> list[Described]:
    """The regions that have enough detail."""
    box = content_box(pixels)
    parts = [(False, pixels)] if box.is_whole(pixels) else [(False, pixels), (True, box.cut(pixels))]
    described = []
    for inside, part in parts:
        pdq = _PDQ.hashes(part)
        if pdq.quality >= MIN_QUALITY:
            colours = np.asarray(cv2.resize(part, (GRID, GRID), interpolation=cv2.INTER_AREA), dtype=np.uint8)
            described.append(
                Described(inside, _with_negative(pdq.codes), _with_negative(_SYM.hashes(part).codes), colours)
            )
    return described


def nearness(owner: int, stored: list[Described], asked: list[Described]) -> Iterator[tuple[float, ...]]:
    """Owner, whether the stored row is a box, and the distances of PDQ, sym256 and colours of each two regions."""
    for work in stored:
        for picture in asked:
            distances = np.bitwise_count(picture.pdq ^ work.pdq[0]).sum(axis=1)
            best = int(distances.argmin())
            sym = int(np.bitwise_count(picture.sym[best] ^ work.sym[0]).sum())
            colours = oriented(picture.colours, best % ORIENTATIONS).astype(np.int16)
            colours = 255 - colours if best >= ORIENTATIONS else colours
            yield owner, work.box, int(distances[best]), sym, float(np.abs(colours - work.colours).mean())


def copies(pictures: list[Pixels], attacks: list[str], seed: int) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Nearness of every attacked picture to its work, and the attack of each owner."""
    near: list[tuple[float, ...]] = []
    names: list[str] = []
    for row, pixels in enumerate(pictures):
        stored = describe(pixels)
        for number, name in enumerate(attacks):
            attacked = np.ascontiguousarray(ATTACKS[name](pixels, np.random.default_rng([seed, row, number])))
            near += nearness(len(names), stored, describe(attacked))
            names.append(name)
    return np.array(near).reshape(-1, 5), np.array(names)


def false_pairs(drawings: NDArray[np.uint8], manifest: Path, count: int, seed: int) -> tuple[NDArray[np.float64], int]:
    """Nearness of different works that are within the widest radius, and how many pairs there were."""
    entries = read_entries(manifest)
    chosen = np.random.default_rng(seed + 1).choice(len(drawings), min(count, len(drawings)), replace=False)
    creators = np.array([entries[int(row)].rights.creator for row in chosen])
    concepts = np.array([entries[int(row)].id.partition(":")[2] for row in chosen])
    described = [describe(on_white(drawings[row])) for row in chosen]
    rows = [(number, one) for number, regions in enumerate(described) for one in regions]
    owners = np.array([number for number, _ in rows])
    words = np.stack([one.pdq[0] for _, one in rows]).view(np.uint64)
    near: list[tuple[float, ...]] = []
    pairs = 0
    for number, regions in enumerate(described):
        others = (creators != creators[number]) & (concepts != concepts[number])
        pairs += int(others.sum())
        for code in (code for one in regions for code in np.ascontiguousarray(one.pdq).view(np.uint64)):
            within = (np.bitwise_count(words ^ code).sum(axis=1) <= WIDEST) & others[owners]
            for row in np.flatnonzero(within):
                owner, work = rows[row]
                near += nearness(number * len(chosen) + owner, [work], regions)
    return np.array(near).reshape(-1, 5), pairs


def found(rules: tuple[Rule, ...], near: NDArray[np.float64]) -> NDArray[np.int64]:
    """The owners that a rule finds."""
    held = np.any([rule.holds(near) for rule in rules], axis=0)
    return np.unique(near[held, 0]).astype(np.int64)


def _with_negative(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([codes, ~codes])


def _pictures(options: argparse.Namespace, drawings: NDArray[np.uint8]) -> list[Pixels]:
    rng = np.random.default_rng(options.seed)
    if options.folder is None:
        return [on_white(drawings[row]) for row in rng.choice(len(drawings), options.works, replace=False)]
    files = rng.permutation(sorted(options.folder.iterdir()))[: options.works]
    pictures = [decode(file.read_bytes()).pixels for file in files]
    scales = [min(1.0, SIDE / max(pixels.shape[:2])) for pixels in pictures]
    return [
        np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        for pixels, scale in zip(pictures, scales, strict=True)
    ]


def main() -> None:
    """Print one line for each rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--folder", type=Path, help="attack these pictures, not the drawings")
    parser.add_argument("--works", type=int, default=150)
    parser.add_argument("--attacks", choices=["plain", "all"], default="all")
    parser.add_argument("--manifest", type=Path, help="the drawings' entry table, for false pairs")
    parser.add_argument("--pairs", type=int, default=4000, help="drawings for the false pairs")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    drawings = np.load(options.pictures, mmap_mode="r")
    near, names = copies(
        _pictures(options, drawings), list(PLAIN if options.attacks == "plain" else ATTACKS), options.seed
    )
    plain = np.isin(names, list(PLAIN))
    wrong, pairs = (np.zeros((0, 5)), 0)
    if options.manifest is not None:
        wrong, pairs = false_pairs(drawings, options.manifest, options.pairs, options.seed)
    print(
        f"{len(names):,} copies, {pairs:,} pairs of different drawings\n{'rule':38}{'plain':>8}{'all':>8}{'false':>8}"
    )
    for title, rules in RULES.items():
        hit = np.zeros(len(names), np.bool_)
        hit[found(rules, near)] = True
        line = f"{title:38}{hit[plain].mean():8.4f}{hit.mean():8.4f}"
        print(line + (f"{len(found(rules, wrong)):8d}" if pairs else ""))


if __name__ == "__main__":
    main()
