"""Stand-ins for the expensive parts of a guard: no weights, no torch, the same answer every time.

What they stand in for is asked exactly as in earnest, so a guard built of them runs all its steps::

    guard = Guard(ShapeGenerator(), screens=passing_screens(), index=FixedIndex(), home=folder)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from guardrails.domain.findings import Component
from guardrails.domain.images import GenerationFacts, Match
from guardrails.domain.requests import PromptRequest
from guardrails.generation.protocol import Drawn, Part, Progress
from guardrails.imaging import Pixels
from guardrails.screens.protocol import Reading
from guardrails.similarity.search import SearchResult

_VERSION = "1"
_SHAPES = 12
_CONCEPTS = ("weapon", "gore", "hate-symbol", "self-harm", "drugs", "nudity", "inappropriate")


def draw_shapes(seed: int, side: int = 256) -> Pixels:
    """Coloured ellipses and rectangles on white, RGB uint8 (side, side, 3); equal seeds give equal pictures."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    canvas = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        left, top = (int(value) for value in rng.integers(0, side * 3 // 4, 2))
        width, height = (int(value) for value in rng.integers(side // 16, side // 3, 2))
        draw = canvas.ellipse if rng.random() < 0.5 else canvas.rectangle
        red, green, blue = (int(value) for value in rng.integers(0, 230, 3))
        draw((left, top, left + width, top + height), fill=(red, green, blue))
    return np.array(image)


def draw_textures(seed: int, side: int = 256) -> Pixels:
    """Soft blocks of many colours, RGB uint8 (side, side, 3): a work that is recognised by its parts."""
    blocks = np.random.default_rng(seed).integers(0, 256, (side // 12, side // 12, 3), dtype=np.uint8)
    return np.array(Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC))


class ShapeGenerator:
    """A `Generator` that draws shapes by seed and ignores the prompt."""

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        """See `Generator.draw`; a request without a seed gets seed 0, one without a size 256 pixels."""
        first = request.seed or 0
        drawn = [_drawn(request, first + number) for number in range(request.count)]
        if progress is not None:
            progress(1, 1)
        return drawn

    def draw_together(self, parts: Sequence[Part], *, progress: Progress | None = None) -> list[list[Drawn]]:
        """See `BatchGenerator.draw_together`."""
        drawn = [self.draw(part.request, part.prompt) for part in parts]
        if progress is not None:
            progress(1, 1)
        return drawn

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
        """See `EditingGenerator.edit`: the picture shines through what is drawn over it."""
        return [_blended(drawn, pixels, strength, mask) for drawn in self.draw(request, prompt, progress=progress)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedScreen:
    """A `Screen` that gives every picture the same scores."""

    component: Component
    scores: Mapping[str, float]

    def score(self, pixels: Pixels) -> Reading:
        """See `Screen.score`."""
        return Reading(scores=self.scores)


def passing_screens(*, gallery: Path | None = None) -> tuple[FixedScreen, ...]:
    """Screens by the names that the default policy asks for, which object to nothing and look for nobody."""
    return (
        fixed_screen("open-nsfw", nsfw=0.01),
        fixed_screen("clip-concepts", **dict.fromkeys(_CONCEPTS, 0.01)),
        fixed_screen("visible-marks", **{"stock-mark": 0.0}),
    )


def fixed_screen(name: str, **scores: float) -> FixedScreen:
    """A screen with this name and these scores by concept."""
    return FixedScreen(component=Component(name=name, version=_VERSION), scores=scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedIndex:
    """Answers every search of a `SimilarityIndex` with the same matches."""

    matches: tuple[Match, ...] = ()
    component: Component = field(default_factory=lambda: Component(name="similarity", version=_VERSION))

    def find(self, pixels: Pixels) -> SearchResult:
        """See `SimilarityIndex.find`."""
        return SearchResult(matches=self.matches, unhashable=False, searched=1, radius=0)

    def picture(self, entry_id: str) -> Pixels | None:
        """See `SimilarityIndex.picture`; there is none."""
        return None

    def thumbnail(self, entry_id: str) -> bytes | None:
        """See `SimilarityIndex.thumbnail`; there is none."""
        return None


def _drawn(request: PromptRequest, seed: int) -> Drawn:
    side = request.width or 256
    facts = GenerationFacts(
        model="shapes",
        revision=_VERSION,
        weights_sha256="",
        pipeline="ShapeGenerator",
        sampler="none",
        steps=1,
        guidance_scale=0.0,
        seed=seed,
        width=side,
        height=side,
        device="cpu",
        dtype="uint8",
    )
    return Drawn(pixels=draw_shapes(seed, side), facts=facts)


def _blended(drawn: Drawn, pixels: Pixels, strength: float, mask: NDArray[np.uint8] | None) -> Drawn:
    height, width, _ = drawn.pixels.shape
    below = np.array(Image.fromarray(pixels).resize((width, height)), float)
    share = np.full((height, width, 1), strength)
    if mask is not None:
        share *= np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))[..., None] / 255
    blended = below * (1 - share) + drawn.pixels * share
    return Drawn(pixels=blended.round().astype(np.uint8), facts=drawn.facts)
