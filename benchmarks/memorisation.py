"""How a memorisation audit does: works that a model learnt and was asked for, and works that it never saw.

::

    guardrails audit memorisation --captions CAPTIONS.csv --out RUN
    python benchmarks/memorisation.py RUN PICTURES.npy

CAPTIONS.csv has the columns caption ("a lemon, noto style") and work ("noto:lemon"). Found: pictures asked for by the
caption of a trained work that count as its repetition. Accused: (a) pictures asked for by names that the model never
learnt which count as a repetition of anything; (b) every picture against the works of the same name by other hands,
which are the likeliest to be taken for it, by the rule for the caption's own work.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from guardrails.audit.memorisation import CAPTIONED_SHARE, RESULTS, read_results
from guardrails.domain.calibration import clopper_pearson_upper
from guardrails.imaging.decoding import decode
from guardrails.pocket.dataset import MANIFEST, read_manifest
from guardrails.pocket.scenes import canonical
from guardrails.resources import datasets_path
from guardrails.similarity.alignment import Frame
from guardrails.similarity.verification import compare_frames


def main(run: Path, pictures: Path) -> None:
    cv2.setNumThreads(1)
    manifest = read_manifest(datasets_path("pocket", MANIFEST))
    store = np.load(pictures, mmap_mode="r")
    trained = {picture.id for picture in manifest if picture.trained}
    by_name = defaultdict(list)
    for row, picture in enumerate(manifest):
        by_name[picture.name].append(row)
    drawings = read_results(run / RESULTS)
    learnt = [drawing for drawing in drawings if drawing.caption_work in trained]
    unseen = [drawing for drawing in drawings if drawing.caption_work not in trained]
    tell("found by the index alone", sum(drawing.confirmed for drawing in learnt), len(learnt))
    tell("found in all", sum(drawing.repeated == drawing.caption_work for drawing in learnt), len(learnt))
    works = {drawing.caption_work for drawing in learnt}
    tell("works found by one seed or more", len({d.repeated for d in learnt} & works), len(works))
    tell("accused, never learnt", sum(bool(drawing.repeated) for drawing in unseen), len(unseen))
    accused = pairs = 0
    for drawing in drawings:
        name = drawing.prompt.removeprefix("a ").rsplit(", ", 1)[0]
        frame = Frame(decode((run / drawing.file).read_bytes()).pixels)
        for row in by_name[name]:
            if manifest[row].id == drawing.caption_work and drawing in learnt:
                continue
            share = compare_frames(frame, Frame(canonical(store[row]))).share
            pairs += 1
            accused += share >= CAPTIONED_SHARE
            if share >= CAPTIONED_SHARE:
                print(f"  {drawing.prompt} (seed {drawing.seed}) as {manifest[row].id}: {share:.2f}")
    tell("accused, same name by other hands", accused, pairs)


def tell(what: str, hits: int, n: int) -> None:
    bound = clopper_pearson_upper(hits, n) if n else 1.0
    print(f"{what:36} {hits:4d} of {n:4d}  {hits / max(1, n):.3f}  (95 % upper bound {bound:.3f})")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
