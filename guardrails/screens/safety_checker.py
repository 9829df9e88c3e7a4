"""A drop-in for the `safety_checker` of a diffusers pipeline that says what it saw.

The pipeline's own checker blackens pictures in place, throws its scores away and answers yes or no. This one has the
same call and keeps a result for every picture; it blackens only where that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from guardrails.domain.findings import Action, Check, Finding, strongest
from guardrails.errors import ImageError, OptionError
from guardrails.imaging import Pixels
from guardrails.policy.model import ScreenRule
from guardrails.screens.judge import judge
from guardrails.screens.protocol import Screen
from guardrails.screens.run import run_screens

REPLACEMENTS = ("block", "blur", "none")
_BLUR_SHARE = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreeningResult:
    """What was seen in one picture, and what the rules ask for."""

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]

    @property
    def action(self) -> Action:
        return strongest(self.findings)


class SafetyChecker:
    """Called as ``safety_checker(images=..., clip_input=...)``.

    Args:
        screens, rules: what is looked at, and what follows.
        replacement: what becomes of a picture that the rules hold back: "block" (black), "blur" or "none".
    """

    def __init__(self, screens: Sequence[Screen], rules: Sequence[ScreenRule], *, replacement: str = "block") -> None:
        if replacement not in REPLACEMENTS:
            raise OptionError(f"{replacement!r} is no replacement", hint=f"write one of: {', '.join(REPLACEMENTS)}")
        self._screens, self._rules, self._replacement = screens, rules, replacement
        self.results: list[ScreeningResult] = []

    def __call__(self, images: Any, clip_input: Any = None) -> tuple[Any, list[bool]]:
        """Screen a batch.

        Args:
            images: float numbers of 0..1 in an array (n, height, width, 3), or a list of PIL pictures.
            clip_input: what the pipeline prepared for its own checker; not needed.

        Returns:
            The pictures in the form in which they came, and which of them are held back. `results` says why.
        """
        pictures = [to_pixels(image) for image in images]
        self.results = [self._look(pixels) for pixels in pictures]
        held = [not result.action.releases for result in self.results]
        if not any(held) or self._replacement == "none":
            return images, held
        shown = [self._replaced(pixels) if out else pixels for pixels, out in zip(pictures, held, strict=True)]
        if isinstance(images, list):
            return [Image.fromarray(pixels) for pixels in shown], held
        return np.stack(shown).astype(np.float32) / 255, held

    def _look(self, pixels: Pixels) -> ScreeningResult:
        checks = run_screens(self._screens, pixels)
        return ScreeningResult(checks=checks, findings=judge(checks, self._rules))

    def _replaced(self, pixels: Pixels) -> Pixels:
        if self._replacement == "block":
            return np.zeros_like(pixels)
        radius = max(4, round(_BLUR_SHARE * max(pixels.shape[:2])))
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def to_pixels(image: Any) -> Pixels:
    """One picture of a pipeline as RGB uint8.

    Raises:
        ImageError: an array that is not RGB in 0..1, for example one of 0..255, which would be screened as white; or a
            picture with transparency or more than eight bits, of which a part would not be seen.
    """
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "L"):
            raise ImageError(f"a picture of mode {image.mode}", hint="give RGB")
        return np.asarray(image.convert("RGB"))
    numbers = np.asarray(image)
    if numbers.ndim != 3 or numbers.shape[2] != 3 or not np.issubdtype(numbers.dtype, np.floating):
        raise ImageError(f"a picture of {numbers.dtype} and shape {numbers.shape}", hint="give RGB floats of 0..1")
    if not np.isfinite(numbers).all() or numbers.min() < -1e-3 or numbers.max() > 1 + 1e-3:
        raise ImageError(f"numbers from {numbers.min():g} to {numbers.max():g}", hint="give RGB floats of 0..1")
    pixels: Pixels = np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8)
    return pixels
