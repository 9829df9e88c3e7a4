"""What visible labels cost the watermark, in which order the two go in, and whether the letters can be read.

Run: python benchmarks/labels.py [--pictures FOLDER] [--limit 24] [--drawings 12] [--size 512]

1. Every picture is marked without a label, labelled and then marked, and marked and then labelled; the mark is looked
   for after each attack in the mode "standard".
2. Labelled and marked pictures are saved as JPEG 75 and WebP 75; contrast of the letters, and what the OCR reader of
   the screens reads at each size.

The label is the largest there is: that of all profiles. Hosts are drawings and pictures of a folder, at `size` pixels.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from guardrails.domain.labels import VisibleLabel
from guardrails.imaging import Pixels
from guardrails.imaging.labels import draw_label, label_contrast
from guardrails.policy.labelling import label_profiles
from guardrails.screens.marks import VisibleMarks
from guardrails.watermark import attacks
from guardrails.watermark.benchmark import wilson
from guardrails.watermark.hosts import Host, drawn_hosts, load_hosts
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

ATTACKS = {
    "none": attacks.unchanged,
    "JPEG 75": attacks.jpeg(75),
    "JPEG 50": attacks.jpeg(50),
    "WebP 50": attacks.webp(50),
    "half size": attacks.resized(0.5),
    "crop 25 %": attacks.cropped(0.25),
    "crop 50 %": attacks.cropped(0.5),
    "social chain": attacks.chain(attacks.resized(0.75), attacks.jpeg(70), attacks.jpeg(60)),
    "regeneration": attacks.regenerated(12, 9),
}
SIZES = (128, 256, 512, 1024)
ORDERS: dict[str, Callable[[Pixels, PixelMark, str], tuple[Pixels, VisibleLabel | None]]] = {
    "no label": lambda pixels, mark, id: (mark.embed(pixels, id).pixels, None),
    "label, then mark": lambda pixels, mark, id: _label_first(pixels, mark, id),
    "mark, then label": lambda pixels, mark, id: _labelled(mark.embed(pixels, id).pixels),
}


def _labelled(pixels: Pixels) -> tuple[Pixels, VisibleLabel]:
    return draw_label(pixels, list(label_profiles().values()))


def _label_first(pixels: Pixels, mark: PixelMark, id: str) -> tuple[Pixels, VisibleLabel]:
    drawn, label = _labelled(pixels)
    return mark.embed(drawn, id).pixels, label


def recovery(hosts: list[Host], mark: PixelMark) -> None:
    """Table of marks read back."""
    found: dict[str, Counter[str]] = {order: Counter() for order in ORDERS}
    contrasts: dict[str, list[float]] = {order: [] for order in ORDERS}
    for host in hosts:
        id = hashlib.sha256(host.name.encode()).hexdigest()[:16]
        for order, make in ORDERS.items():
            marked, label = make(host.pixels, mark, id)
            if label is not None:
                contrasts[order].append(label_contrast(marked, label))
            for name, attack in ATTACKS.items():
                reading = mark.detect(attack(marked, np.random.default_rng(1)), "standard")
                found[order][name] += reading.mark_id == id
    print(f"\n| attack, {len(hosts)} pictures | " + " | ".join(ORDERS) + " |\n|---|" + "---:|" * len(ORDERS))
    for name in ATTACKS:
        print(f"| {name} | " + " | ".join(str(found[order][name]) for order in ORDERS) + " |")
    totals = [sum(found[order].values()) for order in ORDERS]
    trials = len(hosts) * len(ATTACKS)
    shown = [
        f"{total / trials:.3f} ({low:.3f}-{high:.3f})" for total in totals for low, high in [wilson(total, trials)]
    ]
    print("| all | " + " | ".join(shown) + " |")
    for order, values in contrasts.items():
        if values:
            print(f"lowest contrast, {order}: {min(values):.1f}")


def legibility(hosts: list[Host], mark: PixelMark) -> None:
    """Table of what the OCR reader finds, by size of the picture."""
    reader = VisibleMarks()
    print("\n| short side | pictures | AI生成 read | AI GENERATED read | lowest contrast |\n|---:|---:|---:|---:|---:|")
    for side in SIZES:
        chinese = english = 0
        lowest = 21.0
        for number, host in enumerate(hosts):
            pixels = attacks.resized(side / min(host.pixels.shape[:2]))(host.pixels, np.random.default_rng(0))
            marked, label = _label_first(pixels, mark, f"{number:016x}")
            saved = (attacks.jpeg(75), attacks.webp(75))[number % 2](marked, np.random.default_rng(0))
            lowest = min(lowest, label_contrast(saved, label))
            # A capital I and a small l have one outline in a sans face, and only their neighbours tell them apart.
            read = "".join(word.text for word in reader.read(saved)).replace(" ", "").replace("Al", "AI")
            chinese += "AI生成" in read
            english += "AIGENERATED" in read
        print(f"| {side} | {len(hosts)} | {chinese} | {english} | {lowest:.1f} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder of pictures")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--drawings", type=int, default=12)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    hosts = list(drawn_hosts(size=arguments.size, count=arguments.drawings))
    if arguments.pictures is not None:
        hosts += load_hosts(arguments.pictures, size=arguments.size, limit=arguments.limit)
    mark = PixelMark(Keyring(hashlib.sha256(b"benchmarks/labels.py").digest()))
    recovery(hosts, mark)
    legibility(hosts, mark)


if __name__ == "__main__":
    main()
