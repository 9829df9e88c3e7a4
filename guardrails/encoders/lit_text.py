"""Words into the space of the offline image tower, which has no text tower of its own.

MiniLM reads the words and a map carries its vector over to the pictures' side. Only the map was trained, against a
locked image tower, on captioned pictures (Zhai et al., "LiT", CVPR 2022). It is a weaker text side than CLIP's own:
docs/screens.md says how weak.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.arrays import read_arrays
from guardrails.encoders.minilm import DIMENSION as TEXT_DIMENSION
from guardrails.encoders.minilm import load_minilm
from guardrails.encoders.offline_clip import DIMENSION, ENCODER_ID
from guardrails.encoders.protocol import TextEncoder, unit_rows
from guardrails.errors import ModelUnavailable
from guardrails.resources import datasets_path

# Texts whose vectors are remembered: those of the packs in use, so that changing a pack costs its new words alone.
KEPT = 4096
WEIGHTS = ("screens", "lit-text.npz")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextMap:
    """From a text encoder's vectors into the space of pictures: a projection and a hidden layer beside it,
    ``x projection + relu(x inner + threshold) outer + bias``.

    Attributes:
        projection: float32 of shape (inputs, dim).
        inner, threshold: shape (inputs, hidden) and (hidden,).
        outer: shape (hidden, dim).
        bias: shape (dim,); the mean caption comes out as nothing.
    """

    projection: NDArray[np.float32]
    inner: NDArray[np.float32]
    threshold: NDArray[np.float32]
    outer: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, texts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of shape (n, inputs) to shape (n, dim), not of unit length."""
        hidden = np.maximum(texts @ self.inner + self.threshold, 0)
        mapped: NDArray[np.float32] = texts @ self.projection + hidden @ self.outer + self.bias
        return mapped


class LitText:
    """A `TextEncoder` whose vectors are compared with those of the offline image tower. Safe to share between threads.

    Args:
        id: names the map.
        reader: gives the vectors that are mapped.
    """

    images = ENCODER_ID
    dim = DIMENSION

    def __init__(self, *, id: str, reader: TextEncoder, map: TextMap) -> None:
        self.id = id
        self._reader = reader
        self._map = map
        self._one = lru_cache(KEPT)(self._read)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed short texts, best as a phrase such as "a photo of a revolver"; see `TextEncoder.embed`."""
        return np.stack([self._one(text) for text in texts])

    def _read(self, text: str) -> NDArray[np.float32]:
        row: NDArray[np.float32] = unit_rows(self._map(self._reader.embed([text])), self.id)[0]
        return row


_loading = threading.Lock()
_loaded: dict[Path, LitText] = {}


def load_lit_text(path: Path | None = None) -> LitText:
    """Load the shipped text side, or another file of the same form; once a process.

    Raises:
        ModelUnavailable: MiniLM is not installed, or the file does not hold a map of the right shape.
    """
    path = path or datasets_path(*WEIGHTS)
    with _loading:
        if path not in _loaded:
            arrays, raw = read_arrays(path)
            _loaded[path] = LitText(
                id=f"lit-minilm:{hashlib.sha256(raw).hexdigest()[:16]}", reader=load_minilm(), map=_as_map(arrays, path)
            )
        return _loaded[path]


def _as_map(arrays: Mapping[str, NDArray[Any]], path: Path) -> TextMap:
    hidden = arrays["threshold"].size if "threshold" in arrays else 0
    expected = {
        "projection": (TEXT_DIMENSION, DIMENSION),
        "inner": (TEXT_DIMENSION, hidden),
        "threshold": (hidden,),
        "outer": (hidden, DIMENSION),
        "bias": (DIMENSION,),
    }
    if {name: array.shape for name, array in arrays.items()} != expected:
        raise ModelUnavailable(f"{path} holds no map from texts to pictures", hint="train it again")
    return TextMap(**{name: array.astype(np.float32) for name, array in arrays.items()})
