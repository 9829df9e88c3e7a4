"""What heads catch of a category that they were never trained on.

    python benchmarks/prompt_left_out.py --prompts policy.jsonl.gz

For each category, heads on the frozen encoder are trained twice: on everything, and without any prompt of the
category (unsafe, twin or harmless). Fold 4 gives the threshold that 4 % of harmless prompts on sensitive topics reach,
fold 0 the figures; neither is trained on. The difference is what contrast pairs of a category are worth, and the only
honest figure for one that nobody has written pairs for. The shipped heads have an adapter on top: their own figures
are in `prompt_semantics.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.minilm import load_minilm
from guardrails.prompts.examples import Example, read_aliases, read_contrast, read_jsonl
from guardrails.prompts.head_calibration import levels
from guardrails.prompts.head_training import Recipe, train
from guardrails.prompts.identities import neutral
from guardrails.resources import datasets_path

TEST, CALIBRATION = 0, 4
RATE = "0.04"
RECIPE = Recipe(epochs=12, plain=1500)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, action="append", default=[])
    options = parser.parse_args()
    aliases = read_aliases(datasets_path("contrast", "categories.csv"))
    examples = read_contrast(datasets_path("contrast"))
    examples += [one for file in options.prompts for one in read_jsonl(file, aliases)]
    vectors = load_minilm().embed([neutral(one.text) for one in examples])
    topics = sorted({one.topic for one in examples if one.topic})
    seen = _caught(examples, vectors, left_out="")
    print("category                   unsafe caught, seen -> left out   harmless caught, seen -> left out")
    for topic in topics:
        unseen = _caught(examples, vectors, left_out=topic)
        print(f"{topic:<27}" + "".join(_change(examples, topic, seen, unseen, unsafe) for unsafe in (True, False)))


def _caught(examples: Sequence[Example], vectors: NDArray[np.float32], *, left_out: str) -> NDArray[np.bool_]:
    """Which examples reach the threshold of heads that were trained without one category."""
    kept = [i for i, one in enumerate(examples) if not left_out or one.topic != left_out]
    taught = [i for i in kept if examples[i].fold not in (TEST, CALIBRATION)]
    trained = train([examples[i] for i in taught], vectors=vectors[taught], recipe=RECIPE)
    heads = trained.heads("frozen", [examples[taught[0]]], vectors[taught[:1]])
    assessments = heads.assess(vectors, "frozen")
    held_out = [i for i in kept if examples[i].fold == CALIBRATION]
    found = levels([examples[i] for i in held_out], [assessments[i] for i in held_out])
    return np.array([one.score >= found[RATE]["threshold"] for one in assessments])


def _change(
    examples: Sequence[Example], topic: str, seen: NDArray[np.bool_], unseen: NDArray[np.bool_], unsafe: bool
) -> str:
    rows = [
        i
        for i, one in enumerate(examples)
        if one.topic == topic and one.fold == TEST and one.is_unsafe == unsafe and one.weight == 1
    ]
    return f"{seen[rows].mean():>12.1%} -> {unseen[rows].mean():>6.1%} (n = {len(rows):>3})"


if __name__ == "__main__":
    main()
