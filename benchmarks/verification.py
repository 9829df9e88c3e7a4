"""What the pixel comparison bears out, and whom it accuses wrongly: the rates in `guardrails.similarity.levels`.

::

    python benchmarks/verification.py PICTURES.npy OUT.jsonl --negatives 5000 --works 40

Concepts are split in two halves by the SHA-256 of their name. The rules were chosen on the first half ("dev"); the
table is of the second. Negatives are drawings of different creators: the same concept by other hands, and the nearest
other concepts by hash. Copies are attacked works. OUT.jsonl is added to, so that a run that stops goes on where it was;
the table is printed from all of it. Times are CPU times of one comparison, the preparation of both pictures included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.pocket.scenes import canonical
from guardrails.resources import datasets_path
from guardrails.similarity.alignment import Frame
from guardrails.similarity.entries import Entry, read_entries
from guardrails.similarity.hashes import code_distances, pdq256
from guardrails.similarity.levels import CONFIRMED_TILES, Level
from guardrails.similarity.verification import Agreement, compare_frames

Attack = Callable[[Pixels, np.random.Generator], Pixels]
HALVES = ("dev", "test")
SEED = 2026


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def crop(pixels: Pixels, area: float, rng: np.random.Generator) -> Pixels:
    side = int(pixels.shape[0] * np.sqrt(1 - area))
    top, left = rng.integers(0, pixels.shape[0] - side + 1, 2)
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def turn(pixels: Pixels, degrees: float) -> Pixels:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    corner = tuple(int(value) for value in pixels[0, 0])
    return np.asarray(cv2.warpAffine(pixels, matrix, (width, height), borderValue=corner))


def pad(pixels: Pixels, share: float, colour: int, *, sides: bool = True) -> Pixels:
    lines = int(pixels.shape[0] * share)
    across = lines if sides else 0
    return np.asarray(
        cv2.copyMakeBorder(pixels, lines, lines, across, across, cv2.BORDER_CONSTANT, value=(colour,) * 3)
    )


def tone(pixels: Pixels, gain: float, offset: float = 0.0) -> Pixels:
    return np.clip(pixels * gain + offset, 0, 255).astype(np.uint8)


def hue(pixels: Pixels, degrees: int) -> Pixels:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + degrees // 2) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def grey(pixels: Pixels) -> Pixels:
    return np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def regenerate(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Bent by about `strength` pixels, blurred, tinted, noisy, saved: a stand-in for a memorised output, not one."""
    side = pixels.shape[0]
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    bend = [cv2.resize(rng.normal(0, strength, (5, 5)).astype(np.float32), (side, side)) for _ in range(2)]
    bent = cv2.remap(pixels, columns + bend[0], rows + bend[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(bent, (0, 0), max(0.5, strength / 2))
    tinted = soft * rng.uniform(1 - 0.03 * strength, 1 + 0.03 * strength, 3) + rng.uniform(-4, 4, 3) * strength
    return jpeg(np.clip(tinted + rng.normal(0, 3, tinted.shape), 0, 255).astype(np.uint8), 75)


def write(pixels: Pixels, text: str, place: tuple[int, int], scale: float, colour: int, thickness: int) -> Pixels:
    font = cv2.FONT_HERSHEY_SIMPLEX
    return np.asarray(cv2.putText(pixels.copy(), text, place, font, scale, (colour,) * 3, thickness))


def bar(pixels: Pixels) -> Pixels:
    covered = pixels.copy()
    covered[int(0.8 * len(covered)) :] = 0
    return write(covered, "BREAKING NEWS", (10, int(0.92 * len(covered))), 0.7, 255, 2)


def tiled(pixels: Pixels) -> Pixels:
    for top in range(20, pixels.shape[0], 50):
        for left in range(0, pixels.shape[1], 90):
            pixels = write(pixels, "stock", (left, top), 0.7, 128, 2)
    return pixels


def background(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    coloured = pixels.copy()
    coloured[(pixels >= 250).all(axis=2)] = rng.integers(30, 220, 3)
    return coloured


def noisy(pixels: Pixels, rng: np.random.Generator, sigma: float) -> Pixels:
    return np.clip(pixels + rng.normal(0, sigma, pixels.shape), 0, 255).astype(np.uint8)


def scaled(pixels: Pixels, across: float, down: float) -> Pixels:
    area = cv2.INTER_AREA if across < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, None, fx=across, fy=down, interpolation=area))


def flipped(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, ::-1])


ATTACKS: dict[str, Attack] = {
    "JPEG 90": lambda p, rng: jpeg(p, 90),
    "JPEG 20": lambda p, rng: jpeg(p, 20),
    "JPEG 8": lambda p, rng: jpeg(p, 8),
    "scale .5": lambda p, rng: scaled(p, 0.5, 0.5),
    "scale .2": lambda p, rng: scaled(p, 0.2, 0.2),
    "scale 2": lambda p, rng: scaled(p, 2, 2),
    "aspect 1.25": lambda p, rng: scaled(p, 1.25, 1),
    "crop 5 %": lambda p, rng: crop(p, 0.05, rng),
    "crop 10 %": lambda p, rng: crop(p, 0.1, rng),
    "crop 20 %": lambda p, rng: crop(p, 0.2, rng),
    "crop 30 %": lambda p, rng: crop(p, 0.3, rng),
    "crop 50 %": lambda p, rng: crop(p, 0.5, rng),
    "mirrored": lambda p, rng: flipped(p),
    "mirrored, crop 20 %": lambda p, rng: crop(flipped(p), 0.2, rng),
    "upside down": lambda p, rng: np.ascontiguousarray(p[::-1]),
    "turned 90": lambda p, rng: np.ascontiguousarray(np.rot90(p)),
    "turned 180": lambda p, rng: np.ascontiguousarray(np.rot90(p, 2)),
    "turned 1": lambda p, rng: turn(p, 1),
    "turned 3": lambda p, rng: turn(p, 3),
    "turned 8": lambda p, rng: turn(p, 8),
    "white pad 10 %": lambda p, rng: pad(p, 0.1, 255),
    "white pad 30 %": lambda p, rng: pad(p, 0.3, 255),
    "dark pad 10 %": lambda p, rng: pad(p, 0.1, 20),
    "letterbox": lambda p, rng: pad(p, 1 / 6, 0, sides=False),
    "darker .7": lambda p, rng: tone(p, 0.7),
    "brighter 1.4": lambda p, rng: tone(p, 1.4),
    "contrast .6": lambda p, rng: tone(p, 0.6, 51),
    "gamma .6": lambda p, rng: np.rint(255 * (p / 255) ** 0.6).astype(np.uint8),
    "hue 60": lambda p, rng: hue(p, 60),
    "grey": lambda p, rng: grey(p),
    "inverted": lambda p, rng: 255 - p,
    "blur 2": lambda p, rng: np.asarray(cv2.GaussianBlur(p, (0, 0), 2 * 256 / 384)),
    "blur 5": lambda p, rng: np.asarray(cv2.GaussianBlur(p, (0, 0), 5 * 256 / 384)),
    "noise 10": lambda p, rng: noisy(p, rng, 10),
    "noise 30": lambda p, rng: noisy(p, rng, 30),
    "caption": lambda p, rng: write(p, "(c) someone", (8, len(p) - 10), 0.5, 60, 1),
    "black bar": lambda p, rng: bar(p),
    "big word": lambda p, rng: write(p, "SOLD", (10, len(p) // 2), 3, 20, 8),
    "tiled mark": lambda p, rng: tiled(p),
    "coloured background": background,
    "regenerated 1": lambda p, rng: regenerate(p, rng, 1),
    "regenerated 3": lambda p, rng: regenerate(p, rng, 2.5),
}


def concept(entry: Entry) -> str:
    return entry.id.partition(":")[2]


def half_of(entry: Entry) -> str:
    return HALVES[hashlib.sha256(concept(entry).encode()).digest()[-1] % 2]


class Negatives:
    """Pairs of different creators: half the same concept, half near by hash."""

    def __init__(self, entries: list[Entry], drawings: list[NDArray[np.uint8]]) -> None:
        self._entries, self._drawings = entries, drawings

    def pairs(self, count: int) -> Iterator[tuple[str, int, int]]:
        rng = np.random.default_rng(SEED)
        same = self._same_concept()
        rng.shuffle(same)
        yield from (("same concept", int(a), int(b)) for a, b in same[: count // 2])
        yield from self._near(count - count // 2, rng)

    def _different(self, a: int, b: int) -> bool:
        """Of other creators, and not equal to the pixel: some sets share plain shapes, which is then no error."""
        one, other = self._entries[a], self._entries[b]
        return one.rights.creator != other.rights.creator and one.sha256 != other.sha256

    def _same_concept(self) -> list[tuple[int, int]]:
        by_concept = defaultdict(list)
        for number, entry in enumerate(self._entries):
            by_concept[concept(entry)].append(number)
        return [(a, b) for group in by_concept.values() for a in group for b in group if self._different(a, b)]

    def _near(self, count: int, rng: np.random.Generator) -> Iterator[tuple[str, int, int]]:
        sample = rng.choice(len(self._entries), min(len(self._entries), 1200), replace=False)
        codes = np.stack([pdq256(canonical(self._drawings[number])).codes[0] for number in sample])
        left = count
        distances = code_distances(codes, codes)
        for row in range(len(sample)):
            neighbours = [
                int(sample[column])
                for column in np.argsort(distances[row])[:40]
                if self._different(int(sample[row]), int(sample[column]))
                and concept(self._entries[sample[row]]) != concept(self._entries[sample[column]])
            ]
            for other in neighbours[: -(-count // len(sample))]:
                if left:
                    left -= 1
                    yield "near by hash", int(sample[row]), other


def numbers(agreement: Agreement, seconds: float) -> dict[str, Any]:
    counts = agreement.counts
    return {
        "level": agreement.level.name,
        "counted": counts.counted,
        "agreeing": counts.agreeing,
        "plain": agreement.plain,
        "tone": agreement.tone,
        "hypothesis": agreement.hypothesis,
        "ms": round(seconds * 1e3, 1),
    }


def timed(picture: Pixels, reference: Pixels) -> dict[str, Any]:
    started = time.process_time()
    agreement = compare_frames(Frame(picture), Frame(reference))
    return numbers(agreement, time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--half", choices=HALVES, default="test")
    parser.add_argument("--negatives", type=int, default=5000)
    parser.add_argument("--works", type=int, default=40)
    parser.add_argument("--table-only", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if not options.table_only:
        measure(options)
    table([json.loads(line) for line in options.out.read_text().splitlines()])


def measure(options: argparse.Namespace) -> None:
    table_entries = read_entries(datasets_path("pocket", "manifest.csv")).entries
    store = np.load(options.pictures, mmap_mode="r")
    rows = [number for number, entry in enumerate(table_entries) if half_of(entry) == options.half]
    entries, drawings = [table_entries[row] for row in rows], [store[row] for row in rows]
    done = set()
    if options.out.exists():
        done = {(r["kind"], r["picture"], r["work"]) for r in map(json.loads, options.out.read_text().splitlines())}
    with options.out.open("a") as out:
        for kind, a, b in _tasks(entries, drawings, options):
            key = kind, entries[a].id, entries[b].id
            if key in done:
                continue
            work = canonical(drawings[b])
            rng = np.random.default_rng([SEED, b, len(kind)])
            picture = ATTACKS[kind](work, rng) if kind in ATTACKS else canonical(drawings[a])
            row = {"kind": kind, "picture": key[1], "work": key[2], **timed(picture, work)}
            out.write(json.dumps(row) + "\n")
            out.flush()


def _tasks(
    entries: list[Entry], drawings: list[NDArray[np.uint8]], options: argparse.Namespace
) -> Iterator[tuple[str, int, int]]:
    chosen = np.random.default_rng(SEED).choice(len(entries), options.works, replace=False)
    yield from ((name, int(work), int(work)) for work in chosen for name in ATTACKS)
    yield from Negatives(entries, drawings).pairs(options.negatives)


def table(rows: list[dict[str, Any]]) -> None:
    """Print recall by attack, wrong levels by kind of negative, and times."""
    levels = ("LOOSE", "REVIEW", "CONFIRMED", "STRICT")
    print(f"{'copies, where the work has 30 textured tiles':46}" + "".join(f"{name.lower():>11}" for name in levels))
    copies = [row for row in rows if row["kind"] in ATTACKS]
    fit = [row for row in copies if row["counted"] >= CONFIRMED_TILES]
    for name in ATTACKS:
        _shares(name, [row for row in fit if row["kind"] == name], levels)
    _shares(f"all attacks (n = {len(fit)})", fit, levels)
    plain = sum(row["level"] == "UNVERIFIABLE" for row in copies)
    print(f"unverifiable: {plain} of {len(copies)} copies of all works")
    print(f"\n{'different creators':46}" + "".join(f"{name.lower():>11}" for name in levels))
    for kind in ("same concept", "near by hash"):
        found = [row for row in rows if row["kind"] == kind]
        counts = Counter(row["level"] for row in found)
        print(f"{f'{kind} (n = {len(found)})':46}" + "".join(f"{counts[name]:11d}" for name in levels))
        for row in found:
            if Level[row["level"]] >= Level.CONFIRMED:
                tiles = f"{row['agreeing']} tiles, {row['tone']}"
                print(f"  {row['level'].lower()}: {row['picture']} as {row['work']}, {tiles}")
    for name, found in (("copies", copies), ("negatives", [row for row in rows if row["kind"] not in ATTACKS])):
        if found:
            ms = [row["ms"] for row in found]
            print(f"{name}: {np.median(ms):.0f} ms median, {np.percentile(ms, 95):.0f} ms at the 95th percentile")


def _shares(name: str, rows: list[dict[str, Any]], levels: tuple[str, ...]) -> None:
    if rows:
        reached = [np.mean([Level[row["level"]] >= Level[level] for row in rows]) for level in levels]
        print(f"{name:46}" + "".join(f"{share:11.3f}" for share in reached))


if __name__ == "__main__":
    main()
