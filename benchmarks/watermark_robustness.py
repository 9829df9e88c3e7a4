"""How much of an everyday life the watermark survives, beside invisible-watermark's dwtDctSvd, on one set of pictures.

Run: python benchmarks/watermark_robustness.py [FOLDER]

Without a folder it draws its own pictures: flat shapes and textured ones, 256 and 512 pixels. Prints a table of the
share of exactly recovered payloads with Wilson 95 % intervals, and the quality of both marks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.watermark.classic import ClassicMark
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

BITS = 48
SEEDS = 6


def resaved(format: ImageFormat, quality: int) -> Callable[[Pixels], Pixels]:
    """Save and load again."""
    return lambda pixels: decode(encode(pixels, format, quality=quality)).pixels


def resized(factor: float) -> Callable[[Pixels], Pixels]:
    """Resize both sides."""
    return lambda pixels: np.asarray(
        Image.fromarray(pixels).resize((round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)))
    )


def cropped(pixels: Pixels) -> Pixels:
    """Cut 25 % of the area away."""
    height, width = (round(side * math.sqrt(0.75)) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[5 : 5 + height, 9 : 9 + width])


ATTACKS: dict[str, Callable[[Pixels], Pixels]] = {
    "png": resaved(ImageFormat.PNG, 100),
    "jpeg 75": resaved(ImageFormat.JPEG, 75),
    "jpeg 60": resaved(ImageFormat.JPEG, 60),
    "jpeg 40": resaved(ImageFormat.JPEG, 40),
    "webp 80": resaved(ImageFormat.WEBP, 80),
    "half size": resized(0.5),
    "double size": resized(2.0),
    "crop 25 %": cropped,
    "mirror": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "quarter turn": lambda pixels: np.ascontiguousarray(np.rot90(pixels)),
}


def main(folder: Path | None) -> None:
    """Mark every picture with both schemes, attack, read, print."""
    pictures = (
        list(drawn()) if folder is None else [decode(read_image_bytes(p)).pixels for p in sorted(folder.glob("*"))]
    )
    ours, classic = PixelMark(Keyring(bytes(range(32)))), ClassicMark("dwtDctSvd", BITS)
    bits = np.random.default_rng(0).integers(0, 2, BITS).astype(bool)
    hits = {name: [0, 0] for name in ATTACKS}
    quality: list[list[float]] = [[], []]
    for number, picture in enumerate(pictures):
        mark_id = f"{number * 7919 + 1:016x}"
        marked, peer = ours.embed(picture, mark_id).pixels, classic.embed(picture, bits)
        quality[0].append(psnr(picture, marked))
        quality[1].append(psnr(picture, peer))
        for name, attack in ATTACKS.items():
            hits[name][0] += ours.detect(attack(marked)).mark_id == mark_id
            hits[name][1] += recovered(classic, attack(peer), bits)
        print(f"\r{number + 1} of {len(pictures)} pictures", end="", file=sys.stderr)
    print(f"\n{'attack':14} {'this toolkit, 80 bits':26} invisible-watermark dwtDctSvd, 48 bits")
    for name, (mine, theirs) in hits.items():
        print(f"{name:14} {share(mine, len(pictures)):26} {share(theirs, len(pictures))}")
    print(f"{'PSNR dB':14} {np.mean(quality[0]):<26.1f} {np.mean(quality[1]):.1f}")


def recovered(mark: ClassicMark, pixels: Pixels, bits: np.ndarray) -> bool:
    """Whether every bit is right; pictures that the peer cannot read (under 256 pixels) count as lost."""
    if min(pixels.shape[:2]) < 256:
        return False
    return bool(np.array_equal(np.asarray(mark.read(pixels)).astype(bool), bits))


def drawn() -> list[Pixels]:
    """Flat shapes on plain backgrounds, and textures of the same sizes."""
    pictures = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        for size in (256, 512):
            image = Image.new("RGB", (size, size), tuple(rng.integers(40, 230, 3)))
            draw = ImageDraw.Draw(image)
            for _ in range(6):
                x, y, r = rng.integers(size // 8, size - size // 8, 3) // np.array([1, 1, 3])
                draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 255, 3)))
            pictures.append(np.asarray(image))
            coarse = rng.integers(0, 255, (size // 16, size // 16, 3), np.uint8)
            texture = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
            pictures.append(np.clip(texture + rng.normal(0, 12, texture.shape), 0, 255).astype(np.uint8))
    return pictures


def psnr(one: Pixels, other: Pixels) -> float:
    """Decibel."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


def share(hits: int, n: int) -> str:
    """Share with its Wilson 95 % interval."""
    z, p = 1.96, hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{p:.2f} ({max(0, centre - half):.2f}-{min(1, centre + half):.2f}, n={n})"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
