"""Visible marks: a stock agency's or brand's name that a model has learned to paint.

The names are read by OCR (RapidOCR with PP-OCR weights, Apache-2.0, from its package; no network) and compared by
`brands`. Reading is slow, so only pictures in which `lettering` is seen are read. Where no name was read surely, what
is like one is looked at closer, and then the whole picture, if lettering is seen clearly.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Component
from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.screens.brands import LEAST_RATIO, BrandMatch, Word, find_brands, hints
from guardrails.screens.concepts import ConceptPack, concepts_of, expired_concepts, shipped_pack
from guardrails.screens.lettering import THRESHOLD, Lettering
from guardrails.screens.protocol import Reading
from guardrails.screens.views import Box, cut, tile_boxes

if TYPE_CHECKING:
    from rapidocr import RapidOCR

NAME = "visible-marks"
READ_SIDE = 640
# As sure of lettering as this are 98 of 100 pictures with a mark and 8 of 100 photographs without one.
SURE_LETTERING = 0.9
CLOSER_SIDE = 1280
# The reader enlarges the shorter side to 736 pixels, whatever becomes of the longer one: a line of a few pixels would
# take gigabytes. A longer piece is continued at its edge.
LONGEST_READ = 8
PANORAMA_ASPECT = 3.0
MOST_CLOSER = 3
MOST_THREADS = 4


class VisibleMarks:
    """A `Screen` with one score for each concept of kind ocr: the likeness of the surest brand, 0 when none was read.

    Args:
        packs: the shipped one by default.
        read_all: read every picture, also those in which no lettering is seen.

    Raises:
        PolicyError: two concepts are called the same.
    """

    def __init__(self, *, packs: Sequence[ConceptPack] | None = None, read_all: bool = False) -> None:
        packs = (shipped_pack(),) if packs is None else packs
        self._packs, self._concepts = tuple(packs), concepts_of(packs, "ocr")
        self._lettering, self._least = Lettering(), 0.0 if read_all else THRESHOLD
        digests = [*(pack.digest for pack in packs), self._lettering.digest, f"{self._least:g}"]
        self.component = Component(
            name=NAME, version="pp-ocr-v6", digest=hashlib.sha256("".join(digests).encode()).hexdigest()
        )
        self._reader: RapidOCR | None = None
        self._loading = threading.Lock()

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture; see `Screen.score`."""
        silent = expired_concepts(self._packs, "ocr")
        names = [concept.id for concept in self._concepts if concept.id not in silent]
        if not names:
            return Reading(scores={}, abstained=silent)
        # A missing reader is said at the first picture, not at the first that has lettering.
        self._load()
        boxes = _pieces(pixels)
        shown = [_shown(cut(pixels, box)) for box in boxes]
        seen = [self._lettering.score(piece) for piece in shown]
        if max(seen) < self._least:
            unread: dict[str, Json] = {"lettering": round(max(seen), 4), "least_lettering": self._least}
            return Reading(scores=dict.fromkeys(names, 0.0), evidence=dict.fromkeys(names, unread), abstained=silent)
        read = [(piece, box) for piece, box, surely in zip(shown, boxes, seen, strict=True) if surely >= self._least]
        clear = [box for box, surely in zip(boxes, seen, strict=True) if surely >= SURE_LETTERING]
        words = [word for piece, box in read for word in self._read_piece(piece, box)]
        found = self._find(words)
        for look in (partial(self._read_like_brands, pixels, words), partial(self._read_closer, pixels, clear)):
            if not self._is_sure(found):
                found = _surer(found, self._find(look()))
        return Reading(
            scores={name: found[name].ratio if name in found else 0.0 for name in names},
            evidence={
                name: {"box": list(match.box), "read": match.read, "brand": match.brand, "votes": match.votes}
                for name, match in found.items()
                if name in names
            },
            abstained=silent,
        )

    def _find(self, words: Sequence[Word]) -> dict[str, BrandMatch]:
        """By concept, the surest brand among the words of one look; of two looks together a word would count twice."""
        found = {concept.id: find_brands(words, concept.words, concept.negatives) for concept in self._concepts}
        return {name: matches[0] for name, matches in found.items() if matches}

    def _is_sure(self, found: Mapping[str, BrandMatch]) -> bool:
        return all(concept.id in found and found[concept.id].ratio >= LEAST_RATIO for concept in self._concepts)

    def _read_like_brands(self, pixels: Pixels, words: Sequence[Word]) -> list[Word]:
        """The words around those that are something like a brand."""
        like = [word for concept in self._concepts for word in hints(words, concept.words)[:MOST_CLOSER]]
        return self._read_closer(pixels, [_around(word, pixels) for word in like], READ_SIDE)

    def _read_closer(self, pixels: Pixels, boxes: Sequence[Box], side: int = CLOSER_SIDE) -> list[Word]:
        """The words in parts of a picture, enlarged and with more contrast."""
        return [word for box in boxes for word in self._read_piece(_shown(_stretched(cut(pixels, box)), side), box)]

    def read(self, pixels: Pixels) -> list[Word]:
        """Every word in a picture, from its pieces when it is a panorama."""
        return [word for box in _pieces(pixels) for word in self._read_piece(_shown(cut(pixels, box)), box)]

    def _read_piece(self, shown: Pixels, piece: Box) -> list[Word]:
        scale = max(shown.shape[:2]) / max(piece.right - piece.left, piece.bottom - piece.top)
        least = max(shown.shape[:2]) // LONGEST_READ
        lacking = [(0, max(0, least - side)) for side in shown.shape[:2]]
        result: Any = self._load()(np.ascontiguousarray(np.pad(shown, [*lacking, (0, 0)], mode="edge")[:, :, ::-1]))
        if result.boxes is None:
            return []
        words = []
        for corners, text, confidence in zip(result.boxes, result.txts, result.scores, strict=True):
            (x0, y0), (x1, y1) = corners.min(axis=0) / scale, corners.max(axis=0) / scale
            box = Box(
                left=round(x0) + piece.left,
                top=round(y0) + piece.top,
                right=round(x1) + piece.left,
                bottom=round(y1) + piece.top,
            )
            words.append(Word(text=text, confidence=float(confidence), box=_within(box, piece)))
        return words

    def _load(self) -> RapidOCR:
        with self._loading:
            if self._reader is None:
                try:
                    from rapidocr import RapidOCR
                except ModuleNotFoundError as error:
                    raise ScreenUnavailable(
                        "visible marks are read by rapidocr, which is not installed",
                        hint="pip install 'latent-guardrails[marks]'",
                    ) from error
                self._reader = RapidOCR(
                    params={
                        "EngineConfig.onnxruntime.intra_op_num_threads": reading_threads(),
                        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                        "Global.use_cls": False,
                        "Global.log_level": "error",
                    }
                )
            return self._reader


def reading_threads() -> int:
    """A quarter of the processors, at most four: a host with an accelerator has some to spare for the one slow step."""
    return max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 4))


def _pieces(pixels: Pixels) -> list[Box]:
    """The whole picture, or the tiles of a panorama."""
    height, width = pixels.shape[:2]
    if max(width, height) <= PANORAMA_ASPECT * min(width, height):
        return [Box(left=0, top=0, right=width, bottom=height)]
    return tile_boxes(width, height)


def _within(box: Box, piece: Box) -> tuple[int, int, int, int]:
    """The part of a box that lies in a piece, one pixel at least: in a continued edge there is nothing to look at."""
    left, top = min(max(box.left, piece.left), piece.right - 1), min(max(box.top, piece.top), piece.bottom - 1)
    return left, top, max(left + 1, min(box.right, piece.right)), max(top + 1, min(box.bottom, piece.bottom))


def _around(word: Word, pixels: Pixels) -> Box:
    """A word and as much again on every side."""
    left, top, right, bottom = word.box
    width, height = right - left, bottom - top
    return Box(
        left=max(0, left - width),
        top=max(0, top - height),
        right=min(pixels.shape[1], right + width),
        bottom=min(pixels.shape[0], bottom + height),
    )


def _stretched(pixels: Pixels) -> Pixels:
    """Grey, with more contrast in every part (CLAHE)."""
    import cv2

    light = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    stretched = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(light)
    return np.repeat(stretched[..., np.newaxis], 3, axis=2)


def _surer(first: Mapping[str, BrandMatch], second: Mapping[str, BrandMatch]) -> dict[str, BrandMatch]:
    """By concept, what was found with the better ratio."""
    both = [*first.items(), *second.items()]
    return dict(sorted(both, key=lambda pair: pair[1].ratio))


def _shown(pixels: Pixels, side: int = READ_SIDE) -> Pixels:
    """A piece as it is read, `side` pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
