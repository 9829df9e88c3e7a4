"""A generator with its own idea of steps and guidance, where the request leaves them open."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from guardrails.domain.requests import PromptRequest
from guardrails.generation.latents import Shape, Signs
from guardrails.generation.protocol import Drawn, Progress, SignedGenerator


@dataclass(frozen=True, slots=True, kw_only=True)
class WithDefaults:
    """Fills in what a request leaves open, then draws with `generator`; implements `SignedGenerator`."""

    generator: SignedGenerator
    steps: int
    guidance_scale: float

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

    def _filled(self, request: PromptRequest) -> PromptRequest:
        return dataclasses.replace(
            request,
            steps=self.steps if request.steps is None else request.steps,
            guidance_scale=self.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        )
