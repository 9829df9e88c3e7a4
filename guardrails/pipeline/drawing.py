"""From a cleared request to drafts: the model draws, from noise that carries the pictures' ids where it can."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from guardrails.domain.canonical import canonical_json
from guardrails.domain.identity import ImageId
from guardrails.domain.images import LatentStart
from guardrails.domain.requests import PromptRequest
from guardrails.errors import GenerationError, OptionError
from guardrails.generation.protocol import Drawn, EditingGenerator, Generator, Part, Progress, SignedGenerator
from guardrails.pipeline.original import Original
from guardrails.pipeline.stages import Cleared, Draft, Pictures
from guardrails.watermark.latent import LatentMark


class Drawing:
    """Draws with one model.

    Args:
        latent: signs the noise; None where there is no key for it.
        wanted: when the policy asks for that: "never", "unseeded" or "always".
    """

    def __init__(self, generator: Generator, latent: LatentMark | None, wanted: str) -> None:
        self._generator = generator
        self._latent = latent
        self._wanted = wanted

    def part(self, cleared: Cleared, ids: Sequence[ImageId]) -> tuple[LatentStart, Part]:
        """What the model is asked for, and whether the noise carries the ids."""
        request, prompt, generator = cleared.request, cleared.decision.prompt, self._generator
        latent = self._latent_start(request)
        if not (latent.scheme and self._latent is not None and isinstance(generator, SignedGenerator)):
            return latent, Part(request=request, prompt=prompt)
        shape = generator.latent_shape(request)
        signs = [self._latent.signs(image_id.mark_id, shape) for image_id in ids]
        return latent, Part(request=request, prompt=prompt, signs=signs)

    def draw(
        self, cleared: Cleared, ids: Sequence[ImageId], progress: Progress | None, seed: int | None = None
    ) -> Pictures:
        """The pictures of one request; from `seed` when it was drawn before."""
        started = time.perf_counter()
        latent, part = self.part(cleared, ids)
        # Whether the noise carries the id is decided by what was asked for at first.
        request = part.request if seed is None else dataclasses.replace(part.request, seed=seed)
        if cleared.original is not None:
            latent = LatentStart(reason="drawn from a picture")
            drawn = self._edit(dataclasses.replace(cleared, request=request), cleared.original, progress)
        elif isinstance(self._generator, SignedGenerator) and len(part.signs):
            drawn = self._generator.draw(request, part.prompt, progress=progress, signs=part.signs)
        else:
            drawn = self._generator.draw(request, part.prompt, progress=progress)
        if len(drawn) != request.count:
            raise GenerationError(
                f"the model gave {len(drawn)} pictures where {request.count} were asked for",
                hint="the generator must return one picture for each seed",
            )
        each = (time.perf_counter() - started) * 1e3 / request.count
        return Pictures(latent=latent, drawn=drawn, milliseconds=each)

    def _edit(self, cleared: Cleared, original: Original, progress: Progress | None) -> list[Drawn]:
        if not isinstance(self._generator, EditingGenerator):
            raise OptionError(
                f"{type(self._generator).__name__} cannot change pictures", hint="ask for a picture without an original"
            )
        prompt, change = cleared.decision.prompt, (original.pixels, original.strength, original.mask)
        return self._generator.edit(cleared.request, prompt, *change, progress=progress)

    def _latent_start(self, request: PromptRequest) -> LatentStart:
        """Whether the noise of a request's pictures carries their ids; when not, why."""
        if self._wanted == "never":
            return LatentStart(reason="the policy does not ask for it")
        if self._wanted == "unseeded" and request.seed is not None:
            return LatentStart(reason="the request names the seed")
        if self._latent is None:
            return LatentStart(reason="no key for it")
        if not isinstance(self._generator, SignedGenerator):
            return LatentStart(reason=f"{type(self._generator).__name__} takes no initial latents")
        reason = self._generator.refuses_signs(request)
        return LatentStart(reason=reason) if reason else self._latent.start(self._generator.latent_shape(request))


def as_draft(cleared: Cleared, image_id: ImageId, picture: Drawn, latent: LatentStart) -> Draft:
    """What leaves the model, once it is sure that screens see the very pixels that leave.

    Raises:
        GenerationError: they are no RGB pixels, or the model put another picture in place of its own.
    """
    pixels = picture.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        # Screens would see something else than what leaves.
        raise GenerationError(
            f"the model gave {pixels.dtype} pixels of shape {pixels.shape}", hint="draw RGB uint8, height x width x 3"
        )
    if picture.own_checker_fired:
        raise GenerationError(
            "the model's own safety checker replaced the picture", hint="change the prompt or the seed"
        )
    # Raises for facts that no record can hold, such as NaN, while there is still time to refuse.
    canonical_json(picture.facts)
    return Draft(cleared=cleared, id=image_id, pixels=pixels, facts=picture.facts, latent=latent)
