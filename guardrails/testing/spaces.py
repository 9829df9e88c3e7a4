"""A space of sixteen axes in which words and pictures are what a test says: encoders without weights.

::

    screen = ClipConcepts(packs=[pack], encoder=AxisEncoder(axis(PHOTO)), references=file)

Its id starts with "test-": heads and reference pictures of real encoders refuse its vectors, and it those of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.screens.heads import Vectors
from guardrails.screens.references import pack_references

DIM = 16
ENCODER = "test-axes:1"
LANGUAGE = ("photo", "drawing", "gun", "drill", "flower")
PHOTO, DRAWING, GUN, DRILL, FLOWER = range(len(LANGUAGE))


def unit(values: NDArray[np.floating]) -> Vectors:
    """Rows of length 1."""
    rows: Vectors = (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)
    return rows


def axis(number: int) -> Vectors:
    """The unit vector along one axis, shape (16,)."""
    row: Vectors = np.eye(DIM, dtype=np.float32)[number]
    return row


def cloud(around: Vectors, count: int, seed: int, spread: float = 0.1) -> Vectors:
    """Unit rows scattered around a direction; equal seeds give equal rows."""
    return unit(around + spread * np.random.default_rng(seed).normal(size=(count, DIM)))


def safe_pictures() -> bytes:
    """A reference file of 400 safe photographs and 400 safe drawings."""
    return pack_references(ENCODER, {"photographs": cloud(axis(0), 400, 1), "drawings": cloud(axis(1), 400, 2)})


class AxisWords:
    """A `TextEncoder`: each word of `LANGUAGE` is an axis."""

    id = "test-words:1"
    dim = DIM

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder.embed`."""
        return unit(np.stack([sum(axis(LANGUAGE.index(word)) for word in text.split()) for text in texts]))


class AxisEncoder:
    """An `ImageEncoder` that gives the vectors that it was told, one a view in turn, and remembers the views."""

    id = ENCODER
    dim = DIM
    text = AxisWords()

    def __init__(self, *vectors: Vectors) -> None:
        self.seen: list[Pixels] = []
        self._vectors = vectors

    def embed(self, images: Sequence[Pixels]) -> Vectors:
        """See `ImageEncoder.embed`."""
        self.seen += list(images)
        return np.stack([self._vectors[number % len(self._vectors)] for number in range(len(images))])
