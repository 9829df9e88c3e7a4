"""Image-to-image and inpainting with the weights of a text-to-image pipeline."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.latents import picture_size
from guardrails.generation.protocol import Drawn, Progress
from guardrails.imaging import Pixels


class DiffusersEditor:
    """Changes pictures with the components of a `DiffusersGenerator`; nothing is loaded twice.

    Implements `EditingGenerator.edit`.
    """

    def __init__(self, generator: DiffusersGenerator) -> None:
        self._generator = generator
        self._made: dict[bool, DiffusersGenerator] = {}

    def edit(
        self,
        request: PromptRequest,
        prompt: str,
        pixels: Pixels,
        strength: float,
        mask: NDArray[np.uint8] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[Drawn]:
        """See `EditingGenerator.edit`."""
        size = picture_size(self._generator.pipeline, request)
        extra: dict[str, Any] = {"image": Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)}
        extra["strength"] = strength
        if mask is not None:
            extra["mask_image"] = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
            extra |= {"width": size[0], "height": size[1]}
        # The size is that of the picture; these pipelines take it from there.
        plain = dataclasses.replace(request, width=None, height=None)
        return self._for(mask is not None).draw(plain, prompt, progress=progress, extra=extra)

    def _for(self, masked: bool) -> DiffusersGenerator:
        if masked not in self._made:
            import diffusers

            kind = diffusers.AutoPipelineForInpainting if masked else diffusers.AutoPipelineForImage2Image
            source = self._generator
            try:
                pipeline = kind.from_pipe(source.pipeline)
            except ValueError as error:
                raise OptionError(
                    f"{type(source.pipeline).__name__} cannot change pictures", hint="use another model for edits"
                ) from error
            self._made[masked] = DiffusersGenerator(
                pipeline, name=source.name, revision=source.revision, weights_sha256=source.weights_sha256
            )
        return self._made[masked]
