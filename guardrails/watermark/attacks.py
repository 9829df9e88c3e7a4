"""The attack suite: what pictures go through between a platform and an auditor, as pure functions.

Every attack takes RGB uint8 pixels of shape (height, width, 3) and a generator, and returns RGB uint8 pixels; the same
generator state gives the same result. The groups follow WAVES (An et al. 2024) and the everyday life of a picture:
codecs, scale, crops, turns, filters, noise, tone, overlays, chains of those, and a stand-in for regeneration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from guardrails.imaging import Pixels

Transform = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One member of the suite.

    Attributes:
        group: "none", "codec", "scale", "crop", "rotation", "flip", "filter", "noise", "tone", "overlay", "chain",
            "combination" or "regeneration".
        mild: what a picture meets by being shared, as opposed to being worked on.
    """

    name: str
    group: str
    mild: bool
    apply: Transform


def jpeg(quality: int) -> Transform:
    """Save as JPEG with 4:2:0 chroma and load again."""
    return lambda pixels, rng: _resaved(pixels, "JPEG", quality)


def webp(quality: int) -> Transform:
    """Save as lossy WebP and load again."""
    return lambda pixels, rng: _resaved(pixels, "WEBP", quality)


def avif(quality: int) -> Transform:
    """Save as AVIF and load again."""
    return lambda pixels, rng: _resaved(pixels, "AVIF", quality)


def resized(factor_x: float, factor_y: float | None = None) -> Transform:
    """Resize by a factor; with two factors the picture is squeezed."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        return _resize(pixels, round(height * (factor_y or factor_x)), round(width * factor_x))

    return apply


def there_and_back(factor: float) -> Transform:
    """Resize by a factor and back to the first size."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        return _resize(_resize(pixels, round(height * factor), round(width * factor)), height, width)

    return apply


def cropped(removed: float) -> Transform:
    """Cut a share of the area away; what stays has the picture's aspect and lies at a random place."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = (round(side * math.sqrt(1 - removed)) for side in pixels.shape[:2])
        top = int(rng.integers(0, pixels.shape[0] - height + 1))
        left = int(rng.integers(0, pixels.shape[1] - width + 1))
        return pixels[top : top + height, left : left + width].copy()

    return apply


def cropped_and_enlarged(removed: float) -> Transform:
    """Crop, then resize to the first size."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        return _resize(cropped(removed)(pixels, rng), *pixels.shape[:2])

    return apply


def shifted(most: int) -> Transform:
    """Cut up to `most` rows and columns away at the top and the left."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        top, left = rng.integers(1, most + 1, 2)
        return pixels[top:, left:].copy()

    return apply


def framed(share: float, *, top_only: bool = False) -> Transform:
    """Add a uniform frame of this share of the height and width on every side, or a white bar on top."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        down, along = (round(share * side) for side in pixels.shape[:2])
        if top_only:
            return cv2.copyMakeBorder(pixels, down, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))  # type: ignore[return-value]
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        return cv2.copyMakeBorder(pixels, down, down, along, along, cv2.BORDER_CONSTANT, value=colour)  # type: ignore[return-value]

    return apply


def rotated(degrees: float) -> Transform:
    """Rotate about the centre, either way by chance, and keep the size; the corners become black."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        angle = degrees if rng.random() < 0.5 else -degrees
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
        return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC)  # type: ignore[return-value]

    return apply


def rotated_and_cropped(degrees: float) -> Transform:
    """Rotate, then keep the largest upright rectangle of the picture's aspect that has no black."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        long, short = max(height, width), min(height, width)
        share = short / (long * sine + short * cosine)
        turned = rotated(degrees)(pixels, rng)
        rows, columns = int(height * share) - 2, int(width * share) - 2
        top, left = (height - rows) // 2, (width - columns) // 2
        return turned[top : top + rows, left : left + columns].copy()

    return apply


def quarter_turns(turns: int) -> Transform:
    """Turn by multiples of 90 degrees."""
    return lambda pixels, rng: np.rot90(pixels, turns).copy()


def mirrored(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirror left to right."""
    return pixels[:, ::-1].copy()


def blurred(sigma: float) -> Transform:
    """Gaussian blur."""
    return lambda pixels, rng: cv2.GaussianBlur(pixels, (0, 0), sigma)  # type: ignore[return-value]


def median(size: int) -> Transform:
    """Median filter."""
    return lambda pixels, rng: cv2.medianBlur(pixels, size)  # type: ignore[return-value]


def sharpened(amount: float) -> Transform:
    """Unsharp mask with sigma 1; `amount` multiplies the contrast of details."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        values = pixels.astype(np.float32)
        smooth = cv2.GaussianBlur(values, (0, 0), 1.0)
        return _rounded(smooth + np.float32(amount) * (values - smooth))

    return apply


def bilateral(size: int, colour: float, space: float) -> Transform:
    """Bilateral filter."""
    return lambda pixels, rng: cv2.bilateralFilter(pixels, size, colour, space)  # type: ignore[return-value]


def denoised(strength: float) -> Transform:
    """Non-local means (Buades et al. 2005), windows of 7 and 21 pixels."""
    return lambda pixels, rng: cv2.fastNlMeansDenoisingColored(pixels, None, strength, strength, 7, 21)  # type: ignore[return-value]


def noisy(sigma: float) -> Transform:
    """Gaussian noise, independent in each channel."""
    return lambda pixels, rng: _rounded(pixels + rng.normal(0, sigma, pixels.shape).astype(np.float32))


def salted(share: float) -> Transform:
    """Salt and pepper: this share of the pixels becomes black or white."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        draw = rng.random(pixels.shape[:2])
        damaged = pixels.copy()
        damaged[draw < share / 2] = 0
        damaged[draw > 1 - share / 2] = 255
        return damaged

    return apply


def brightened(factor: float) -> Transform:
    """Multiply all values."""
    return lambda pixels, rng: _rounded(pixels.astype(np.float32) * np.float32(factor))


def contrasted(factor: float) -> Transform:
    """Stretch about mid grey."""
    return lambda pixels, rng: _rounded((pixels.astype(np.float32) - 128) * np.float32(factor) + 128)


def gamma(exponent: float) -> Transform:
    """Power curve."""
    return lambda pixels, rng: _rounded(255 * (pixels.astype(np.float32) / 255) ** np.float32(exponent))


def grey(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Keep the luma only."""
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]


def saturated(factor: float) -> Transform:
    """Stretch the distance from grey."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        level = grey(pixels, rng).astype(np.float32)
        return _rounded(level + (pixels - level) * np.float32(factor))

    return apply


def hue_turned(steps: int) -> Transform:
    """Turn the hue by `steps` of 180."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + steps) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]

    return apply


def posterised(levels: int) -> Transform:
    """Keep so many levels in each channel."""
    step = 256 / levels
    return lambda pixels, rng: _rounded((np.floor(pixels / step) + 0.5) * step)


def captioned(lines: int) -> Transform:
    """White text over the picture, each line 7 % of the height."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        canvas = pixels.copy()
        height, width = pixels.shape[:2]
        size = 0.07 * height / 22
        for line in range(lines):
            at = (round(0.04 * width), round(height * (line + 0.8) / lines))
            cv2.putText(canvas, "SOME CAPTION TEXT HERE", at, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 2)
        return canvas

    return apply


def boxed(share: float) -> Transform:
    """A box of random colour over this share of the area."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        rows, columns = round(height * math.sqrt(share)), round(width * math.sqrt(share))
        top, left = int(rng.integers(0, height - rows)), int(rng.integers(0, width - columns))
        canvas = pixels.copy()
        canvas[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
        return canvas

    return apply


def chain(*steps: Transform) -> Transform:
    """One attack after the other."""

    def apply(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        for step in steps:
            pixels = step(pixels, rng)
        return pixels

    return apply


def regenerated(noise: float, strength: float) -> Transform:
    """A stand-in for regeneration by a diffusion model: noise, strong non-local means, half size and back."""
    return chain(noisy(noise), denoised(strength), there_and_back(0.5))


def unchanged(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A lossless save."""
    return pixels.copy()


def _suite() -> Iterable[tuple[str, bool, dict[str, Transform]]]:
    """Groups, whether they are mild, and their members."""
    yield "none", True, {"png": unchanged}
    yield "codec", True, {f"jpeg {quality}": jpeg(quality) for quality in (95, 85, 75, 60, 50)}
    yield "codec", True, {"webp 80": webp(80)}
    yield "codec", False, {"jpeg 40": jpeg(40), "jpeg 25": jpeg(25), "webp 50": webp(50), "avif 50": avif(50)}
    yield (
        "scale",
        True,
        {
            "half": resized(0.5),
            "half and back": there_and_back(0.5),
            "three quarters": resized(0.75),
            "double": resized(2.0),
            "squeezed to .8": resized(0.8, 1.0),
        },
    )
    yield (
        "crop",
        True,
        {
            "crop 10 %": cropped(0.10),
            "crop 25 %": cropped(0.25),
            "crop 25 % and back": cropped_and_enlarged(0.25),
            "shift": shifted(9),
            "white bar 15 %": framed(0.15, top_only=True),
        },
    )
    yield "crop", False, {"crop 50 %": cropped(0.50), "frame 3 %": framed(0.03), "frame 10 %": framed(0.10)}
    yield (
        "rotation",
        False,
        {
            "rotate 2": rotated(2),
            "rotate 5": rotated(5),
            "rotate 5 and crop": rotated_and_cropped(5),
            "rotate 12": rotated(12),
            "rotate 12 and crop": rotated_and_cropped(12),
        },
    )
    yield "flip", True, {"turn 90": quarter_turns(1), "turn 180": quarter_turns(2), "mirror": mirrored}
    yield "filter", True, {"blur 1": blurred(1), "median 3": median(3), "sharpen 2.5": sharpened(2.5)}
    yield "filter", False, {"blur 2": blurred(2), "bilateral": bilateral(7, 30, 5), "non-local means 5": denoised(5)}
    yield "noise", True, {"noise 5": noisy(5)}
    yield "noise", False, {"noise 10": noisy(10), "salt and pepper 2 %": salted(0.02)}
    yield (
        "tone",
        True,
        {
            "brightness .7": brightened(0.7),
            "brightness 1.3": brightened(1.3),
            "contrast .7": contrasted(0.7),
            "contrast 1.3": contrasted(1.3),
            "gamma .7": gamma(0.7),
            "grey": grey,
            "saturation 1.5": saturated(1.5),
            "hue 20": hue_turned(20),
            "posterise 32": posterised(32),
        },
    )
    yield "overlay", True, {"caption": captioned(4), "box 10 %": boxed(0.10)}
    screenshot, social = chain(resized(0.8), jpeg(75)), chain(resized(0.75), jpeg(70), jpeg(60))
    yield "chain", True, {"screenshot": screenshot, "social": social, "crop, jpeg": chain(cropped(0.1), jpeg(70))}
    yield (
        "chain",
        False,
        {
            "rotate, crop, jpeg": chain(rotated_and_cropped(2), cropped(0.1), jpeg(80)),
            "filtered post": chain(contrasted(1.2), saturated(1.3), sharpened(1.5), jpeg(70)),
        },
    )
    yield (
        "combination",
        False,
        {
            "mirror, crop 25 %": chain(mirrored, cropped(0.25)),
            "turn 90, crop 25 %": chain(quarter_turns(1), cropped(0.25)),
            "squeeze, crop 10 %": chain(resized(0.8, 1.0), cropped(0.10)),
            "crop 25 %, jpeg 75": chain(cropped(0.25), jpeg(75)),
            "rotate 5, jpeg 75": chain(rotated(5), jpeg(75)),
        },
    )
    yield "regeneration", False, {"regeneration": regenerated(12, 9)}


ATTACKS = tuple(
    Attack(name=name, group=group, mild=mild, apply=apply)
    for group, mild, members in _suite()
    for name, apply in members.items()
)


def _resaved(pixels: Pixels, format: str, quality: int) -> Pixels:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format, quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB")).copy()


def _resize(pixels: Pixels, height: int, width: int) -> Pixels:
    shrinking = height * width < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return cv2.resize(pixels, (width, height), interpolation=method)  # type: ignore[return-value]


def _rounded(values: np.ndarray) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
