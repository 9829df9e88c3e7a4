"""Words into the space of the offline image tower, which has no text tower of its own.

MiniLM reads the words and a projection carries its vector over to the pictures' side. Only the projection was trained,
against a locked image tower, on captioned pictures (Zhai et al., "LiT", CVPR 2022). It is a weaker text side than
CLIP's own: docs/screens.md says how weak.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

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


class LitText:
    """A `TextEncoder` whose vectors are compared with those of the offline image tower. Safe to share between threads.

    Args:
        id: names the projection.
        reader: gives the vectors that are projected.
        projection: shape (reader.dim, dim).
        bias: shape (dim,).
    """

    images = ENCODER_ID
    dim = DIMENSION

    def __init__(
        self, *, id: str, reader: TextEncoder, projection: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> None:
        self.id = id
        self._reader = reader
        self._projection = projection
        self._bias = bias
        self._one = lru_cache(KEPT)(self._read)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed short texts, best as a phrase such as "a photo of a revolver"; see `TextEncoder.embed`."""
        return np.stack([self._one(text) for text in texts])

    def _read(self, text: str) -> NDArray[np.float32]:
        row: NDArray[np.float32] = unit_rows(self._reader.embed([text]) @ self._projection + self._bias, self.id)[0]
        return row


_loading = threading.Lock()
_loaded: dict[Path, LitText] = {}


def load_lit_text(path: Path | None = None) -> LitText:
    """Load the shipped text side, or another file of the same form; once a process.

    Raises:
        ModelUnavailable: MiniLM is not installed, or the file does not hold a projection of the right shape.
    """
    path = path or datasets_path(*WEIGHTS)
    with _loading:
        if path not in _loaded:
            arrays, raw = read_arrays(path)
            shapes = {name: array.shape for name, array in arrays.items()}
            if shapes.get("projection") != (TEXT_DIMENSION, DIMENSION) or shapes.get("bias") != (DIMENSION,):
                raise ModelUnavailable(f"{path} holds no text projection", hint="train it again")
            _loaded[path] = LitText(
                id=f"lit-minilm:{hashlib.sha256(raw).hexdigest()[:16]}",
                reader=load_minilm(),
                projection=arrays["projection"].astype(np.float32),
                bias=arrays["bias"].astype(np.float32),
            )
        return _loaded[path]
