"""Does the record tell a copied mark from an edited picture.

Run: python benchmarks/watermark_binding.py [--pictures FOLDER] [--limit 15] [--drawings 15] [--seed 9000]

1. Honest edits: every host is marked, edited, read, and compared with its own record.
2. Copy attack: the exact residual of one marked picture, and its high-pass alone, added to every other host of the same
   size. Where the mark is read there, the picture is compared with the record that the mark leads to.

Hosts are drawings of this script's seeds and pictures of a folder, short side 512.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from guardrails.imaging import Pixels
from guardrails.watermark import attacks
from guardrails.watermark.benchmark import wilson
from guardrails.watermark.binding import EdgeMap, Fit
from guardrails.watermark.frame import blur, luma
from guardrails.watermark.hosts import Host, drawing, load_hosts
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

SIZE = 512
PLAIN = {
    "JPEG 60": attacks.jpeg(60),
    "JPEG 30": attacks.jpeg(30),
    "half size": attacks.resized(0.5),
    "one axis squeezed to .8": attacks.resized(0.8, 1.0),
    "crop 10 %": attacks.cropped(0.1),
    "crop 50 %": attacks.cropped(0.5),
    "crop 25 % and back": attacks.cropped_and_enlarged(0.25),
    "bar of 15 %": attacks.framed(0.15, top_only=True),
    "quarter turn": attacks.quarter_turns(1),
    "mirror": attacks.mirrored,
    "brightness .7": attacks.brightened(0.7),
    "contrast 1.3": attacks.contrasted(1.3),
    "gamma .7": attacks.gamma(0.7),
    "grey": attacks.grey,
    "saturation 1.5": attacks.saturated(1.5),
    "hue 20": attacks.hue_turned(20),
    "box 10 %": attacks.boxed(0.1),
    "caption, one line": attacks.captioned(1),
    "caption, four lines": attacks.captioned(4),
    "social chain": attacks.chain(attacks.resized(0.75), attacks.jpeg(70), attacks.jpeg(60)),
}
TURNED = {
    "rotate 2": attacks.rotated(2),
    "rotate 8": attacks.rotated(8),
    "rotate 12 and crop": attacks.rotated_and_cropped(12),
}


@dataclass
class Tally:
    """Comparisons of one kind: how many passed, and the lowest and highest likeness and colour."""

    passed: int = 0
    likeness: list[float] = field(default_factory=list)
    colour: list[float] = field(default_factory=list)

    def add(self, fit: Fit) -> None:
        """Count one."""
        self.passed += fit.same
        self.likeness.append(fit.likeness)
        if fit.colour is not None:
            self.colour.append(fit.colour)

    def row(self, name: str) -> str:
        """One line of the table."""
        n = len(self.likeness)
        low, high = wilson(self.passed, n) if n else (0.0, 1.0)
        colour = f"{min(self.colour):.2f} to {max(self.colour):.2f}" if self.colour else "none"
        edges = f"{min(self.likeness):.2f} to {max(self.likeness):.2f}" if n else "none"
        return f"| {name} | {n} | {self.passed} ({low:.3f}-{high:.3f}) | {edges} | {colour} |"


def main() -> None:
    """Run both and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--limit", type=int, default=15)
    parser.add_argument("--drawings", type=int, default=15)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--copies-only", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    numbers = range(arguments.seed, arguments.seed + arguments.drawings)
    hosts = [Host(name=f"drawing {seed}", kind="drawing", pixels=drawing(seed, SIZE)) for seed in numbers]
    if arguments.pictures:
        hosts += load_hosts(arguments.pictures, size=SIZE, limit=arguments.limit)
    mark = PixelMark(Keyring(hashlib.sha256(b"binding").digest()))
    marked = [mark.embed(host.pixels, _id(host)).pixels for host in hosts]
    maps = [EdgeMap.of(pixels) for pixels in marked]
    print("| comparison | n | passed as the recorded picture | edges | colours |\n|---|---:|---|---|---|")
    if not arguments.copies_only:
        honest(mark, hosts, marked, maps)
    for name, tally in copies(mark, hosts, marked, maps).items():
        print(tally.row(name), flush=True)


def honest(mark: PixelMark, hosts: list[Host], marked: list[Pixels], maps: list[EdgeMap]) -> None:
    """Every edit of every marked host in which the mark is read."""
    total = Tally()
    for name, edit in (PLAIN | TURNED).items():
        tally = Tally()
        for number, (host, pixels, record) in enumerate(zip(hosts, marked, maps, strict=True)):
            edited = edit(pixels, np.random.default_rng(number))
            reading = mark.detect(edited, "deep" if name in TURNED else "standard")
            if reading.mark_id == _id(host):
                fit = record.fit(edited, reading.geometry)
                tally.add(fit)
                total.add(fit)
        print(tally.row(name), flush=True)
    print(total.row("all edits"), flush=True)


def copies(mark: PixelMark, hosts: list[Host], marked: list[Pixels], maps: list[EdgeMap]) -> dict[str, Tally]:
    """Every ordered pair of hosts of one size and kind in which the copied mark is read."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for source, target in _pairs(hosts):
        residual = marked[source].astype(np.float32) - hosts[source].pixels
        detail = luma(marked[source])
        detail = (detail - blur(detail, 1.5))[..., None]
        for name, change in (("exact residual copied", residual), ("high-pass copied", detail)):
            forged = np.clip(np.rint(hosts[target].pixels + change), 0, 255).astype(np.uint8)
            reading = mark.detect(forged, "standard")
            if reading.mark_id == _id(hosts[source]):
                tallies[f"{name}, {hosts[source].kind}s"].add(maps[source].fit(forged, reading.geometry))
    return tallies


def _pairs(hosts: list[Host]) -> Iterator[tuple[int, int]]:
    for source, one in enumerate(hosts):
        for target, other in enumerate(hosts):
            if source != target and one.kind == other.kind and one.pixels.shape == other.pixels.shape:
                yield source, target


def _id(host: Host) -> str:
    return hashlib.sha256(host.name.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
