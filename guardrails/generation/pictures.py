"""What a pipeline returned as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from guardrails.errors import GenerationError
from guardrails.imaging import Pixels


def to_pixels(image: Any) -> Pixels:
    """One picture of a pipeline's `.images` as RGB uint8, height x width x 3.

    Args:
        image: a float array, height x width x 3, in 0..1 (values outside are clipped), or a PIL image.

    Raises:
        GenerationError: a value is not a finite number, or the value is no picture.
    """
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype.kind != "f":
        raise GenerationError(
            f"the pipeline returned {_describe(image)} where a picture was expected",
            hint="pipelines must return RGB float arrays or PIL images in .images",
        )
    if not np.isfinite(image).all():
        raise GenerationError(
            "the model computed values that are not numbers (NaN or infinity)",
            hint="float16 overflows in some models: use bfloat16 or float32; if it stays, the weights are damaged",
        )
    return np.rint(image.clip(0.0, 1.0) * 255.0).astype(np.uint8)


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}, {value.dtype}"
