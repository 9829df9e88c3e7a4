"""How often open_nsfw calls a safe emoji drawing explicit, by threshold: the rate that the default policy states.

::

    python benchmarks/open_nsfw_false_positives.py PICTURES.npy MANIFEST.csv

The drawings are the safe ones that `guardrails.screens.training` calibrates and tests on.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from guardrails.domain.calibration import CONFIDENCE, clopper_pearson_upper
from guardrails.screens.open_nsfw import OpenNsfw
from guardrails.screens.training import choose_examples, draw

THRESHOLDS = (0.2, 0.5, 0.8)


def main(pictures: Path, manifest: Path) -> None:
    """Print one line a threshold."""
    with manifest.open(newline="", encoding="utf-8") as file:
        examples = choose_examples(list(csv.DictReader(file)))
    drawings = np.load(pictures, mmap_mode="r")
    screen = OpenNsfw()
    safe = [example for example in examples if not example.concept and example.part != "fit"]
    scores = np.array([screen.score(draw(example, drawings[example.row]))["nsfw"] for example in safe])
    print(f"threshold  at or above  of {len(scores)}  upper bound ({CONFIDENCE:.0%})")
    for threshold in THRESHOLDS:
        hits = int(np.sum(scores >= threshold))
        print(
            f"{threshold:9.2f}  {hits:11d}  {hits / len(scores):6.2%}  {clopper_pearson_upper(hits, len(scores)):.2%}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
