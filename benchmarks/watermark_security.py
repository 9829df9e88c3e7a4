"""What people who want to erase, forge or move the mark can do without its key.

Run: python benchmarks/watermark_security.py [--pictures FOLDER] [--limit 20]

1. Averaging: the whitened residuals of 100 marked pictures are averaged. The average, scaled to 1 and 2 grey levels
   rms, is subtracted from other marked pictures (erasing) and added to unmarked ones (forging).
2. Copying: the high-pass residual of one marked picture is pasted on another picture. The pixels alone cannot tell;
   the ledger's perceptual hash can, which the audit tests.
3. Wrong key: marked pictures are read with another key.
4. Marking again: a picture is marked twice with one key, and once each with two keys.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from guardrails.domain.images import MarkReading
from guardrails.imaging import Pixels
from guardrails.watermark.benchmark import wilson
from guardrails.watermark.frame import blur, luma, whiten
from guardrails.watermark.hosts import Host, drawn_hosts, load_hosts
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

SIZE, AVERAGED = 512, 100
LEVELS = (1.0, 2.0)


def main() -> None:
    """Run all four and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("out/watermark"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    victims = load_hosts(arguments.pictures, size=SIZE, limit=arguments.limit)
    mark = PixelMark(Keyring(hashlib.sha256(b"security").digest()))
    lines = ["| attack | n | verdicts | right id | largest z |", "|---|---:|---|---:|---:|"]
    for row in (
        *averaging(mark, victims),
        copying(mark, victims),
        wrong_key(mark, victims),
        *marking_again(mark, victims),
    ):
        lines.append(row)
        print(row, flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "security.md").write_text("\n".join(lines) + "\n")


def averaging(mark: PixelMark, victims: list[Host]) -> Iterator[str]:
    """The attacker has 100 marked pictures of one size and knows nothing else."""
    total = np.zeros((SIZE, SIZE), np.float32)
    for number, host in enumerate(drawn_hosts(size=SIZE, count=AVERAGED)):
        total += whiten(luma(mark.embed(host.pixels, _id("averaged", number)).pixels))
    pattern = total / total.std()
    for level in LEVELS:
        erased, forged = [], []
        for number, host in enumerate(victims):
            marked = mark.embed(host.pixels, _id("victim", number)).pixels
            erased.append((mark.detect(_added(marked, -level * pattern), "deep"), _id("victim", number)))
            forged.append((mark.detect(_added(host.pixels, level * pattern), "deep"), ""))
        yield _row(f"average of {AVERAGED} subtracted at {level:g} level rms", erased)
        yield _row(f"average of {AVERAGED} added to unmarked pictures at {level:g} level rms", forged)


def copying(mark: PixelMark, victims: list[Host]) -> str:
    """One marked picture's details on the next picture."""
    readings = []
    for number, (source, target) in enumerate(itertools.pairwise(victims)):
        marked = luma(mark.embed(source.pixels, _id("copied", number)).pixels)
        details = marked - blur(marked, 1.5)
        height, width = target.pixels.shape[:2]
        readings.append(
            (mark.detect(_added(target.pixels, cv2.resize(details, (width, height))), "deep"), _id("copied", number))
        )
    return _row("details of one marked picture pasted on another", readings)


def wrong_key(mark: PixelMark, victims: list[Host]) -> str:
    """Another installation reads."""
    other = PixelMark(Keyring(hashlib.sha256(b"another").digest()))
    return _row(
        "read with another key",
        [
            (other.detect(mark.embed(host.pixels, _id("foreign", number)).pixels, "deep"), "")
            for number, host in enumerate(victims)
        ],
    )


def marking_again(mark: PixelMark, victims: list[Host]) -> Iterator[str]:
    """Which id is read after a second mark, of this key and of another installation's."""
    other = PixelMark(Keyring(hashlib.sha256(b"another").digest()))
    second, first, theirs = [], [], []
    for number, host in enumerate(victims):
        once = mark.embed(host.pixels, _id("first", number)).pixels
        twice = mark.detect(mark.embed(once, _id("second", number)).pixels, "deep")
        second.append((twice, _id("second", number)))
        first.append((twice, _id("first", number)))
        both = other.embed(once, _id("second", number)).pixels
        theirs.append((mark.detect(both, "deep"), _id("first", number)))
    yield _row("marked twice with one key: the second id is read", second)
    yield _row("marked twice with one key: the first id is read", first)
    yield _row("marked again with another key: the first id is read with the first key", theirs)


def _id(purpose: str, number: int) -> str:
    return hashlib.sha256(f"{purpose} {number}".encode()).hexdigest()[:16]


def _added(pixels: Pixels, plane: np.ndarray) -> Pixels:
    height, width = pixels.shape[:2]
    fitted = cv2.resize(plane, (width, height)) if plane.shape != (height, width) else plane
    added: Pixels = np.clip(np.rint(pixels + fitted[..., None]), 0, 255).astype(np.uint8)
    return added


def _row(name: str, readings: list[tuple[MarkReading, str]]) -> str:
    verdicts = Counter(reading.verdict.value for reading, _ in readings)
    right, n = sum(bool(mark_id) and reading.mark_id == mark_id for reading, mark_id in readings), len(readings)
    low, high = wilson(right, n)
    detail = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    largest = max(reading.z for reading, _ in readings)
    return f"| {name} | {n} | {detail} | {right / n:.2f} ({low:.2f}-{high:.2f}) | {largest:.1f} |"


if __name__ == "__main__":
    main()
