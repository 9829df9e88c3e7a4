"""A generator with its own idea of steps and guidance, where the request leaves them open."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from guardrails.domain.requests import PromptRequest
from guardrails.generation.protocol import Drawn, Generator, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class WithDefaults:
    """Fills in what a request leaves open, then draws with `generator`; implements `Generator`."""

    generator: Generator
    steps: int
    guidance_scale: float

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        """See `Generator.draw`."""
        filled = dataclasses.replace(
            request,
            steps=self.steps if request.steps is None else request.steps,
            guidance_scale=self.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        )
        return self.generator.draw(filled, prompt, progress=progress)
