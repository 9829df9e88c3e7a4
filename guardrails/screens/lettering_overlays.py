"""Pieces of photographs with lettering laid over them, and their unmarked twins: what `lettering` is taught with.

Everything is luma, as the network sees it. Both of a pair are spoilt in the same way, so that the lettering is all that
tells one from the other.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# The side of a pair in training, and of the cells of the network's map, in pixels.
CROP = 352
CELL = 16
# The longer side of a picture that is looked at.
SIDE = 640
# What lettering must differ from its ground, in grey levels, to be asked for at all and to be asked for in full.
FAINTEST, CLEAREST = 5.0, 17.0

Luma = NDArray[Any]  # float32, 0..255; of ink 0..1
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_], float]

WORDS = (
    "stock", "photo", "image", "images", "pictures", "media", "press", "agency", "archive", "studio", "gallery",
    "library", "visual", "pixel", "frame", "light", "lens", "focus", "camera", "shutter", "film", "print", "art",
    "creative", "vector", "design", "free", "sample", "preview", "proof", "draft", "copy", "watermark", "licensed",
    "rights", "reserved", "copyright", "editorial", "news", "world", "global", "royal", "prime", "north", "river",
    "stone", "blue", "green", "silver", "gold", "dream", "time", "master", "alliance", "science", "bridge", "big",
    "ocean", "cloud", "forest", "mountain", "house", "garden", "street", "market", "summer", "winter", "magic",
    "happy", "little", "great", "open", "daily", "first", "royalty", "collection", "contributor", "portrait",
)  # fmt: skip
VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"


def wording(chance: random.Random, names: Sequence[str]) -> str:
    """A name, words, an invented name, letters and digits, or a word with a number."""
    kind = chance.random()
    if names and kind < 0.3:
        text = chance.choice(names)
    elif kind < 0.5:
        text = chance.choice(("", " ")).join(chance.choice(WORDS) for _ in range(chance.randint(1, 3)))
    elif kind < 0.75:
        text = _syllables(chance, chance.randint(2, 5)) + chance.choice(("", "", " " + chance.choice(WORDS)))
    elif kind < 0.85:
        text = "".join(chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(chance.randint(4, 10)))
    else:
        text = chance.choice(WORDS) + str(chance.randint(1, 999))
    text = chance.choice((str, str, str.lower, str.upper, str.title))(text)
    before = chance.choice(("© ", "(c) ", "www.", "image: ", "#")) if chance.random() < 0.1 else ""
    after = chance.choice((".com", "®", " 2024")) if chance.random() < 0.06 else ""
    return before + text + after


def pair(
    chance: random.Random, photograph: bytes, fonts: Sequence[str], names: Sequence[str] = (), *, side: int = CROP
) -> Pair:
    """A piece with and without lettering.

    Args:
        photograph: JPEG, without lettering.
        fonts: files.
        side: of the piece; `SIDE` takes the whole photograph in.

    Returns:
        luma with lettering and luma without (side, side), cells with ink (side/16, side/16), how well it shows, 0..1.
    """
    factor = chance.uniform(0.7, 1.6) if chance.random() < 0.4 else 1.0
    whole = side == SIDE or chance.random() < 0.4
    long_side = (SIDE if whole else chance.uniform(420, 1000)) * factor
    luma = _ground(chance, photograph, round(side * factor), long_side)
    if chance.random() < 0.15:
        luma = _distracted(chance, luma)
    marked, plain, ink = _lettered(chance, luma, chance.choice(fonts), wording(chance, names), factor)
    inked = ink > 0.5
    contrast = float(np.abs(marked - plain)[inked].mean()) if inked.sum() > 20 else 0.0
    (*shown, ink) = _spoilt(chance, [marked, plain, ink], side)
    count = side // CELL
    cells = ink[: count * CELL, : count * CELL].reshape(count, CELL, count, CELL).max(axis=(1, 3)) > 0.35
    shows = min(1.0, max(0.0, (contrast - FAINTEST) / (CLEAREST - FAINTEST))) if cells.sum() >= 2 else 0.0
    first, second = _compressed(chance, shown)
    return first, second, cells, shows


def _syllables(chance: random.Random, count: int) -> str:
    return "".join(
        chance.choice(CONSONANTS) + chance.choice(VOWELS) + chance.choice(("", "", chance.choice(CONSONANTS)))
        for _ in range(count)
    )


def _ground(chance: random.Random, photograph: bytes, side: int, long_side: float) -> Luma:
    """A square piece of a photograph that is scaled to `long_side`, continued by reflection where it is too small."""
    photo: NDArray[Any] = np.asarray(Image.open(io.BytesIO(photograph)).convert("L"))
    scale = long_side / max(photo.shape)
    cut = [min(length, math.ceil(side / scale)) for length in photo.shape]
    top, left = (chance.randint(0, length - part) for length, part in zip(photo.shape, cut, strict=True))
    photo = photo[top : top + cut[0], left : left + cut[1]]
    height, width = (min(side, max(8, round(length * scale))) for length in photo.shape)
    way = cv2.INTER_AREA if scale < 0.8 else chance.choice((cv2.INTER_CUBIC, cv2.INTER_LINEAR))
    photo = cv2.resize(photo, (width, height), interpolation=way)
    while photo.shape != (side, side):
        photo = np.pad(photo, [(0, min(length - 1, side - length)) for length in photo.shape], "reflect")
    if chance.random() < 0.5:
        photo = photo[:, ::-1]
    if chance.random() < 0.06:
        photo = photo.T
    luma = photo.astype(np.float32)
    if chance.random() < 0.3:
        luma = (luma - 128) * chance.uniform(0.6, 1.3) + 128 + chance.uniform(-30, 30)
    return np.clip(luma, 0, 255)


def _distracted(chance: random.Random, luma: Luma) -> Luma:
    """Lines, grids, boxes or dots laid over, which are no lettering."""
    side = luma.shape[0]
    layer = Image.new("L", (side, side))
    draw = ImageDraw.Draw(layer)
    kind = chance.choice(("lines", "grid", "hatch", "boxes", "dots"))
    if kind in ("grid", "hatch"):
        width = chance.choice((1, 1, 2, 3))
        for at in range(0, side, chance.randint(6, 60)):
            draw.line((at, 0, at + (side if kind == "hatch" else 0), side), fill=255, width=width)
            draw.line((0, at, side, at), fill=255, width=width)
    else:
        for _ in range(chance.randint(2, 25)):
            x, y, reach = chance.randint(0, side), chance.randint(0, side), chance.randint(4, 90)
            inside = chance.choice((255, None))
            if kind == "lines":
                end = (x + chance.randint(-150, 150), y + chance.randint(-150, 150))
                draw.line((x, y, *end), fill=255, width=chance.randint(1, 4))
            elif kind == "boxes":
                draw.rectangle((x, y, x + reach, y + chance.randint(4, 60)), outline=255, fill=inside)
            else:
                draw.ellipse((x, y, x + reach // 6 + 2, y + reach // 6 + 2), outline=255, fill=inside)
    return _blend(luma, np.asarray(layer, np.float32) / 255, chance.randint(0, 255), chance.uniform(40, 255))


def _lettered(chance: random.Random, luma: Luma, font: str, text: str, scale: float) -> tuple[Luma, Luma, Luma]:
    """The piece with lettering, the piece as its twin has it (with or without the band), and the ink, 0..1."""
    size = chance.uniform(13, 30) if chance.random() < 0.65 else math.exp(chance.uniform(math.log(10), math.log(60)))
    layout = chance.choices(("line", "tilted", "tiled"), (0.5, 0.12, 0.38))[0]
    tile = _word(text, ImageFont.truetype(font, max(6, round(size * scale))))
    ink = _laid_out(chance, tile, luma.shape[0], layout).astype(np.float32) / 255
    opacity = chance.uniform(45, 160) if layout == "tiled" else chance.uniform(60, 255)
    opacity = chance.uniform(25, 60) if chance.random() < 0.12 else opacity
    marked = plain = luma
    if layout == "line" and chance.random() < 0.35:
        marked = _banded(chance, luma, ink, opacity)
        plain = marked if chance.random() < 0.5 else luma
    kind = chance.random()
    tone = 255 if kind < 0.6 else 0 if kind < 0.72 else chance.randint(0, 255)
    against = 0 if tone > 127 else 255
    kind = chance.random()
    if kind < 0.12:
        marked = _blend(marked, cv2.dilate(ink, np.ones((3, 3), np.uint8)), against, opacity * chance.uniform(0.5, 1))
    elif kind < 0.65:
        far = chance.choice((1, 1, 1, 2))
        shade: Luma = np.roll(ink, (far, far), axis=(0, 1))
        shade = cv2.GaussianBlur(shade, (0, 0), chance.uniform(0.6, 2)) if chance.random() < 0.3 else shade
        marked = _blend(marked, shade, against, opacity * chance.uniform(0.4, 1))
    hollow = chance.random() < 0.05
    filled = ink - cv2.erode(ink, np.ones((3, 3), np.uint8)) if hollow else ink
    return _blend(marked, filled, tone, opacity), plain, ink


def _word(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    left, top, right, bottom = (round(value) for value in font.getbbox(text))
    tile = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(tile).text((-left, -top), text, font=font, fill=255)
    return tile


def _laid_out(chance: random.Random, tile: Image.Image, side: int, layout: str) -> NDArray[np.uint8]:
    """A mask of the piece: the word once, level or tilted, or tiled at any angle."""
    if layout == "tiled":
        reach = int(side * 1.5)
        layer = Image.new("L", (reach, reach))
        down, across = tile.height * chance.uniform(1.5, 6), tile.width * chance.uniform(1.05, 2.5) + 4
        shift = chance.choice((0, 0.4, 0.5))
        for row in range(math.ceil(reach / down)):
            for column in range(-1, math.ceil(reach / across)):
                layer.paste(tile, (round((column + row * shift % 1) * across), round(row * down)))
        turn: Luma = cv2.getRotationMatrix2D(
            (reach / 2, reach / 2), chance.choice((0, 30, 45, -30, -45, chance.uniform(-90, 90))), 1
        )
        turn[:, 2] -= (reach - side) / 2
        return np.asarray(cv2.warpAffine(np.asarray(layer), turn, (side, side), flags=cv2.INTER_LINEAR), np.uint8)
    if layout == "tilted":
        tile = tile.rotate(chance.choice((90, -90, chance.uniform(-60, 60))), Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", (side, side))
    across, down = side - tile.width, side - tile.height
    left = chance.choice((8, across - 8, across // 2, round(across * chance.random())))
    top = chance.choice((8, down - 8, round(down * chance.random()), round(down * chance.random())))
    mask.paste(tile, (left, top))
    return np.asarray(mask)


def _banded(chance: random.Random, luma: Luma, ink: Luma, opacity: float) -> Luma:
    """A dark or light band behind the line, across the piece or around the words."""
    rows, columns = np.flatnonzero(ink.max(axis=1)), np.flatnonzero(ink.max(axis=0))
    if not len(rows):
        return luma
    pad = chance.randint(2, 12)
    band = np.zeros_like(ink)
    left, right = (0, len(ink)) if chance.random() < 0.6 else (max(0, columns[0] - pad), columns[-1] + pad)
    band[max(0, rows[0] - pad) : rows[-1] + pad, left:right] = 1
    shade = chance.randint(0, 70) if chance.random() < 0.75 else chance.randint(180, 255)
    return _blend(luma, band, shade, opacity if chance.random() < 0.6 else chance.uniform(40, 255))


def _blend(luma: Luma, ink: Luma, tone: int, opacity: float) -> Luma:
    return np.asarray(luma + ink * np.float32(opacity / 255) * (np.float32(tone) - luma), np.float32)


def _spoilt(chance: random.Random, pictures: list[Luma], side: int) -> list[Luma]:
    """All of them blurred, made smaller, bent and scaled to `side` in the same way: models paint marks softly."""
    if chance.random() < 0.3:
        sigma = chance.uniform(0.3, 1.2)
        pictures = [cv2.GaussianBlur(one, (0, 0), sigma) for one in pictures]
    if chance.random() < 0.2:
        small = round(len(pictures[0]) * chance.uniform(0.5, 0.9))
        pictures = [cv2.resize(one, (small, small), interpolation=cv2.INTER_AREA) for one in pictures]
    if len(pictures[0]) != side:
        way = cv2.INTER_AREA if len(pictures[0]) > side else cv2.INTER_CUBIC
        pictures = [cv2.resize(one, (side, side), interpolation=way) for one in pictures]
    if chance.random() < 0.25:
        knots, strength = max(2, side // chance.randint(16, 64)), chance.uniform(0.4, 2)
        noise = np.random.default_rng(chance.getrandbits(32)).normal(0, strength, (2, knots, knots)).astype(np.float32)
        across, down = (cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in noise)
        x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
        pictures = [
            cv2.remap(one, x + across, y + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for one in pictures
        ]
    return [np.asarray(one, np.float32) for one in pictures]


def _compressed(chance: random.Random, pictures: list[Luma]) -> list[NDArray[np.uint8]]:
    """All of them with the same grain and JPEG quality."""
    if chance.random() < 0.2:
        noise = np.random.default_rng(chance.getrandbits(32))
        grain = noise.normal(0, chance.uniform(1, 8), pictures[0].shape).astype(np.float32)
        pictures = [one + grain for one in pictures]
    quality = chance.randint(40, 100) if chance.random() < 0.85 else None
    levels = [np.clip(one, 0, 255).round().astype(np.uint8) for one in pictures]
    if quality is None:
        return levels
    streams = [cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for one in levels]
    return [np.asarray(cv2.imdecode(stream, cv2.IMREAD_GRAYSCALE), np.uint8) for stream in streams]
