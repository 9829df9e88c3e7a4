"""Mark and read files of every kind that `imaging` decodes: grey, palette, 16-bit, transparent, turned by EXIF.

Animated files are refused by `imaging`, by name of the fault: a mark in one frame would promise what the others break.
The marked file has 8 bits per channel, stands upright and carries no metadata of the source; transparency is kept as
it was. What is under transparent pixels carries no mark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import MarkEmbedding, MarkReading, MarkVerdict
from guardrails.errors import WatermarkError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import Limits, decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.watermark.protocol import Scheme

# 8192 x 8192 pixels, the largest picture the mark is made for.
LIMITS = Limits(max_bytes=256 * 2**20, max_pixels=8192 * 8192)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedFile:
    """A marked picture, encoded.

    Attributes:
        earlier_id: of a mark of this key that the picture carried before, or "".
    """

    data: bytes
    format: ImageFormat
    embedding: MarkEmbedding
    earlier_id: str


def embed_file(
    data: bytes, scheme: Scheme, mark_id: str, *, format: ImageFormat | None = None, again: bool = False
) -> MarkedFile:
    """Decode, look for an earlier mark, mark, encode.

    A picture is marked once: a second mark lies over the first, and then either one may be read.

    Args:
        format: of the result; None for the source's own, or PNG where that cannot be written.
        again: mark a picture that carries a mark of this key already.

    Raises:
        ImageError: `data` is no still picture, see `imaging.decoding.decode`.
        OptionError: `format` cannot be written or has no room for the source's transparency.
        WatermarkError: the pixels cannot carry a mark, or carry one already.
    """
    source = decode(data, LIMITS)
    earlier = scheme.detect(source.pixels, "standard")
    if earlier.verdict is MarkVerdict.PRESENT and not again:
        raise WatermarkError(
            f"the picture carries the mark {earlier.mark_id} of this key already",
            hint="keep that id, or mark it again with --again; either id may then be read",
        )
    marked = scheme.embed(source.pixels, mark_id)
    target = format or (source.format if source.format.writable else ImageFormat.PNG)
    colours = marked.pixels if source.alpha is None else uncomposed(marked.pixels, source.alpha)
    return MarkedFile(
        data=encode(colours, target, alpha=source.alpha),
        format=target,
        embedding=marked.embedding,
        earlier_id=earlier.mark_id,
    )


def read_file(data: bytes, scheme: Scheme, mode: str) -> MarkReading:
    """Decode and look for a mark.

    Raises:
        ImageError: `data` is no still picture.
        WatermarkError: the picture is too small.
    """
    return scheme.detect(decode(data, LIMITS).pixels, mode)


def uncomposed(pixels: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """The colours that, composed on white with `alpha`, look like `pixels`; where alpha is 0, white."""
    opacity = np.maximum(alpha, 1)[..., None].astype(np.float32) / 255
    colours = 255 - (255 - pixels.astype(np.float32)) / opacity
    straight: Pixels = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    return straight
