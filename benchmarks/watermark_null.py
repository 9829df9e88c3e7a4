"""Is the p-value honest: how often do unmarked pictures reach it, over the draw of the key.

Run: python benchmarks/watermark_null.py [--pictures FOLDER] [--draws 1000000] [--output out/watermark]

A draw is one unmarked picture and one fresh key, put through one search of the detector exactly as it counts them: the
best of all pilots and orientations (and shifts), with its p-value. The aligned search is drawn most, because it costs
least; the search over all shifts and the whole detector get smaller shares. State is kept in the output folder: a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from guardrails.watermark.benchmark import wilson
from guardrails.watermark.carrier import BINS, Pool
from guardrails.watermark.detection import Detector
from guardrails.watermark.frame import Plane, band_of, canonical, fold, luma, whiten
from guardrails.watermark.front import guess_pattern
from guardrails.watermark.geometry import ALIGNED, LEARNED_ALIGNED, ORIENTATIONS, SHIFTED, Search, orient
from guardrails.watermark.hosts import Host, load_hosts
from guardrails.watermark.keys import EpochKeys, Keyring
from guardrails.watermark.plots import null_plot
from guardrails.watermark.synchronisation import correlate_all_shifts, prepare

LEVELS = tuple(10.0**-k for k in range(1, 8))
SHIFTED_SHARE, WHOLE_SHARE = 0.005, 0.0002
SAVE_EVERY = 100


@dataclass
class Tally:
    """How many draws of one search, and how many had a p-value of at most each level."""

    draws: int = 0
    below: list[int] = field(default_factory=lambda: [0] * len(LEVELS))
    smallest: float = 1.0
    payloads: int = 0

    def add(self, p_values: np.ndarray) -> None:
        """Count p-values."""
        self.draws += len(p_values)
        self.below = [count + int((p_values <= level).sum()) for count, level in zip(self.below, LEVELS, strict=True)]
        self.smallest = min(self.smallest, float(p_values.min()))


class Pictures:
    """The prepared bands of all hosts, which no key changes: complex64 (hosts * orientations, BINS) per front."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts
        frames = [canonical(luma(host.pixels)) for host in hosts]
        self.whitened = _bands(frames, whiten)
        self.learned = _bands(frames, lambda frame: guess_pattern(frame, whiten(frame)))


def _bands(frames: list[Plane], front: Callable[[Plane], Plane]) -> np.ndarray:
    return np.stack(
        [prepare(band_of(fold(orient(plane, *turn)))) for plane in map(front, frames) for turn in ORIENTATIONS]
    )


def aligned(bands: np.ndarray, pool: Pool, search: Search) -> np.ndarray:
    """`correlate_aligned` for all bands and pilots at once: the p-value of each picture."""
    pilots = np.zeros((BINS, len(pool.carriers)), np.complex64)
    np.put_along_axis(pilots, pool.pilots.T, pool.conjugates.T, axis=0)
    power = (np.abs(bands) ** 2) @ (np.abs(pilots) ** 2)
    scores = (bands @ pilots).real / np.sqrt(power / 2 + 1e-9)
    return np.array([search.p_value(z, 1) for z in scores.reshape(-1, len(ORIENTATIONS) * len(pool.carriers)).max(1)])


def draw(pictures: Pictures, number: int, tallies: dict[str, Tally]) -> None:
    """Everything that key `number` says about the pictures."""
    keys = Keyring(hashlib.sha256(f"null {number}".encode()).digest()).keys(0)
    tallies["aligned"].add(aligned(pictures.whitened, keys.pool, ALIGNED))
    tallies["aligned, learned front"].add(aligned(pictures.learned, keys.pool, LEARNED_ALIGNED))
    rng, count = np.random.default_rng(number), len(pictures.hosts)
    for host in np.flatnonzero(rng.random(count) < SHIFTED_SHARE):
        rows = pictures.whitened[host * len(ORIENTATIONS) :][: len(ORIENTATIONS)]
        z = max(correlate_all_shifts(band, keys.pool).z for band in rows)
        tallies["all shifts"].add(np.array([SHIFTED.p_value(z, 1)]))
    for host in np.flatnonzero(rng.random(count) < WHOLE_SHARE):
        _whole(pictures.hosts[host], keys, tallies["whole detector"])


def _whole(host: Host, keys: EpochKeys, tally: Tally) -> None:
    reading = Detector((keys,)).read(host.pixels, "deep")
    tally.add(np.array([reading.p_value]))
    tally.payloads += bool(reading.mark_id)


def main() -> None:
    """Draw, save, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("out/watermark"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = Pictures(load_hosts(arguments.pictures, size=512, limit=arguments.limit))
    arguments.output.mkdir(parents=True, exist_ok=True)
    state = arguments.output / "null.json"
    names = ("aligned", "aligned, learned front", "all shifts", "whole detector")
    keys, tallies = 0, {name: Tally() for name in names}
    if state.exists():
        saved = json.loads(state.read_text())
        keys, tallies = saved["keys"], {name: Tally(**tally) for name, tally in saved["tallies"].items()}
    while tallies["aligned"].draws + tallies["aligned, learned front"].draws < arguments.draws:
        draw(pictures, keys, tallies)
        keys += 1
        if keys % SAVE_EVERY == 0:
            save(state, keys, tallies)
            print(f"\r{keys} keys", end="", file=sys.stderr, flush=True)
    save(state, keys, tallies)
    write(arguments.output, tallies)


def save(state: Path, keys: int, tallies: dict[str, Tally]) -> None:
    """Keep what was counted."""
    plain = {name: vars(tally) for name, tally in tallies.items()}
    state.write_text(json.dumps({"keys": keys, "tallies": plain}, indent=1))


def write(folder: Path, tallies: dict[str, Tally]) -> None:
    """The table and the plot."""
    lines = ["| search | draws | " + " | ".join(f"p <= {level:.0e}" for level in LEVELS) + " | smallest p | payloads |"]
    lines.append("|---|---:|" + "---:|" * (len(LEVELS) + 2))
    curves = {}
    for name, tally in tallies.items():
        shares = [count / max(tally.draws, 1) for count in tally.below]
        cells = [f"{share:.1e}" if share else f"0 (< {wilson(0, max(tally.draws, 1))[1]:.0e})" for share in shares]
        lines.append(f"| {name} | {tally.draws:,} | {' | '.join(cells)} | {tally.smallest:.1e} | {tally.payloads} |")
        curves[name] = list(zip(LEVELS, shares, strict=True))
    (folder / "null.md").write_text("\n".join(lines) + "\n")
    (folder / "null.svg").write_text(null_plot(curves))
    print("\n".join(lines))
    if any(math.isclose(tally.smallest, 0.0) for tally in tallies.values()):
        print("a p-value of 0: look at it", file=sys.stderr)


if __name__ == "__main__":
    main()
