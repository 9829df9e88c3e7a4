"""What a generator is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import GenerationFacts
from guardrails.domain.requests import PromptRequest
from guardrails.generation.latents import Shape, Signs
from guardrails.imaging import Pixels

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (denoising steps done, denoising steps in all), over all pictures of one request."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """One picture as it left the model, before any screening.

    Attributes:
        pixels: RGB uint8, height x width x 3.
        facts: how it was made; enough to make it again.
        own_checker_fired: the verdict of a safety checker inside the model's own pipeline: True when it fired (the
            pixels are then its black replacement), False when it passed the picture, None when there was none. Never
            read None as passed.
    """

    pixels: Pixels
    facts: GenerationFacts
    own_checker_fired: bool | None = None


class Generator(Protocol):
    """Turns a cleared prompt into pictures."""

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        """Draw `request.count` pictures.

        Args:
            request: everything but the prompt: negative prompt, seed, count, steps, guidance scale, size.
            prompt: the prompt that the policy cleared; it may be a rewritten one and replaces `request.prompt`.
            progress: told after each denoising step; an exception raised in it stops the drawing.

        Returns:
            The pictures in seed order: the i-th was drawn with seed + i.

        Raises:
            OptionError: this model cannot do what the request asks; raised before anything is drawn.
            GenerationError: the model ran and gave no usable picture.
        """
        ...


@runtime_checkable
class SignedGenerator(Generator, Protocol):
    """A generator whose initial latents can carry a mark: the signs are given, the magnitudes are the seed's."""

    def refuses_signs(self, request: PromptRequest) -> str:
        """Why a picture of this request would not lead back to its initial latent; "" when it would."""
        ...

    def latent_shape(self, request: PromptRequest) -> Shape:
        """Channels, height and width of the latents of this request."""
        ...

    def draw(
        self,
        request: PromptRequest,
        prompt: str,
        *,
        progress: Progress | None = None,
        signs: Sequence[Signs] = (),
    ) -> list[Drawn]:
        """See `Generator.draw`.

        Args:
            signs: one array a picture, of the shape that `latent_shape` gives; empty for latents of the seeds alone.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What one request draws in a call of the model that it shares with others: the arguments of `draw`."""

    request: PromptRequest
    prompt: str
    signs: Sequence[Signs] = ()


@runtime_checkable
class BatchGenerator(Generator, Protocol):
    """A generator that draws several requests in one call of its model."""

    def draw_together(self, parts: Sequence[Part], *, progress: Progress | None = None) -> list[list[Drawn]]:
        """Draw the pictures of every part; each from its own seed, as `draw` would.

        Args:
            parts: of equal `PromptRequest.form`, with signs for all of them or for none.

        Returns:
            One list a part, in their order.

        Raises:
            OptionError, GenerationError: as `draw`; nothing of any part is given then.
        """
        ...


@runtime_checkable
class EditingGenerator(Protocol):
    """A generator that can also start from a picture."""

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
        """Change a picture, `request.count` times.

        Args:
            pixels: RGB uint8, height x width x 3; brought to the size of the request.
            strength: 0..1, how far it is changed.
            mask: uint8, height x width; changed where it is 255, kept where it is 0. None changes everything.

        Raises:
            OptionError: this model cannot do that; raised before anything is drawn.
            GenerationError: the model ran and gave no usable picture.
        """
        ...
