"""How many painted agency marks are read, and how many pictures without one are accused.

::

    python benchmarks/visible_marks.py PHOTOGRAPHS [--marked 20] [--unmarked 100]

PHOTOGRAPHS is a folder of pictures without marks. On some of them a mark is laid as a band or in a corner (opacity
110-255 of 255, 16-28 pixels), or tiled over the picture, each clean and as JPEG of quality 60. False positives are
counted on others, and on signs that show confusable words in full opacity.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from guardrails.domain.calibration import clopper_pearson_upper
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.screens.marks import VisibleMarks

BRANDS = ("gettyimages", "shutterstock", "iStock", "alamy", "Adobe Stock", "dreamstime", "123RF", "depositphotos")
CONFUSABLE = (
    "Gettysburg National Park", "Dreamtime", "Getty Center", "The Alamo", "alarm", "Stock & Sons", "shutter speed",
    "Deposit here", "Photo booth", "Fotografia", "Free Parking", "Adobe houses", "Stockholm", "Istok river", "123 RTF",
    "Biostock feed", "Ponds 5 km", "Corbin", "Fresh stock daily", "Gettys Garage",
)  # fmt: skip
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf")
LONG_SIDE = 640
THRESHOLD = 0.8


def laid(pixels: Pixels, text: str, *, alpha: int, size: int, font: str, tiled: bool, where: random.Random) -> Pixels:
    """The picture with the text over it, once or tiled at thirty degrees."""
    image = Image.fromarray(pixels).convert("RGBA")
    face = ImageFont.truetype(font, size)
    ink = (255, 255, 255, alpha)
    if not tiled:
        layer = Image.new("RGBA", image.size)
        draw = ImageDraw.Draw(layer)
        width, height = (int(value) for value in draw.textbbox((0, 0), text, font=face)[2:])
        across = where.choice((8, image.width - width - 8, (image.width - width) // 2))
        down = where.choice((8, image.height - height - 14))
        if where.random() < 0.5:
            draw.rectangle((0, down - 6, image.width, down + height + 6), fill=(20, 20, 20, alpha))
        # Agencies shade their letters: white on a white sky would be no mark at all.
        draw.text((across + 1, down + 1), text, font=face, fill=(0, 0, 0, alpha))
        draw.text((across, down), text, font=face, fill=ink)
    else:
        reach = 2 * max(image.size)
        layer = Image.new("RGBA", (reach, reach))
        draw = ImageDraw.Draw(layer)
        for row, down in enumerate(range(0, reach, 5 * size)):
            for across in range(-(row % 2) * 4 * size, reach, 10 * size):
                draw.text((across + 1, down + 1), text, font=face, fill=(0, 0, 0, alpha))
                draw.text((across, down), text, font=face, fill=ink)
        layer = layer.rotate(30).crop((reach // 4, reach // 4, reach // 4 + image.width, reach // 4 + image.height))
    return np.asarray(Image.alpha_composite(image, layer).convert("RGB"))


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The picture after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue()).pixels


def sized(path: Path) -> Pixels:
    """A photograph with `LONG_SIDE` pixels on its longer side."""
    image = Image.fromarray(decode(path.read_bytes()).pixels)
    scale = LONG_SIDE / max(image.size)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC))


def main(folder: Path, marked_count: int, unmarked: int) -> None:
    """Print the table."""
    where = random.Random(20261125)  # noqa: S311 (no secret)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    where.shuffle(paths)
    pictures = [sized(path) for path in paths[:marked_count]]
    screen, spent = VisibleMarks(), []

    def score(pixels: Pixels) -> float:
        start = time.process_time()
        found = screen.score(pixels).scores["stock-mark"]
        spent.append(time.process_time() - start)
        return found

    def cell(name: str, shown: list[Pixels], *, harmless: bool = False) -> None:
        hits = sum(score(pixels) >= THRESHOLD for pixels in shown)
        bound = f"  (below {clopper_pearson_upper(hits, len(shown)):.2%} with 95 % confidence)" if harmless else ""
        print(f"{name:44s} {hits:4d} of {len(shown):4d}{bound}", flush=True)

    def marked(alpha: tuple[int, int], *, tiled: bool) -> list[Pixels]:
        return [
            laid(
                pixels,
                BRANDS[number % len(BRANDS)],
                alpha=where.randint(*alpha),
                size=where.randint(16, 28),
                font=FONTS[number % len(FONTS)],
                tiled=tiled,
                where=where,
            )
            for number, pixels in enumerate(pictures)
        ]

    for name, shown in (
        ("band or corner, opacity 110-255", marked((110, 255), tiled=False)),
        ("tiled, opacity 60-120", marked((60, 120), tiled=True)),
        ("tiled, opacity 35", marked((35, 35), tiled=True)),
    ):
        if marked_count:
            cell(name, shown)
            cell(f"{name}, JPEG 60", [jpeg(pixels, 60) for pixels in shown])
    signs = [
        laid(sized(path), text, alpha=255, size=24, font=FONTS[0], tiled=False, where=where)
        for text, path in zip(CONFUSABLE, paths, strict=False)
    ]
    cell("confusable words on signs", signs, harmless=True)
    cell("pictures without a mark", [sized(path) for path in paths[-unmarked:]], harmless=True)
    print(f"{np.median(spent) * 1e3:.0f} ms of processor time a picture (median), one thread")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Count marks that are read and pictures that are accused.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--marked", type=int, default=20)
    parser.add_argument("--unmarked", type=int, default=100)
    options = parser.parse_args()
    main(options.folder, options.marked, options.unmarked)
