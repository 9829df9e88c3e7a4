"""Openly licensed pictures with words, which the text side is trained on. None of them is redistributed.

Emoji come from the pocket collection (`guardrails pocket build`); openclipart (public domain) from Debian's packages
openclipart-svg and openclipart-png, unpacked into one folder; symbols are those of Mulberry (CC BY-SA 4.0);
photographs those of Caltech-101 (CC BY 4.0) and of the Grocery Store Dataset (MIT).
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from guardrails.encoders.protocol import ImageEncoder, TextEncoder
from guardrails.errors import DatasetUnavailable, ImageTooLarge
from guardrails.files import writing_atomically
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import DEFAULT_LIMITS, decode, open_guarded
from guardrails.screens.heads import Vectors
from guardrails.screens.views import letterbox

SEED = 5
BATCH = 16
CHUNK = 64
SIDE = 224
BORDER = 8
# Mostly paper, some colours: a text side must not take a white ground for a sign.
BACKGROUNDS = (
    *[(255, 255, 255)] * 4, (240, 240, 235), (170, 225, 150), (160, 210, 245), (250, 215, 60), (150, 150, 150),
    (250, 165, 195),
)  # fmt: skip
# Parts of openclipart that repeat one drawing many times, or draw no thing.
_SKIPPED = ("flags", "aiga", "jigsaw", "buttons", "shapes/", "computer/icons", "mapsym", "special")
_TITLE = re.compile(r"<dc:title>\s*(.*?)\s*</dc:title>", re.DOTALL)
_TAG = re.compile(r"<rdf:li>(.*?)</rdf:li>", re.DOTALL)
_EMPTY_TAGS = frozenset({
    "hash", "clip_art", "clipart", "unsorted", "image", "icon", "icons", "media", "theme", "art", "various cliparts",
    "signs and symbols", "openclipart", "symbol", "shape", "desktop", "card",
})  # fmt: skip
# "Clipart by Nicu Buculei - owl" says who drew it before it says what it is.
_ARTIST = re.compile(r"^clip ?art (by )?nicu buculei ")
# A verb of Mulberry ends in ",_to"; a further drawing of a word in a number and a letter.
_SYMBOL_ENDING = re.compile(r"(_,_to|_\d+[a-z]?)+$")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captioned:
    """One picture and its words.

    Attributes:
        id: file name or emoji id.
        names: what it shows, the best name first; drawings with the same first name are the same thing.
        load: draws it, RGB uint8.
        source, licence: the set or package that it comes from, and what that allows.
    """

    id: str
    names: tuple[str, ...]
    load: Callable[[], Pixels]
    source: str = ""
    licence: str = ""


def emoji(pictures: Path, manifest: Path, hand: str) -> list[Captioned]:
    """The drawings of one hand, for example "noto".

    Args:
        pictures, manifest: what `guardrails pocket build` makes.
    """
    colours, store = random.Random(SEED), np.load(pictures, mmap_mode="r")  # noqa: S311 (no secret)
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [(number, row) for number, row in enumerate(csv.DictReader(file)) if row["set"] == hand]

    def draw(number: int, ground: tuple[int, int, int]) -> Pixels:
        return placed(Image.fromarray(store[number]), ground)

    return [
        Captioned(
            id=row["id"],
            names=(row["name"], *row["keywords"].split("|")),
            load=partial(draw, number, colours.choice(BACKGROUNDS)),
            source=row["package"],
            licence=row["licence"],
        )
        for number, row in rows
    ]


def clipart(folder: Path) -> list[Captioned]:
    """Drawings of openclipart in a fixed random order; those that are too large to be decoded are left out.

    Args:
        folder: holds `svg/` with the metadata and `png/` with the same names.
    """
    found = []
    for source in sorted((folder / "svg").rglob("*.svg")):
        name = source.relative_to(folder / "svg")
        picture = (folder / "png" / name).with_suffix(".png")
        if not picture.is_file() or any(part in name.as_posix() for part in _SKIPPED) or _is_too_large(picture):
            continue
        names = clipart_names(name, source.read_text(errors="replace"))
        if names:
            found.append(
                Captioned(
                    id=name.as_posix(),
                    names=names,
                    load=partial(_clipart_on_paper, picture),
                    source="openclipart 0.18",
                    licence="public domain",
                )
            )
    random.Random(SEED).shuffle(found)  # noqa: S311 (no secret)
    return found


def _is_too_large(picture: Path) -> bool:
    """Whether a drawing has more pixels than are ever decoded, as fourteen of openclipart have."""
    try:
        open_guarded(picture.read_bytes(), DEFAULT_LIMITS)
    except ImageTooLarge:
        return True
    return False


def clipart_names(path: Path, svg: str) -> tuple[str, ...]:
    """What a drawing is called: the title, then its tags, then the file name, which often names the artist."""
    title = _ARTIST.sub("", _plain_name(next(iter(_TITLE.findall(svg)), "")))
    tags = [tag.strip().lower().replace("_", " ") for tag in _TAG.findall(svg)]
    stem = _plain_name(path.stem)
    names = [title, *tags, stem] if len(title) > 2 else [stem, *tags]
    known = (name for name in names if len(name) > 2 and name not in _EMPTY_TAGS and not name.startswith("hash("))
    return tuple(dict.fromkeys(known))


def _plain_name(text: str) -> str:
    """Letters only; numbers, artists' initials and underscores of file names are dropped."""
    words = re.findall(r"[a-z]{3,}", text.lower().replace(".svg", " "))
    return " ".join(words[:5])


def _clipart_on_paper(path: Path) -> Pixels:
    return placed(_with_alpha(path), BACKGROUNDS[0])


def _with_alpha(path: Path) -> Image.Image:
    decoded = decode(path.read_bytes())
    if decoded.alpha is None or decoded.beneath is None:
        return Image.fromarray(decoded.pixels).convert("RGBA")
    return Image.fromarray(np.dstack([decoded.beneath, decoded.alpha]))


def placed(drawing: Image.Image, ground: tuple[int, int, int]) -> Pixels:
    """A drawing with transparency as large as possible on a square of one colour."""
    room = SIDE - 2 * BORDER
    scale = room / max(drawing.size)
    size = (max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale)))
    shrunk = drawing.resize(size, Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (SIDE, SIDE), ground)
    canvas.paste(shrunk, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2), shrunk)
    return np.asarray(canvas)


def symbols(folder: Path) -> list[Captioned]:
    """The Mulberry symbols, most of them one for a word.

    Args:
        folder: PNG files, drawn from the SVG files in `EN` of the symbols' repository, with the same names.
    """
    return [
        Captioned(
            id=path.name,
            names=(_SYMBOL_ENDING.sub("", path.stem).replace("_", " ").lower(),),
            load=partial(_clipart_on_paper, path),
        )
        for path in sorted(folder.glob("*.png"))
    ]


def labelled(folder: Path) -> list[Captioned]:
    """Photographs that lie in one folder for each thing, named as the thing is."""
    return [
        Captioned(
            id=path.relative_to(folder).as_posix(),
            names=(re.sub(r"[-_]+", " ", path.parent.name).lower(),),
            load=partial(_whole, path),
        )
        for path in sorted(folder.rglob("*.jpg"))
    ]


def photographs(folder: Path, source: str = "", licence: str = "") -> list[Captioned]:
    """Photographs under a folder; the words of a file name after the first underscore are its name."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return [
        Captioned(
            id=path.name,
            names=(path.stem.partition("_")[2].replace("_", " "),),
            load=partial(_whole, path),
            source=source,
            licence=licence,
        )
        for path in paths
    ]


def _whole(path: Path) -> Pixels:
    return letterbox(decode(path.read_bytes()).pixels)


def embed(pictures: Sequence[Captioned], encoder: ImageEncoder, cache: Path) -> None:
    """Embed pictures once, in files of `CHUNK` that a later call goes on from."""
    for start in range(0, len(pictures), CHUNK):
        path = cache / f"{start:06d}.npz"
        if not path.is_file():
            shown = pictures[start : start + CHUNK]
            vectors = np.concatenate(list(_batches(shown, encoder)))
            with writing_atomically(path) as file:
                np.savez(file, vectors=vectors, ids=np.array(json.dumps([picture.id for picture in shown])))


def _batches(pictures: Sequence[Captioned], encoder: ImageEncoder) -> Iterator[Vectors]:
    for start in range(0, len(pictures), BATCH):
        yield encoder.embed([picture.load() for picture in pictures[start : start + BATCH]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """Pictures with their vectors."""

    pictures: tuple[Captioned, ...]
    vectors: Vectors

    @classmethod
    def joined(cls, parts: Sequence[Embedded]) -> Embedded:
        """The pictures of all parts."""
        pictures = tuple(picture for part in parts for picture in part.pictures)
        return cls(pictures=pictures, vectors=np.concatenate([part.vectors for part in parts]))

    @property
    def names(self) -> list[tuple[str, ...]]:
        return [picture.names for picture in self.pictures]

    def only(self, rows: Sequence[int]) -> Embedded:
        return Embedded(pictures=tuple(self.pictures[row] for row in rows), vectors=self.vectors[list(rows)])

    def shows(self, names: Sequence[str]) -> list[int]:
        """Rows whose name is one of `names`."""
        return [row for row, own in enumerate(self.names) if own[0] in names]


def prepared(pictures: Sequence[Captioned], encoder: ImageEncoder | None, cache: Path) -> Embedded:
    """Pictures with their vectors; without an encoder those that the cache has."""
    if encoder is not None:
        embed(pictures, encoder, cache)
    known, vectors = cached(pictures, cache)
    print(f"{cache.name}: {len(known)} of {len(pictures)} pictures")
    return Embedded(pictures=tuple(known), vectors=vectors)


class Remembered:
    """A text encoder that keeps what it has read in a file.

    Args:
        reader: reads what is new.
        path: an `.npz` file; written by `save`.
    """

    def __init__(self, reader: TextEncoder, path: Path) -> None:
        self.id, self.dim = reader.id, reader.dim
        self._reader, self._path = reader, path
        self._known: dict[str, Vectors] = {}
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                self._known = dict(zip(json.loads(str(file["texts"])), file["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; see `TextEncoder.embed`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            self._known.update(zip(chunk, self._reader.embed(chunk), strict=True))
        return np.stack([self._known[text] for text in texts])

    def save(self) -> None:
        """Write everything that is known."""
        with writing_atomically(self._path) as file:
            np.savez(file, texts=np.array(json.dumps(list(self._known))), vectors=np.stack(list(self._known.values())))


def cached(pictures: Sequence[Captioned], cache: Path) -> tuple[list[Captioned], Vectors]:
    """The pictures that `embed` has been through so far, and their vectors."""
    vectors: dict[str, Vectors] = {}
    for path in sorted(cache.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            vectors.update(zip(json.loads(str(file["ids"])), file["vectors"], strict=True))
    known = [picture for picture in pictures if picture.id in vectors]
    if not known:
        raise DatasetUnavailable(f"{cache} holds none of these pictures", hint="embed them first")
    return known, np.stack([vectors[picture.id] for picture in known])
