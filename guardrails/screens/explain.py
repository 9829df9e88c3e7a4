"""Where in a picture a concept is seen: a heat map from the vectors of its patches."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.encoders.protocol import PatchEncoder
from guardrails.errors import OptionError
from guardrails.imaging import Pixels
from guardrails.screens.clip_concepts import ClipConcepts
from guardrails.screens.views import letterbox

HEAT = (255, 40, 0)
STRONGEST = 0.65


def heat(screen: ClipConcepts, pixels: Pixels, concept: str) -> NDArray[np.float64]:
    """How much each patch of the whole picture looks like a concept, beside the other patches of the same picture.

    Returns:
        Shape (rows, columns), 0..1; over the letterboxed square.

    Raises:
        OptionError: no such concept, or the encoder has no patches.
    """
    encoder = screen.encoder()
    if not hasattr(encoder, "embed_patches"):
        raise OptionError(f"the encoder {encoder.id} gives no patches", hint="use offline-clip")
    heads = screen.heads()
    if concept not in heads.concepts:
        raise OptionError(f"no concept is called {concept!r}", hint=f"known: {', '.join(heads.concepts)}")
    patches = cast(PatchEncoder, encoder).embed_patches(letterbox(pixels))
    rows, columns, dim = patches.shape
    raw = heads.raw(patches.reshape(-1, dim), encoder.id)[:, heads.concepts.index(concept)].astype(np.float64)
    low, high = np.quantile(raw, 0.5), raw.max()
    spread: NDArray[np.float64] = np.clip((raw - low) / max(high - low, 1e-9), 0, 1)
    return spread.reshape(rows, columns)


def overlay(pixels: Pixels, shares: NDArray[np.float64]) -> Pixels:
    """The picture, letterboxed, with the heat over it in red."""
    square = letterbox(pixels).astype(np.float64)
    side = square.shape[0]
    image = Image.fromarray((shares * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    strength = (np.asarray(image, dtype=np.float64) / 255 * STRONGEST)[..., np.newaxis]
    mixed: Pixels = np.rint(square * (1 - strength) + np.array(HEAT) * strength).astype(np.uint8)
    return mixed
