"""How often open_nsfw calls a harmless photograph explicit, by threshold: the rate that the default policy states.

::

    python benchmarks/open_nsfw_false_positives.py PHOTOGRAPHS [WORD ...]

PHOTOGRAPHS is a folder of harmless photographs. Those whose file names hold one of the WORDs (swimwear, towels, masks
...) are counted a second time, on their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from guardrails.domain.calibration import CONFIDENCE, clopper_pearson_upper
from guardrails.imaging.decoding import decode
from guardrails.screens.open_nsfw import OpenNsfw

THRESHOLDS = (0.5, 0.85, 0.98)


def show(title: str, scores: np.ndarray) -> None:
    """One line a threshold."""
    print(f"{title}\nthreshold  at or above  of {len(scores)}  upper bound ({CONFIDENCE:.0%})")
    for threshold in THRESHOLDS:
        hits = int(np.sum(scores >= threshold))
        bound = clopper_pearson_upper(hits, len(scores))
        print(f"{threshold:9.2f}  {hits:11d}  {hits / len(scores):6.2%}  {bound:.2%}")


def main(folder: Path, words: list[str]) -> None:
    """Print the tables."""
    screen, names, scores = OpenNsfw(), [], []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        names.append(path.stem.lower().replace("_", " "))
        scores.append(screen.score(decode(path.read_bytes()).pixels).scores["nsfw"])
    found = np.array(scores)
    show("all", found)
    alike = np.array([any(word in name for word in words) for name in names], dtype=bool)
    if alike.any():
        show("look-alikes", found[alike])
    for row in np.argsort(-found)[:12]:
        print(f"{found[row]:.2f}  {names[row]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
