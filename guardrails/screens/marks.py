"""Visible marks: a stock agency's or brand's name that a model has learned to paint.

The names are read by OCR (RapidOCR with PP-OCR weights, Apache-2.0, from its package; no network) and compared by
`brands`. Reading is slow, so only pictures in which `lettering` is seen are read.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Component
from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.screens.brands import BrandMatch, Word, find_brands, hints
from guardrails.screens.concepts import Concept, ConceptPack, concepts_of, expired_concepts, shipped_pack
from guardrails.screens.lettering import THRESHOLD, Lettering
from guardrails.screens.protocol import Reading
from guardrails.screens.views import Box, cut, tile_boxes

if TYPE_CHECKING:
    from rapidocr import RapidOCR

NAME = "visible-marks"
READ_SIDE = 640
# The reader enlarges the shorter side to 736 pixels, whatever becomes of the longer one: a line of a few pixels would
# take gigabytes. A thinner piece is continued at its edge.
LEAST_READ_SIDE = 80
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
        self._lettering = None if read_all else Lettering()
        digests = [pack.digest for pack in packs] + ([self._lettering.digest] if self._lettering else [])
        self.component = Component(
            name=NAME, version="pp-ocr-v6", digest=hashlib.sha256("".join(digests).encode()).hexdigest()
        )
        self._reader: RapidOCR | None = None
        self._loading = threading.Lock()

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture; see `Screen.score`."""
        silent = expired_concepts(self._packs, "ocr")
        concepts = [concept for concept in self._concepts if concept.id not in silent]
        if not concepts:
            return Reading(scores={}, abstained=silent)
        # A missing reader is said at the first picture, not at the first that has lettering.
        self._load()
        pieces = [(_shown(cut(pixels, box)), box) for box in _pieces(pixels)]
        seen = [self._lettering.score(shown) if self._lettering else 1.0 for shown, _ in pieces]
        if max(seen) < THRESHOLD:
            unread: dict[str, Json] = {"lettering": round(max(seen), 4), "least_lettering": THRESHOLD}
            names = [concept.id for concept in concepts]
            return Reading(scores=dict.fromkeys(names, 0.0), evidence=dict.fromkeys(names, unread), abstained=silent)
        words = [
            word
            for (shown, box), surely in zip(pieces, seen, strict=True)
            if surely >= THRESHOLD
            for word in self._read_piece(shown, box)
        ]
        found = {concept.id: self._find(concept, words) or self._find_closer(concept, words, pixels)
                 for concept in concepts}  # fmt: skip
        return Reading(
            scores={name: matches[0].ratio if matches else 0.0 for name, matches in found.items()},
            evidence={
                name: {"box": list(matches[0].box), "read": matches[0].read, "brand": matches[0].brand,
                       "votes": matches[0].votes}
                for name, matches in found.items() if matches
            },
            abstained=silent,
        )  # fmt: skip

    @staticmethod
    def _find(concept: Concept, words: Sequence[Word]) -> list[BrandMatch]:
        return find_brands(words, concept.words, concept.negatives)

    def _find_closer(self, concept: Concept, words: Sequence[Word], pixels: Pixels) -> list[BrandMatch]:
        """Look again, enlarged and with more contrast, where something like a brand was read."""
        closer = [
            word for hint in hints(words, concept.words)[:MOST_CLOSER] for word in self._read_closer(pixels, hint)
        ]
        return self._find(concept, closer)

    def _read_closer(self, pixels: Pixels, hint: Word) -> list[Word]:
        import cv2

        left, top, right, bottom = hint.box
        width, height = right - left, bottom - top
        box = Box(
            left=max(0, left - width),
            top=max(0, top - height),
            right=min(pixels.shape[1], right + width),
            bottom=min(pixels.shape[0], bottom + height),
        )
        light = cv2.cvtColor(np.ascontiguousarray(cut(pixels, box)), cv2.COLOR_RGB2GRAY)
        stretched = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(light)
        return self._read_piece(_shown(np.repeat(stretched[..., np.newaxis], 3, axis=2)), box)

    def read(self, pixels: Pixels) -> list[Word]:
        """Every word in a picture, from its pieces when it is a panorama."""
        return [word for box in _pieces(pixels) for word in self._read_piece(_shown(cut(pixels, box)), box)]

    def _read_piece(self, shown: Pixels, piece: Box) -> list[Word]:
        scale = READ_SIDE / max(piece.right - piece.left, piece.bottom - piece.top)
        lacking = [(0, max(0, LEAST_READ_SIDE - side)) for side in shown.shape[:2]]
        thick_enough = np.pad(shown, [*lacking, (0, 0)], mode="edge")
        result: Any = self._load()(np.ascontiguousarray(thick_enough[:, :, ::-1]))
        if result.boxes is None:
            return []
        words = []
        for corners, text, confidence in zip(result.boxes, result.txts, result.scores, strict=True):
            (x0, y0), (x1, y1) = corners.min(axis=0) / scale, corners.max(axis=0) / scale
            box = (round(x0) + piece.left, round(y0) + piece.top, round(x1) + piece.left, round(y1) + piece.top)
            words.append(Word(text=text, confidence=float(confidence), box=box))
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


def _shown(pixels: Pixels) -> Pixels:
    """A piece as it is read: `READ_SIDE` pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = READ_SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
