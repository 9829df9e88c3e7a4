"""What every watermark scheme offers to the pipeline and the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from guardrails.domain.images import MarkEmbedding, MarkReading
from guardrails.imaging import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Marked pixels and what was done to them.

    Attributes:
        pixels: RGB uint8 of shape (height, width, 3).
    """

    pixels: Pixels
    embedding: MarkEmbedding


class Scheme(Protocol):
    """A watermark that carries a 64-bit id and answers with a p-value."""

    name: str

    def embed(self, pixels: Pixels, mark_id: str, *, flags: int = ...) -> Embedded:
        """Write `mark_id` (16 hexadecimal digits) into the pixels.

        Raises:
            WatermarkError: the pixels cannot carry a mark.
        """
        ...

    def detect(self, pixels: Pixels, mode: str = ...) -> MarkReading:
        """Look for this scheme's mark; `mode` is "fast", "standard" or "deep".

        Raises:
            WatermarkError: the pixels are too few or not RGB.
        """
        ...
