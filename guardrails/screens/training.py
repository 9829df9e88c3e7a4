"""Fits the linear concept heads of `datasets/screens/clip-concepts.json` on openly licensed emoji drawings.

::

    python -m guardrails.screens.training PICTURES.npy MANIFEST.csv OUTPUT.json

`PICTURES.npy` (uint8, n x 256 x 256 x 4) and `MANIFEST.csv` are what `guardrails pocket build` makes.

1. Split the *names* of safe drawings into three parts (fit, calibrate, test) and draw each name once, in one random
   hand, over one random background, in a random size and place: the parts are independent of each other.
2. Embed every picture once.
3. Fit a regularised logistic head per concept on its own drawings against the safe part and the other concepts.
4. Take the threshold from the calibration part and count false positives on the test part.
5. Measure recall on what the head has not seen: fitted again without one name, on that name; and on OpenMoji, a
   hand whose licence (share-alike) keeps it out of fitting.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.domain.calibration import clopper_pearson_upper, conformal_threshold, error_rate_text
from guardrails.encoders import ImageEncoder, load_encoder
from guardrails.files import write_atomically
from guardrails.imaging import Pixels
from guardrails.screens.heads import LinearHead

SEED = 20261124
TARGET_RATE = 0.02
SAFE_PARTS = {"fit": 220, "calibrate": 330, "test": 290}
# Concepts have few drawings, so each is shown this often, over other backgrounds and in other sizes.
SHOWN = 2
SHARE_ALIKE_SETS = frozenset({"openmoji"})
BATCH = 16
DOMAIN = "emoji drawings"

# Weight of the squared head vector against the mean log loss. Unit vectors of CLIP lie close together (cosines of .7
# and more), so that a head needs long weights to tell them apart.
REGULARISATION = 1e-4

PICTURE_SIDE = 256
SCALES = (0.5, 1.0)
# Pale, strong and dark colours alike: a head that never saw a dark background takes darkness for a sign.
BACKGROUNDS = (
    (255, 255, 255), (240, 240, 235), (150, 150, 150), (70, 75, 80), (20, 20, 24),
    (214, 40, 40), (245, 140, 40), (250, 215, 60), (50, 160, 80), (170, 225, 150),
    (40, 90, 210), (160, 210, 245), (130, 70, 180), (250, 165, 195), (130, 85, 50), (20, 140, 140),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """Which drawings show a concept.

    Attributes:
        names: emoji names that do.
        unclear: names that may or may not; they count neither way.
    """

    id: str
    names: frozenset[str]
    unclear: frozenset[str]


CONCEPTS = (
    Concept(
        id="weapon",
        names=frozenset(
            {"axe", "bomb", "bow and arrow", "crossed swords", "dagger", "kitchen knife", "water pistol"}
        ),
        unclear=frozenset(
            {"boomerang", "firecracker", "fork and knife", "fork and knife with plate", "person fencing", "pick",
             "shield", "trident emblem", "hammer and pick", "ninja", "military helmet", "sagittarius", "carpentry saw",
             "collision"}
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One picture to embed: row `row` of the manifest over one colour.

    Attributes:
        concept: id, or "" for a safe drawing.
        part: "fit", "calibrate", "test" for safe drawings; "fit" or "foreign" (share-alike set) for concepts.
        scale: side of the drawing over the side of the picture.
        across, down: 0 is at the left or upper edge, 1 at the right or lower one.
    """

    row: int
    name: str
    concept: str
    part: str
    background: tuple[int, int, int]
    scale: float
    across: float
    down: float


def choose_examples(manifest: Sequence[dict[str, str]]) -> list[Example]:
    """Step 1: which drawings, in which part, over which background; the same for the same manifest."""
    random = np.random.default_rng(SEED)
    concept_of = {name: concept.id for concept in CONCEPTS for name in concept.names}
    unclear = {name for concept in CONCEPTS for name in concept.unclear}

    def example(row: int, concept: str, part: str) -> Example:
        return Example(
            row=row,
            name=manifest[row]["name"],
            concept=concept,
            part=part,
            background=BACKGROUNDS[random.integers(len(BACKGROUNDS))],
            scale=float(random.uniform(*SCALES)),
            across=float(random.random()),
            down=float(random.random()),
        )

    examples = []
    rows_of_safe_name: dict[str, list[int]] = {}
    for row, entry in enumerate(manifest):
        name, foreign = entry["name"], entry["set"] in SHARE_ALIKE_SETS
        if name in concept_of:
            part = "foreign" if foreign else "fit"
            examples += [example(row, concept_of[name], part) for _ in range(SHOWN)]
        elif name not in unclear and not foreign:
            rows_of_safe_name.setdefault(name, []).append(row)
    names = random.permutation(sorted(rows_of_safe_name))[: sum(SAFE_PARTS.values())]
    parts = [part for part, size in SAFE_PARTS.items() for _ in range(size)]
    for name, part in zip(names, parts, strict=True):
        examples.append(example(int(random.choice(rows_of_safe_name[str(name)])), "", part))
    return examples


def embed_examples(
    examples: Sequence[Example], pictures: NDArray[np.uint8], encoder: ImageEncoder
) -> NDArray[np.float32]:
    """Step 2: float32 of shape (len(examples), encoder.dim)."""
    batches = [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]
    return np.concatenate(
        [encoder.embed([draw(example, pictures[example.row]) for example in batch]) for batch in batches]
    )


def draw(example: Example, rgba: NDArray[np.uint8]) -> Pixels:
    """The drawing of an example, straight-alpha RGBA, in its size and place over its background."""
    side = round(PICTURE_SIDE * example.scale)
    drawing = Image.fromarray(rgba).resize((side, side), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), example.background)
    slack = PICTURE_SIDE - side
    canvas.paste(drawing, (round(slack * example.across), round(slack * example.down)), drawing)
    return np.asarray(canvas)


def fit_head(positive: NDArray[np.float32], negative: NDArray[np.float32], *, concept: str, encoder: str) -> LinearHead:
    """Step 3: balanced logistic regression by Newton's method, rounded to float16 as it is stored."""
    features = np.concatenate([positive, negative]).astype(np.float64)
    features = np.hstack([features, np.ones((len(features), 1))])
    labels = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    share = np.where(labels == 1, 0.5 / len(positive), 0.5 / len(negative))
    penalty = np.full(features.shape[1], REGULARISATION)
    penalty[-1] = 0.0
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (share * (probability - labels)) + penalty * weights
        curvature = (features.T * (share * probability * (1 - probability))) @ features + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return LinearHead(concept=concept, encoder=encoder, vector=weights[:-1].astype(np.float16), bias=float(weights[-1]))


class Evaluation:
    """Steps 3 to 5 for one concept."""

    def __init__(
        self, concept: Concept, examples: Sequence[Example], vectors: NDArray[np.float32], encoder: str
    ) -> None:
        self._concept, self._examples, self._vectors, self._encoder = concept, examples, vectors, encoder

    def vectors_of(self, concept: str, part: str, *, only: str = "", without: str = "") -> NDArray[np.float32]:
        """Embeddings of the examples of one concept and part; of `only` one name, or of all names but one."""
        return self._vectors[
            [
                index
                for index, example in enumerate(self._examples)
                if (example.concept, example.part) == (concept, part)
                and only in ("", example.name)
                and example.name != without
            ]
        ]

    def fit(self, *, without: str = "") -> tuple[LinearHead, float]:
        """A head and its calibrated threshold, fitted without one name."""
        own = self._concept.id
        positive = self.vectors_of(own, "fit", without=without)
        others = [self.vectors_of(concept.id, "fit") for concept in CONCEPTS if concept.id != own]
        negative = np.concatenate([self.vectors_of("", "fit"), *others])
        head = fit_head(positive, negative, concept=own, encoder=self._encoder)
        safe = self.vectors_of("", "calibrate")
        threshold = conformal_threshold(head.scores(safe, self._encoder).tolist(), TARGET_RATE)
        if threshold is None:
            raise ValueError(f"{len(safe)} safe drawings cannot promise {TARGET_RATE:.1%}")
        return head, threshold

    def count(self, head: LinearHead, threshold: float, vectors: NDArray[np.float32]) -> list[int]:
        """[at or above the threshold, all]."""
        return [int(np.sum(head.scores(vectors, self._encoder) >= threshold)), len(vectors)]

    def recall_of_unseen_names(self) -> dict[str, list[int]]:
        """By name: [found, shown], by a head that never saw that name in any hand."""
        recall = {}
        for name in sorted(self._concept.names):
            head, threshold = self.fit(without=name)
            recall[name] = self.count(head, threshold, self.vectors_of(self._concept.id, "fit", only=name))
        return recall

    def describe(self) -> dict[str, Any]:
        """The concept's part of the data file."""
        head, threshold = self.fit()
        hits, n = self.count(head, threshold, self.vectors_of("", "test"))
        unseen = self.recall_of_unseen_names()
        calibrated_on = len(self.vectors_of("", "calibrate"))
        return {
            "vector": base64.b64encode(head.vector.astype("<f2").tobytes()).decode(),
            "bias": head.bias,
            "threshold": threshold,
            "error_rate": error_rate_text(
                target_rate=TARGET_RATE, calibrated_on=calibrated_on, hits=hits, n=n, domain=DOMAIN
            ),
            "calibration": {
                "target_rate": TARGET_RATE, "calibrated_on": calibrated_on, "tested_on": n, "false_positives": hits,
                "upper_bound_95": round(clopper_pearson_upper(hits, n), 4),
            },
            "recall": {
                "unseen_names": unseen,
                "unseen_names_total": [sum(r[0] for r in unseen.values()), sum(r[1] for r in unseen.values())],
                "unseen_hand_openmoji": self.count(head, threshold, self.vectors_of(self._concept.id, "foreign")),
            },
            "fitted_on_names": sorted(self._concept.names),
            "unclear_names": sorted(self._concept.unclear),
        }  # fmt: skip


def describe_sources(manifest: Sequence[dict[str, str]], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """One entry a source package: licence, creator, how many of its pictures were used for what."""
    sources: dict[str, dict[str, Any]] = {}
    for example in examples:
        entry = manifest[example.row]
        source = sources.setdefault(
            entry["package"],
            {key: entry[key] for key in ("package", "licence", "licence_url", "creator")}
            | {
                "use": "evaluation only" if entry["set"] in SHARE_ALIKE_SETS else "fitting and calibration",
                "pictures": 0,
            },
        )
        source["pictures"] += 1
    return [sources[package] for package in sorted(sources)]


def make_pack(
    manifest: Sequence[dict[str, str]], examples: Sequence[Example], vectors: NDArray[np.float32], encoder: str
) -> dict[str, Any]:
    """The whole data file: card and heads."""
    return {
        "id": "clip-concepts/1",
        "encoder": encoder,
        "caution": (
            "Fitted and calibrated on single emoji drawings over plain backgrounds, 256 x 256 pixels. Nothing is "
            "proven about photographs or other art: a rule on these scores may flag a picture for a "
            "person and must not block it."
        ),
        "made_by": "guardrails.screens.training",
        "seed": SEED,
        "method": (
            "logistic head on unit CLIP vectors; safe drawings split by name; split-conformal threshold; one-sided "
            "Clopper-Pearson bound on a separate safe part; recall as [found, shown]"
        ),
        "concepts": {concept.id: Evaluation(concept, examples, vectors, encoder).describe() for concept in CONCEPTS},
        "sources": describe_sources(manifest, examples),
    }


def train(pictures: Path, manifest: Path, output: Path) -> None:
    """Make the data file from the pocket data set; the fit itself takes seconds, the embedding some minutes."""
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    examples = choose_examples(rows)
    encoder = load_encoder("offline-clip")
    vectors = embed_examples(examples, np.load(pictures, mmap_mode="r"), encoder)
    pack = make_pack(rows, examples, vectors, encoder.id)
    write_atomically(output, (json.dumps(pack, indent=1, ensure_ascii=False) + "\n").encode())


def main() -> None:
    """Command line of `train`."""
    parser = argparse.ArgumentParser(description="Fit the concept heads on the pocket data set.")
    for name in ("pictures", "manifest", "output"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    train(options.pictures, options.manifest, options.output)


if __name__ == "__main__":
    main()
