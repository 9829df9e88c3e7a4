"""Pictures to search hashes: PDQ and its symmetric sibling, all eight orientations from one transform.

`pdq256` is PDQ (Facebook, "PDQ & TMK + PDQF", 2019), bit for bit: luma, Jarosz filter and decimation to 64 x 64 as one
matrix per axis, 16 x 16 coefficients of a DCT, bits above the lower median. Mirroring a picture negates the odd
frequencies of one axis and turning it exchanges the axes, so the other seven orientations need no pixels.

`sym256` is our own search hash. PDQ samples off-centre, so mirrored pictures get other bits, and mirror-symmetric
pictures, whose odd coefficients are zero, get noise. Averaging areas instead is symmetric: here the eight orientations
are exact.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels, iscc
from guardrails.similarity.borders import content_box
from guardrails.similarity.hashes import (
    DHASH64,
    HASH_BYTES,
    ISCC_IMAGE64,
    ORIENTATIONS,
    PDQ256,
    PHASH64,
    SYM256,
    ImageHash,
    PdqHashes,
    dhash64,
    oriented,
    phash64,
)

FRONT_END = "luma-pdq-sym/1"
SIDE = 64
COEFFICIENTS = 16
# Upscaled to this before the symmetric reduction: thumbnails have too few pixels to be averaged.
_MIN_SYMMETRIC_SIDE = 256
# Coefficients that should be zero are rounding noise; without this the bits of symmetric pictures depend on the CPU.
_ZERO = 1e-4
_MEDIAN = COEFFICIENTS * COEFFICIENTS // 2 - 1
_REFERENCE = {PHASH64: phash64, DHASH64: dhash64}
# A picture with more transparency than this is also hashed on black: nobody knows what it was shown on.
_OPAQUE, _MIN_TRANSPARENT_SHARE = 250, 0.05
# One block of rows of the banded filter matrix.
_BLOCK = 8


class Region(enum.IntEnum):
    """Which part of a picture a code describes; the numbers are stored in indexes."""

    FULL = 0
    BOX = 1
    ON_BLACK = 2


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The codes of one picture under one algorithm.

    Attributes:
        regions: region to its hashes; a region with too little detail is absent, so that blank pictures match nothing.
        quality: PDQ quality of the full frame, 0..100.
    """

    algorithm: str
    regions: Mapping[Region, PdqHashes]
    quality: int

    @property
    def hashable(self) -> bool:
        """False when no region has enough detail: then there is no answer, which is not the answer "no match"."""
        return bool(self.regions)

    @property
    def rows(self) -> list[tuple[Region, bytes]]:
        """What an index stores: each region as it is."""
        return [(region, hashes.codes[0].tobytes()) for region, hashes in self.regions.items()]

    def queries(self, *, inverted: bool = True) -> NDArray[np.uint8]:
        """What an index is asked: uint8 (8 or 16 per region, bytes), orientations of each region in their order.

        Args:
            inverted: also ask for the complements, which are the hashes of the picture with inverted colours.
        """
        if not self.regions:
            return np.empty((0, HASH_BYTES[self.algorithm]), np.uint8)
        codes = np.concatenate([hashes.codes for hashes in self.regions.values()])
        return np.concatenate([codes, ~codes]) if inverted else codes


class Fingerprinter:
    """Hashes pictures one after the other, reusing its buffers; not for several threads at once.

    Args:
        algorithm: "pdq256" or "sym256"; "iscc-image64", the Image-Code of ISO 24138; "phash64" or "dhash64",
            which are imagehash's and some fifty times slower.
        boxes: also hash what is left when plain borders are peeled off.

    Raises:
        ValueError: another algorithm.
    """

    def __init__(self, algorithm: str = PDQ256, *, boxes: bool = True) -> None:
        if algorithm not in (PDQ256, SYM256, ISCC_IMAGE64, *_REFERENCE):
            raise ValueError(f"{algorithm!r} is no hash that is computed here")
        self.algorithm = algorithm
        self._boxes = boxes
        self._luma = _Luma()

    def fingerprint(self, pixels: Pixels, alpha: NDArray[np.uint8] | None = None) -> Fingerprint:
        """Hash every region of one picture.

        Args:
            pixels: RGB, uint8, height x width x 3, transparent parts composed on white.
            alpha: uint8, height x width, 255 = opaque, as `imaging.decoding` gives it.
        """
        full = self.hashes(pixels)
        found = {Region.FULL: full}
        if self._boxes:
            box = content_box(pixels)
            if not box.is_whole(pixels):
                found[Region.BOX] = self.hashes(box.cut(pixels))
        if alpha is not None and np.mean(alpha < _OPAQUE) > _MIN_TRANSPARENT_SHARE:
            found[Region.ON_BLACK] = self.hashes(_on_black(pixels, alpha))
        kept = {region: hashes for region, hashes in found.items() if hashes.hashable}
        return Fingerprint(self.algorithm, kept, full.quality)

    def hashes(self, pixels: Pixels) -> PdqHashes:
        """The eight hashes and the quality of the picture as it is."""
        luma = self._luma(pixels)
        if self.algorithm == PDQ256:
            small = _decimated(luma)
            return PdqHashes(_eight_codes(_transformed(small)), _quality(small))
        small = _averaged(luma)
        if self.algorithm == SYM256:
            return PdqHashes(_eight_codes(_without_noise(_transformed(small))), _quality(small))
        bits = (
            _eight_image_codes(pixels) if self.algorithm == ISCC_IMAGE64 else _eight_references(self.algorithm, pixels)
        )
        return PdqHashes(np.stack([np.frombuffer(code, np.uint8) for code in bits]), _quality(small))


def invert(code: ImageHash) -> ImageHash:
    """The hash of the same picture with inverted colours."""
    return ImageHash(code.algorithm, bytes(255 - byte for byte in code.bits))


class _Luma:
    """Y = .299 R + .587 G + .114 B in float32, in buffers that are made once for each size."""

    def __init__(self) -> None:
        self._colours = np.empty((0, 0, 3), np.float32)
        self._luma = np.empty((0, 0), np.float32)

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        if self._colours.shape != pixels.shape:
            self._colours = np.empty(pixels.shape, np.float32)
            self._luma = np.empty(pixels.shape[:2], np.float32)
        np.copyto(self._colours, pixels)
        cv2.cvtColor(self._colours, cv2.COLOR_RGB2GRAY, dst=self._luma)
        return self._luma


@dataclass(frozen=True, slots=True)
class _BandedBlock:
    """Some rows of a banded matrix, and the columns where they are not zero."""

    columns: slice
    weights: NDArray[np.float32]


@cache
def _filter_blocks(size: int) -> tuple[_BandedBlock, ...]:
    """PDQ's two box passes and its decimation along an axis of `size` pixels, 64 x size, cut into blocks.

    For 64 pixels this is the identity.
    """
    window = (size + 127) // 128
    half = (window + 2) // 2
    firsts = np.maximum(0, np.arange(size) - (window - half))
    lasts = np.minimum(size - 1, np.arange(size) + half - 1)
    chosen = ((np.arange(SIDE) + 0.5) * size / SIDE).astype(np.int64)
    rows = np.zeros((SIDE, size))
    for number, centre in enumerate(chosen):
        for middle in range(firsts[centre], lasts[centre] + 1):
            weight = 1 / (lasts[centre] - firsts[centre] + 1) / (lasts[middle] - firsts[middle] + 1)
            rows[number, firsts[middle] : lasts[middle] + 1] += weight
    blocks = []
    for begin in range(0, SIDE, _BLOCK):
        block = rows[begin : begin + _BLOCK]
        used = np.flatnonzero(block.any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append(_BandedBlock(columns, np.ascontiguousarray(block[:, columns], dtype=np.float32)))
    return tuple(blocks)


def _decimated(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """PDQ's 64 x 64 picture."""
    height, width = luma.shape
    rows = np.concatenate([block.weights @ luma[block.columns] for block in _filter_blocks(height)])
    return np.concatenate([rows[:, block.columns] @ block.weights.T for block in _filter_blocks(width)], axis=1)


def _averaged(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """The symmetric 64 x 64 picture: means of equal areas."""
    height, width = luma.shape
    if min(height, width) < _MIN_SYMMETRIC_SIDE:
        larger = max(width, _MIN_SYMMETRIC_SIDE), max(height, _MIN_SYMMETRIC_SIDE)
        luma = np.asarray(cv2.resize(luma, larger, interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    return np.asarray(cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)


@cache
def _cosines() -> NDArray[np.float32]:
    """Rows 1..16 of the orthonormal DCT-II of 64 samples; row 0, the brightness, is left out."""
    frequencies = np.arange(1, COEFFICIENTS + 1)[:, None]
    samples = np.arange(SIDE)[None]
    cosines = np.sqrt(2 / SIDE) * np.cos(np.pi / (2 * SIDE) * frequencies * (2 * samples + 1))
    return np.asarray(cosines, dtype=np.float32)


def _transformed(small: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(_cosines() @ small @ _cosines().T, dtype=np.float32)


def _without_noise(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    magnitudes = np.abs(coefficients)
    return np.where(magnitudes < _ZERO * magnitudes.max(), np.float32(0), coefficients)


def _quality(small: NDArray[np.float32]) -> int:
    """PDQ's measure of detail: the gradients of the 64 x 64 picture, 0..100."""
    vertical = np.trunc((small[1:] - small[:-1]) * 100 / 255)
    horizontal = np.trunc((small[:, 1:] - small[:, :-1]) * 100 / 255)
    return int(min(100, (np.abs(vertical).sum() + np.abs(horizontal).sum()) // 90))


@cache
def _orientation_signs() -> NDArray[np.float32]:
    """What each orientation, numbered as `hashes.oriented` numbers them, does to the coefficients; (8, 16, 16).

    Odd orientations but 5, and 6, exchange the axes as well, see `_TRANSPOSED`.
    """
    odd = np.where(np.arange(1, COEFFICIENTS + 1) % 2 == 1, -1, 1).astype(np.float32)
    same = np.ones((COEFFICIENTS, COEFFICIENTS), np.float32)
    rows, columns = same * odd[:, None], same * odd[None]
    return np.stack([same, rows, rows * columns, columns, rows, columns, same, rows * columns])


_TRANSPOSED = (1, 3, 6, 7)


def _eight_codes(coefficients: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The codes of all orientations, uint8 (8, 32)."""
    oriented = np.repeat(coefficients[None], 8, axis=0)
    oriented[list(_TRANSPOSED)] = coefficients.T
    oriented *= _orientation_signs()
    values = oriented.reshape(8, -1)
    # Negating moves the median, and the lower median is not the upper one's negative: each orientation has its own.
    medians = np.partition(values, _MEDIAN, axis=1)[:, _MEDIAN, None]
    bits = (values > medians)[:, ::-1]
    return np.packbits(bits, axis=1)


def _eight_image_codes(pixels: Pixels) -> list[bytes]:
    """Turned after the picture was reduced, which is all that the code sees of it."""
    grey = iscc.reduced(pixels)
    return [iscc.grey_code(oriented(grey, k)) for k in range(ORIENTATIONS)]


def _eight_references(algorithm: str, pixels: Pixels) -> list[bytes]:
    return [_REFERENCE[algorithm](oriented(pixels, k)).bits for k in range(ORIENTATIONS)]


def _on_black(on_white: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    # Composed on white a pixel is a c + 255 - a; on black it is a c.
    return np.asarray(cv2.subtract(on_white, cv2.merge([255 - alpha] * 3)), dtype=np.uint8)
