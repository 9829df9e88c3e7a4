"""What every encoder promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import EmbeddingError
from guardrails.imaging import Pixels


class ImageEncoder(Protocol):
    """Turns pictures into unit vectors.

    Attributes:
        id: names the weights and the preprocessing; a head fitted on one id refuses the vectors of another.
        dim: length of a vector.
    """

    @property
    def id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed pictures of any sizes.

        Returns:
            float32 of shape (len(images), dim); every row has length 1.

        Raises:
            EmbeddingError: a vector is not finite or has no length.
        """
        ...


class PatchEncoder(Protocol):
    """An image encoder that can also say what it sees where."""

    def embed_patches(self, image: Pixels) -> NDArray[np.float32]:
        """Vectors of the square patches of one picture, in the space of `ImageEncoder.embed`.

        Returns:
            float32 of shape (rows, columns, dim) with unit vectors.
        """
        ...


class PairedEncoder(Protocol):
    """An image encoder that brings a text tower for the same space."""

    @property
    def text(self) -> TextEncoder: ...


class TextEncoder(Protocol):
    """Turns short texts into unit vectors.

    Attributes:
        id: names the weights and the number format; a head fitted on one id refuses the vectors of another.
        dim: length of a vector.
    """

    @property
    def id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts. The vector of a text never depends on the texts beside it.

        Returns:
            float32 of shape (len(texts), dim); every row has length 1.

        Raises:
            EmbeddingError: a vector is not finite or has no length.
        """
        ...


def unit_rows(vectors: NDArray[np.float32], encoder: str) -> NDArray[np.float32]:
    """Divide every row by its length.

    Args:
        vectors: float32 of shape (n, dim), as the network gave them.
        encoder: id, for the message.

    Raises:
        EmbeddingError: a row holds NaN or infinity, or is zero: such a row says nothing and must not become a score.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
        raise EmbeddingError(
            f"encoder {encoder} gave a vector that is not finite or is zero",
            hint="the weights are damaged or the number format overflowed; delete the cached weights and run it again",
        )
    rows: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return rows
