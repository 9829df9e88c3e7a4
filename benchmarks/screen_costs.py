"""What screening costs, in processor time of one thread.

::

    OMP_NUM_THREADS=1 python benchmarks/screen_costs.py

Times are the best of several runs. The tower's arithmetic depends on the processor (bfloat16 tiles make it twice as
fast), so the figure that travels is what everything else adds to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from guardrails.encoders import load_encoder
from guardrails.resources import datasets_path
from guardrails.screens.clip_concepts import REFERENCES, ClipConcepts
from guardrails.screens.concepts import read_pack, shipped_pack
from guardrails.screens.heads import Contrast, HeadSet
from guardrails.screens.marks import VisibleMarks
from guardrails.screens.open_nsfw import OpenNsfw
from guardrails.screens.references import Calibrated, read_references
from guardrails.testing.doubles import draw_shapes

BATCH = 16
CONCEPTS = 1000
ADDED = """api_version: concepts/v1
id: added
version: "1"
owner: benchmark
concepts:
  - {id: red-bicycle, kind: text, category: copyright, action: flag, phrases: [a red bicycle], negatives: [a bicycle]}
"""


def milliseconds(what: Callable[[], object], rounds: int = 5) -> float:
    """Best processor time of several runs."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        what()
        spent.append(time.process_time() - start)
    return 1e3 * min(spent)


def main() -> None:
    """Print the table."""
    pictures = [draw_shapes(seed, 512) for seed in range(BATCH)]
    encoder, screen = load_encoder("offline-clip"), ClipConcepts()
    tower = milliseconds(lambda: encoder.embed(pictures), 2) / BATCH
    print(f"tower, batch of {BATCH}, resize included: {tower:.0f} ms a picture")
    seen = screen.look(pictures[0])
    heads = milliseconds(lambda: screen.read(seen, {}), 20)
    vectors = seen.vectors
    place = milliseconds(lambda: screen.calibrated().place(vectors), 20)
    print(
        f"all {len(screen.heads().concepts)} shipped concepts and the domain: {heads + place:.2f} ms a picture, "
        f"{(heads + place) / tower:.2%} of the tower"
    )
    random = np.random.default_rng(1)
    rows = random.normal(size=(CONCEPTS, encoder.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    negatives = rows[:15].copy()
    many = Calibrated(
        HeadSet(
            [
                Contrast(concept=str(n), encoder=encoder.id, positives=row, negatives=negatives, labels=("x",))
                for n, row in enumerate(rows[:, np.newaxis])
            ]
        ),
        read_references(datasets_path(*REFERENCES)),
    )
    scored = milliseconds(lambda: many.scores(many.heads.raw(vectors, encoder.id), "photographs"), 20)
    print(f"{CONCEPTS} concepts on one picture, calibrated: {scored:.2f} ms")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "added.yaml"
        path.write_text(ADDED)
        packs = [shipped_pack(), read_pack(path)]
        print(f"packs changed while running, words already read: {milliseconds(lambda: screen.use(packs)):.0f} ms")
    for other in (OpenNsfw(), VisibleMarks()):
        other.score(pictures[0])
        spent = milliseconds(partial(other.score, pictures[1]), 3)
        print(f"{other.component.name}: {spent:.0f} ms a picture")


if __name__ == "__main__":
    main()
