"""Is the p-value honest: how often do pictures without a mark of the key reach it, over the draw of the key.

Run: python benchmarks/watermark_null.py [--pictures FOLDER] [--draws 1000000] [--output out/watermark]

A draw is one picture and one fresh key, put through one search of the detector as it counts them: the best of all
pilots, orientations, shifts and lattices, with its p-value, and what is then decoded. Half of the pictures are
unmarked, the other half carry a mark of a foreign key, after JPEG quality 75. The aligned searches are drawn most,
because they cost least. State is kept in the output folder: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from guardrails.watermark.attacks import jpeg
from guardrails.watermark.benchmark import wilson
from guardrails.watermark.carrier import BINS, Pool
from guardrails.watermark.detection import FALSE_POSITIVE_RATE, Candidate, demodulate
from guardrails.watermark.frame import canonical, luma
from guardrails.watermark.geometry import ORIENTATIONS, SEARCHES, Search
from guardrails.watermark.hosts import Host, load_hosts
from guardrails.watermark.keys import EpochKeys, Keyring
from guardrails.watermark.plots import null_plot
from guardrails.watermark.scheme import PixelMark
from guardrails.watermark.synchronisation import Correlation, correlate_all_shifts
from guardrails.watermark.views import Look, searches

NAMES = (
    "aligned",
    "all shifts",
    "cropped",
    "learned, aligned",
    "learned, all shifts",
    "learned, cropped",
    "learned, rotated",
)
LEVELS = tuple(10.0**-k for k in range(1, 8))
# One key meets all pictures in the aligned searches, and this share of them in each of the others.
SHARE = 0.02
SAVE_SECONDS = 30
FOREIGN_QUALITY = 75


@dataclass
class Tally:
    """How many draws of one search, and how many had a p-value of at most each level."""

    draws: int = 0
    below: list[int] = field(default_factory=lambda: [0] * len(LEVELS))
    smallest: float = 1.0
    decoded: int = 0
    payloads: int = 0

    def add(self, p_values: np.ndarray) -> None:
        """Count p-values."""
        self.draws += len(p_values)
        self.below = [count + int((p_values <= level).sum()) for count, level in zip(self.below, LEVELS, strict=True)]
        self.smallest = min(self.smallest, float(p_values.min()))


class Pictures:
    """The looks of all pictures in all searches, which no key changes."""

    def __init__(self, hosts: list[Host]) -> None:
        self.looks: dict[str, list[list[Look]]] = {name: [] for name in NAMES}
        foreign = PixelMark(Keyring(hashlib.sha256(b"foreign").digest()))
        for number, host in enumerate(hosts):
            marked = foreign.embed(host.pixels, f"{number:016x}").pixels
            for pixels in (host.pixels, jpeg(FOREIGN_QUALITY)(marked, np.random.default_rng(number))):
                for name, (_, _, looks) in zip(NAMES, searches(canonical(luma(pixels)), 2), strict=True):
                    self.looks[name].append(list(looks))
        self.count = len(self.looks["aligned"])
        self.bands = {
            name: np.stack([look.prepared for looks in self.looks[name] for look in looks])
            for name, search in zip(NAMES, SEARCHES, strict=True)
            if search.shifts == 1
        }


def draw(pictures: Pictures, number: int, tallies: dict[str, Tally]) -> None:
    """Everything that key `number` says about the pictures."""
    keys = Keyring(hashlib.sha256(f"null {number}".encode()).digest()).keys(0)
    rng = np.random.default_rng(number)
    for name, search in zip(NAMES, SEARCHES, strict=True):
        if search.shifts == 1:
            candidates = _aligned(pictures, name, keys)
            tallies[name].add(np.array([search.p_value(best.correlation.z, 1) for best in candidates]))
            for candidate in candidates:
                _decode(search, [candidate], tallies[name])
        else:
            for picture in np.flatnonzero(rng.random(pictures.count) < SHARE):
                found = [
                    Candidate(keys=keys, look=look, correlation=correlate_all_shifts(look.prepared, keys.pool))
                    for look in pictures.looks[name][picture]
                ]
                z = max((candidate.correlation.z for candidate in found), default=0.0)
                tallies[name].add(np.array([search.p_value(z, 1)]))
                _decode(search, found, tallies[name])


def _aligned(pictures: Pictures, name: str, keys: EpochKeys) -> list[Candidate]:
    """`correlate_aligned` for all pictures and pilots at once: the best candidate of each picture."""
    scores = _scores(pictures.bands[name], keys.pool).reshape(pictures.count, len(ORIENTATIONS), -1)
    candidates = []
    for picture, rows in enumerate(scores):
        turn, pilot = divmod(int(rows.argmax()), rows.shape[1])
        correlation = Correlation(pilot=pilot, z=float(rows[turn, pilot]), shift=(0, 0))
        look = pictures.looks[name][picture][turn]
        candidates.append(Candidate(keys=keys, look=look, correlation=correlation))
    return candidates


def _scores(bands: np.ndarray, pool: Pool) -> np.ndarray:
    pilots = np.zeros((BINS, len(pool.carriers)), np.complex64)
    np.put_along_axis(pilots, pool.pilots.T, pool.conjugates.T, axis=0)
    power = (np.abs(bands) ** 2) @ (np.abs(pilots) ** 2)
    return (bands @ pilots).real / np.sqrt(power / 2 + 1e-9)


def _decode(search: Search, candidates: list[Candidate], tally: Tally) -> None:
    """Decode what the detector would decode; a payload here is a wrong one."""
    candidates.sort(key=lambda candidate: -candidate.correlation.z)
    for candidate in candidates[: search.demodulations]:
        if search.p_value_with_check(candidate.correlation.z, 1) <= FALSE_POSITIVE_RATE:
            tally.decoded += 1
            tally.payloads += demodulate(candidate) is not None


def main() -> None:
    """Draw, save, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--draws", type=int, default=1_000_000, help="of each aligned search")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long; the next run goes on")
    parser.add_argument("--output", type=Path, default=Path("out/watermark"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = Pictures(load_hosts(arguments.pictures, size=512, limit=arguments.limit))
    arguments.output.mkdir(parents=True, exist_ok=True)
    state = arguments.output / "null.json"
    keys, tallies = 0, {name: Tally() for name in NAMES}
    if state.exists():
        saved = json.loads(state.read_text())
        keys, tallies = saved["keys"], {name: Tally(**tally) for name, tally in saved["tallies"].items()}
    started = last = time.monotonic()
    while keys * pictures.count < arguments.draws and time.monotonic() - started < 60 * arguments.minutes:
        draw(pictures, keys, tallies)
        keys += 1
        if time.monotonic() - last > SAVE_SECONDS:
            last = time.monotonic()
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
    lines = [
        "| search | draws | "
        + " | ".join(f"p <= {level:.0e}" for level in LEVELS)
        + " | smallest p | decoded | wrong payloads |"
    ]
    lines.append("|---|---:|" + "---:|" * (len(LEVELS) + 3))
    curves = {}
    for name, tally in tallies.items():
        shares = [count / max(tally.draws, 1) for count in tally.below]
        cells = [f"{share:.1e}" if share else f"0 (< {wilson(0, max(tally.draws, 1))[1]:.0e})" for share in shares]
        lines.append(
            f"| {name} | {tally.draws:,} | {' | '.join(cells)} | {tally.smallest:.1e} |"
            f" {tally.decoded:,} | {tally.payloads} |"
        )
        curves[name] = list(zip(LEVELS, shares, strict=True))
    (folder / "null.md").write_text("\n".join(lines) + "\n")
    (folder / "null.svg").write_text(null_plot(curves))
    print("\n".join(lines))
    if any(math.isclose(tally.smallest, 0.0) for tally in tallies.values()):
        print("a p-value of 0: look at it", file=sys.stderr)


if __name__ == "__main__":
    main()
