"""Whether crops and composites lead to the work that they show, and what else they lead to.

::

    OMP_NUM_THREADS=1 python benchmarks/local_features.py PICTURES.npy OUT --photos photos/ --clips clips/

`PICTURES.npy` holds the drawings of the pocket collection; `--photos` and `--clips` are folders of pictures. Half of
each, by the SHA-256 of the name, is indexed; the other half is asked as it is, for false finds, and its photographs are
the grounds of the composites. A find is a placed work; pixels are then compared where it was placed, which gives its
level. OUT is a folder: an index, and one line for each question, so that a run that stops goes on where it was; the
tables are of all lines. Times are CPU times.

Beside it, on the same pictures: PDQ of the whole picture (frame <= 50, peeled box <= 31), and PDQ of 51 overlapping
windows of the work and of the picture (<= 50), the other way that was tried.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.pocket.scenes import canonical
from guardrails.resources import datasets_path
from guardrails.similarity.entries import read_entries
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import KEYPOINT128, PDQ256, code_distances
from guardrails.similarity.keypoint_index import REACH, KeypointIndex, Located, keypoint_entry
from guardrails.similarity.keypoints import picture_keypoints
from guardrails.similarity.levels import CONFIRMED_TILES, Level
from guardrails.similarity.parts import SegmentPart, State
from guardrails.similarity.segments import Near, open_segment, write_segment
from guardrails.similarity.verification import compare, compare_placed

Attack = Callable[[Pixels, np.random.Generator, list[Pixels]], Pixels]
SEED = 6633
DRAWINGS, PHOTOGRAPHS, CLIP_ART = SOURCES = ("drawings", "photographs", "clip art")
LEAST = (4, 5, 6, 8, 12)
WINDOWS = ((1.0, 1), (0.85, 3), (0.7, 4), (0.55, 5))


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def scaled(pixels: Pixels, factor: float) -> Pixels:
    area = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=area))


def turned(attack: Attack) -> Attack:
    """By 90, 180 or 270 degrees, and then attacked."""

    def both(pixels: Pixels, rng: np.random.Generator, grounds: list[Pixels]) -> Pixels:
        return attack(np.ascontiguousarray(np.rot90(pixels, int(rng.integers(1, 4)))), rng, grounds)

    return both


def cropped(kept: float, *, varied: bool = False) -> Attack:
    """`kept` of the area, anywhere; `varied`: also mirrored, of another size, and JPEG 60."""

    def attack(pixels: Pixels, rng: np.random.Generator, grounds: list[Pixels]) -> Pixels:
        height, width = (round(n * np.sqrt(kept)) for n in pixels.shape[:2])
        top, left = rng.integers(0, pixels.shape[0] - height + 1), rng.integers(0, pixels.shape[1] - width + 1)
        part = pixels[top : top + height, left : left + width]
        return jpeg(scaled(part[:, ::-1], rng.uniform(0.6, 1.5)), 60) if varied else jpeg(part, 80)

    return attack


def pasted(share: float, *, mirrored: bool = False) -> Attack:
    """Into a photograph, `share` of its width."""

    def attack(pixels: Pixels, rng: np.random.Generator, grounds: list[Pixels]) -> Pixels:
        ground = grounds[rng.integers(len(grounds))].copy()
        height, width = ground.shape[:2]
        factor = min(share * width / pixels.shape[1], 0.95 * height / pixels.shape[0])
        work = scaled(pixels[:, ::-1] if mirrored else pixels, factor)
        top, left = rng.integers(0, height - work.shape[0] + 1), rng.integers(0, width - work.shape[1] + 1)
        ground[top : top + work.shape[0], left : left + work.shape[1]] = work
        return jpeg(ground, 75)

    return attack


ATTACKS: dict[str, Attack] = {
    "crop, 90 % kept": cropped(0.9),
    "crop, 70 % kept": cropped(0.7),
    "crop, 70 % kept, mirrored, scaled": cropped(0.7, varied=True),
    "crop, 50 % kept": cropped(0.5),
    "crop, 30 % kept": cropped(0.3),
    "pasted, 25 % of the width": pasted(0.25),
    "pasted, 40 % of the width": pasted(0.4),
    "pasted, 60 %, mirrored": pasted(0.6, mirrored=True),
    "turned, crop, 50 % kept": turned(cropped(0.5)),
    "turned, pasted, 40 % of the width": turned(pasted(0.4)),
}


class Works:
    """All pictures by name, and which are indexed."""

    def __init__(self, options: argparse.Namespace) -> None:
        entries = read_entries(datasets_path("pocket", "manifest.csv")).entries
        self._drawings = np.load(options.pictures, mmap_mode="r")
        chosen = np.random.default_rng(SEED).permutation(len(entries))[: 2 * options.drawings]
        self._rows = {entries[row].id: int(row) for row in chosen}
        self._creators = {entry.id: entry.rights.creator for entry in entries}
        self._files: dict[str, Path] = {}
        self.sources = {DRAWINGS: sorted(self._rows)}
        for source, folder in ((PHOTOGRAPHS, options.photos), (CLIP_ART, options.clips)):
            files = sorted(folder.iterdir()) if folder else []
            self.sources[source] = [file.name for file in files]
            self._files |= {file.name: file for file in files}

    def picture(self, name: str) -> Pixels:
        if name in self._rows:
            return canonical(self._drawings[self._rows[name]])
        pixels = decode(self._files[name].read_bytes()).pixels
        return scaled(pixels, min(1.0, 1024 / max(pixels.shape[:2])))

    def different(self, one: str, other: str) -> bool:
        """Of other creators and concepts, as far as names tell; files are different works."""
        if one in self._rows and other in self._rows:
            same = one.partition(":")[2] == other.partition(":")[2]
            return self._creators[one] != self._creators[other] and not same
        return one != other


def indexed(name: str) -> bool:
    return hashlib.sha256(f"{SEED} {name}".encode()).digest()[-1] % 2 == 0


def windows(pixels: Pixels, fingerprinter: Fingerprinter, *, turned: bool) -> NDArray[np.uint8]:
    """PDQ of overlapping windows, of the picture as it is or also flipped and turned."""
    height, width = pixels.shape[:2]
    codes = []
    for side, steps in WINDOWS:
        for down in np.linspace(0, 1 - side, steps):
            for across in np.linspace(0, 1 - side, steps):
                top, left = int(down * height), int(across * width)
                part = pixels[top : top + int(side * height), left : left + int(side * width)]
                found = fingerprinter.fingerprint(np.ascontiguousarray(part), None)
                codes.append(
                    found.queries()[:8] if turned else np.array([np.frombuffer(c, np.uint8) for _, c in found.rows[:1]])
                )
    return np.ascontiguousarray(np.concatenate([c for c in codes if len(c)] or [np.zeros((0, 32), np.uint8)]))


def nearest(stored: NDArray[np.uint8], asked: NDArray[np.uint8]) -> int:
    return int(code_distances(stored, asked).min()) if len(stored) and len(asked) else 256


def by_hashes(work: Pixels, picture: Pixels, fingerprinter: Fingerprinter) -> dict[str, Any]:
    stored, asked = fingerprinter.fingerprint(work, None), fingerprinter.fingerprint(picture, None)
    near = [
        nearest(np.frombuffer(code, np.uint8)[None].copy(), asked.queries()) <= (31 if region == 1 else 50)
        for region, code in stored.rows
    ]
    return {"hashed": any(near)}


def by_windows(work: Pixels, picture: Pixels, fingerprinter: Fingerprinter) -> dict[str, Any]:
    return {
        "windows": nearest(windows(work, fingerprinter, turned=False), windows(picture, fingerprinter, turned=True))
    }


def ask(index: KeypointIndex, works: Works, picture: Pixels, compared: int) -> tuple[list[dict[str, Any]], float]:
    """What is found, with its level, and the CPU milliseconds of finding it."""
    started = time.process_time()
    found = index.find(picture)
    spent = (time.process_time() - started) * 1e3
    return [_described(one, works, picture if n < compared else None) for n, one in enumerate(found)], spent


def _described(located: Located, works: Works, picture: Pixels | None) -> dict[str, Any]:
    level = ""
    if picture is not None:
        level = compare_placed(picture, works.picture(located.id), located.placement).level.name
    return {"id": located.id, "keypoints": located.agreeing, "level": level}


def questions(works: Works, count: int, negatives: int) -> Iterator[tuple[str, str, str, int]]:
    """Source, name, attack, and the work's number, one source after the other."""
    rng = np.random.default_rng(SEED)
    chosen = {source: rng.permutation(names) for source, names in works.sources.items()}
    for number in range(max(count, negatives)):
        for source, names in chosen.items():
            attacked = [str(name) for name in names if indexed(name)][:count]
            yield from ((source, name, attack, number) for name in attacked[number : number + 1] for attack in ATTACKS)
            asked = [str(name) for name in names if not indexed(name)][:negatives]
            yield from ((source, name, "", number) for name in asked[number : number + 1])


def measure(options: argparse.Namespace, works: Works) -> None:
    index = KeypointIndex.of(options.out) or KeypointIndex.create(options.out)
    names = [name for source in SOURCES for name in works.sources[source] if indexed(name)]
    for begin in range(0, len(names), 50):
        batch = [name for name in names[begin : begin + 50] if name not in index.store]
        index.add(keypoint_entry(name, works.picture(name)) for name in batch)
    index.store.merge(everything=True)
    grounds = [works.picture(name) for name in works.sources[PHOTOGRAPHS] if not indexed(name)]
    fingerprinter = Fingerprinter(PDQ256)
    path = options.out / "answers.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {(row["work"], row["attack"]) for row in map(json.loads, lines)}
    with path.open("a") as out:
        for source, name, attack, number in questions(works, options.works, options.negatives):
            if (name, attack) in done:
                continue
            work = works.picture(name)
            row: dict[str, Any] = {"source": source, "work": name, "attack": attack, "indexed": len(names)}
            picture = work
            if attack:
                digest = hashlib.sha256(f"{name} {attack}".encode()).digest()[:8]
                picture = ATTACKS[attack](work, np.random.default_rng([*digest, SEED]), grounds)
                row |= {"textured": compare(work, work).counts.counted} | by_hashes(work, picture, fingerprinter)
                row |= by_windows(work, picture, fingerprinter) if number < options.windowed else {}
            found, spent = ask(index, works, picture, options.compared)
            row |= {"found": found, "false": [works.different(name, one["id"]) for one in found], "ms": spent}
            out.write(json.dumps(row) + "\n")
            out.flush()


class Grown:
    """A part as large as that of many more works: real rows repeated, a few bits and places changed each time."""

    def __init__(self, part: SegmentPart, works: int, folder: Path) -> None:
        times = -(-works // part.entries)
        rng = np.random.default_rng(SEED)
        codes = np.tile(np.asarray(part.codes), (times, 1))
        for _ in range(3):
            changed = np.arange(len(part.codes), len(codes))
            bits = (1 << rng.integers(0, 8, len(changed))).astype(np.uint8)
            codes[changed, rng.integers(0, 16, len(changed))] ^= bits
        copies = np.repeat(np.arange(times, dtype=np.uint32), len(part.codes))
        moved = rng.integers(0, 2**8, len(codes), dtype=np.uint32) << 10
        columns = {
            "codes": codes,
            "regions": np.tile(np.asarray(part.regions), times) ^ moved,
            "entry": np.tile(np.asarray(part.entry), times) + copies * np.uint32(part.entries),
        }
        self.entries = times * part.entries
        started = time.process_time()
        path = write_segment(folder, KEYPOINT128, columns, self.entries, {}, radius=REACH)
        self.build_seconds = time.process_time() - started
        self.segment = open_segment(path, {})
        self.bytes = sum(file.stat().st_size for file in path.iterdir())
        self.regions, self.entry = self.segment.columns["regions"], self.segment.columns["entry"]
        self.states: dict[int, State] = {}

    def nearby(self, code: NDArray[np.uint8], radius: int, reaches: Sequence[int], budget: int) -> Near:
        return self.segment.nearby(code, radius, reaches, budget)

    def name(self, number: int) -> str:
        return str(number)

    def facts(self, number: int) -> dict[str, str]:
        return {"width": "1", "height": "1"}


def grown_times(options: argparse.Namespace, works: Works) -> None:
    index = KeypointIndex.of(options.out)
    assert index is not None
    part = next(part for part in index.store.parts if isinstance(part, SegmentPart))
    grown = Grown(part, options.grown, options.out / "grown")
    large = KeypointIndex(SimpleNamespace(parts=[grown]))  # type: ignore[arg-type]
    names = [name for source in SOURCES for name in works.sources[source] if not indexed(name)]
    spent = []
    for name in np.random.default_rng(SEED).permutation(names)[:30]:
        picture = works.picture(str(name))
        started = time.process_time()
        picture_keypoints(picture)
        points = time.process_time()
        found = large.find(picture)
        ended = time.process_time()
        # Finding detects once more.
        spent.append((points - started, ended - points, len(found)))
    detecting, finding, found_works = np.median(spent, axis=0)
    rows = len(grown.regions)
    print(f"{grown.entries:,} works, {rows:,} keypoints, {grown.bytes / grown.entries:.0f} bytes each work on disk")
    print(f"build {grown.build_seconds:.1f} s; {finding * 1e3:.0f} ms, {detecting * 1e3:.0f} of them for keypoints")
    slow = np.percentile(spent, 95, axis=0)[1] * 1e3
    print(f"95th percentile {slow:.0f} ms; {found_works:.0f} works placed (median)")


def table(rows: list[dict[str, Any]]) -> None:
    asked = [row for row in rows if row["attack"]]
    head = ("n", "placed", ">= 6", "review", "confirmed", "hashes", "windows <= 31", "<= 50")
    for source in SOURCES:
        mine = [row for row in asked if row["source"] == source]
        fit = [row for row in mine if row["textured"] >= CONFIRMED_TILES]
        for title, chosen in ((f"{source}, all", mine), (f"{source}, with 30 textured tiles", fit)):
            print(f"\n{title:40}" + "".join(f"{name:>14}" for name in head))
            for attack in ATTACKS:
                _recall(attack, [row for row in chosen if row["attack"] == attack])
    print(f"\n{'other works, of all questions':40}" + "".join(f"{f'>= {least}':>10}" for least in LEAST) + "   pairs")
    for source in SOURCES:
        _false(source, [row for row in rows if row["source"] == source])
    _false("all", rows)
    ms = [row["ms"] for row in rows]
    print(f"\nfinding: {np.median(ms):.0f} ms median, {np.percentile(ms, 95):.0f} ms at the 95th percentile")


def _recall(attack: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    own = [next((one for one in row["found"] if one["id"] == row["work"]), None) for row in rows]
    levels = [Level[one["level"]] if one and one["level"] else Level.NONE for one in own]
    shares = [
        np.mean([one is not None for one in own]),
        np.mean([one is not None and one["keypoints"] >= 6 for one in own]),
        np.mean([level >= Level.REVIEW for level in levels]),
        np.mean([level >= Level.CONFIRMED for level in levels]),
        np.mean([row["hashed"] for row in rows]),
    ]
    windowed = [row["windows"] for row in rows if "windows" in row]
    shares += [np.mean([distance <= radius for distance in windowed]) for radius in (31, 50) if windowed]
    print(f"{attack:40}{len(rows):14}" + "".join(f"{share:14.3f}" for share in shares))


def _false(title: str, rows: list[dict[str, Any]]) -> None:
    wrong = [one for row in rows for one, false in zip(row["found"], row["false"], strict=True) if false]
    pairs = sum(row["indexed"] for row in rows)
    counts = [sum(one["keypoints"] >= least for one in wrong) for least in LEAST]
    print(f"{title:40}" + "".join(f"{count:10d}" for count in counts) + f"   {pairs:,}")
    for level in (Level.REVIEW, Level.CONFIRMED, Level.STRICT):
        reached = sum(bool(one["level"]) and Level[one["level"]] >= level for one in wrong)
        print(f"  {level.name.lower():38}{reached:10d}")
    pairs_confirmed = {
        (row["work"], one["id"], one["level"])
        for row in rows
        for one, false in zip(row["found"], row["false"], strict=True)
        if false and one["level"] and Level[one["level"]] >= Level.CONFIRMED
    }
    # To be looked at: names do not tell that two files are variants of one work.
    for asked, found, reached_level in sorted(pairs_confirmed):
        print(f"    {reached_level.lower()}: {asked} as {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--drawings", type=int, default=1000, help="indexed, about")
    parser.add_argument("--works", type=int, default=40, help="of each source, attacked")
    parser.add_argument("--negatives", type=int, default=100, help="of each source, asked as they are")
    parser.add_argument("--windowed", type=int, default=20, help="works of each source, also sought by windows")
    parser.add_argument("--compared", type=int, default=16, help="finds of one question whose pixels are compared")
    parser.add_argument("--grown", type=int, default=0, help="only time questions to an index grown to so many works")
    parser.add_argument("--table-only", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.grown:
        grown_times(options, Works(options))
        return
    if not options.table_only:
        measure(options, Works(options))
    table([json.loads(line) for line in (options.out / "answers.jsonl").read_text().splitlines()])


if __name__ == "__main__":
    main()
