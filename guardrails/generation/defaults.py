"""A generator with its own idea of steps and guidance, where the request leaves them open."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.latents import Shape, Signs
from guardrails.generation.protocol import Drawn, EditingGenerator, Part, Progress
from guardrails.imaging import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class WithDefaults:
    """Fills in what a request leaves open, then draws with `generator`.

    Implements `SignedGenerator` and `BatchGenerator`, and `EditingGenerator` where `editor` is given.
    """

    generator: DiffusersGenerator
    steps: int
    guidance_scale: float
    editor: EditingGenerator | None = None

    def refuses_signs(self, request: PromptRequest) -> str:
        """See `SignedGenerator`."""
        return self.generator.refuses_signs(self._filled(request))

    def latent_shape(self, request: PromptRequest) -> Shape:
        """See `SignedGenerator`."""
        return self.generator.latent_shape(self._filled(request))

    def draw(
        self,
        request: PromptRequest,
        prompt: str,
        *,
        progress: Progress | None = None,
        signs: Sequence[Signs] = (),
    ) -> list[Drawn]:
        """See `SignedGenerator`."""
        return self.generator.draw(self._filled(request), prompt, progress=progress, signs=signs)

    def draw_together(self, parts: Sequence[Part], *, progress: Progress | None = None) -> list[list[Drawn]]:
        """See `BatchGenerator`."""
        filled = [dataclasses.replace(part, request=self._filled(part.request)) for part in parts]
        return self.generator.draw_together(filled, progress=progress)

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
        """See `EditingGenerator`."""
        if self.editor is None:
            raise OptionError("this model cannot change pictures", hint="leave the picture out")
        return self.editor.edit(self._filled(request), prompt, pixels, strength, mask, progress=progress)

    def _filled(self, request: PromptRequest) -> PromptRequest:
        return dataclasses.replace(
            request,
            steps=self.steps if request.steps is None else request.steps,
            guidance_scale=self.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        )
