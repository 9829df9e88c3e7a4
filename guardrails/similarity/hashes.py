"""Perceptual hashes as values, and the reference libraries' hashes of one picture.

`ImageHash` carries its algorithm, and with it its size: hashes of different kinds cannot be compared by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels

PHASH64 = "phash64"
DHASH64 = "dhash64"
PDQ256 = "pdq256"
SYM256 = "sym256"
ISCC_IMAGE64 = "iscc-image64"
# Of one point of a picture, see `keypoints`; all others are of whole pictures.
KEYPOINT128 = "keypoint128"
HASH_BYTES = {PHASH64: 8, DHASH64: 8, ISCC_IMAGE64: 8, KEYPOINT128: 16, PDQ256: 32, SYM256: 32}

# Below this PDQ quality a picture has too little detail to be told from others by its hash (PDQ reference, "quality").
MIN_QUALITY = 50

ORIENTATIONS = 8


@dataclass(frozen=True, slots=True)
class ImageHash:
    """A perceptual hash; `a - b` is the Hamming distance.

    Attributes:
        algorithm: one of `HASH_BYTES`.
        bits: 8 or 32 bytes, first bit of the algorithm's own hexadecimal form first.

    Raises:
        ValueError: an unknown algorithm or the wrong number of bytes.
    """

    algorithm: str
    bits: bytes

    def __post_init__(self) -> None:
        expected = HASH_BYTES.get(self.algorithm)
        if expected is None:
            raise ValueError(f"{self.algorithm!r} is none of the known hashes {sorted(HASH_BYTES)}")
        if len(self.bits) != expected:
            raise ValueError(f"{self.algorithm} has {expected} bytes, got {len(self.bits)}")

    @classmethod
    def from_hex(cls, algorithm: str, text: str) -> ImageHash:
        """Read hexadecimal digits as imagehash (phash64) and python-threatexchange (pdq256) write them."""
        return cls(algorithm, bytes.fromhex(text))

    def __sub__(self, other: ImageHash) -> int:
        if self.algorithm != other.algorithm:
            raise TypeError(f"{self.algorithm} and {other.algorithm} cannot be compared")
        return (int.from_bytes(self.bits, "big") ^ int.from_bytes(other.bits, "big")).bit_count()

    def __str__(self) -> str:
        return self.bits.hex()


@dataclass(frozen=True, slots=True)
class PdqHashes:
    """PDQ, or its symmetric sibling, of one picture.

    Attributes:
        codes: uint8 (8, 32); row k is the hash of `oriented(pixels, k)`, row 0 of the picture as it is.
        quality: 0..100.
    """

    codes: NDArray[np.uint8]
    quality: int

    @property
    def upright(self) -> ImageHash:
        return ImageHash(PDQ256, self.codes[0].tobytes())

    @property
    def hashable(self) -> bool:
        """True when there is enough detail for the hash to mean anything."""
        return self.quality >= MIN_QUALITY


def phash64(pixels: Pixels) -> ImageHash:
    """DCT hash of 64 bits as `imagehash.phash` defines it; the hexadecimal form is the same.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    # imagehash imports scipy.
    import imagehash
    from PIL import Image

    return ImageHash(PHASH64, np.packbits(imagehash.phash(Image.fromarray(pixels)).hash).tobytes())


def dhash64(pixels: Pixels) -> ImageHash:
    """Gradient hash of 64 bits as `imagehash.dhash` defines it; the hexadecimal form is the same.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    import imagehash
    from PIL import Image

    return ImageHash(DHASH64, np.packbits(imagehash.dhash(Image.fromarray(pixels)).hash).tobytes())


def crop_resistant(pixels: Pixels) -> tuple[ImageHash, ...]:
    """The gradient hashes of a picture's segments, as `imagehash.crop_resistant_hash` finds them.

    S. Steinebach et al., "Robust hashing for cropped images" (ARES 2014). About .2 s for each picture.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    import imagehash
    from PIL import Image

    segments = imagehash.crop_resistant_hash(Image.fromarray(pixels), min_segment_size=500, segmentation_image_size=300)
    return tuple(ImageHash(DHASH64, np.packbits(segment.hash).tobytes()) for segment in segments.segment_hashes)


def pdq256(pixels: Pixels) -> PdqHashes:
    """PDQ (Facebook, "PDQ & TMK + PDQF", 2019) in all eight orientations, with its quality.

    The seven others are derived in the frequency domain, which is exact for pictures of 64 x 64 pixels up to ties and
    approximate for larger ones, because PDQ's decimation is off-centre there.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    import pdqhash

    vectors, quality = pdqhash.compute_dihedral(np.ascontiguousarray(pixels))
    return PdqHashes(np.packbits(np.stack(vectors).astype(np.uint8), axis=1), int(quality))


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """One of the eight flips and quarter turns, numbered as pdqhash numbers them.

    Args:
        orientation: 0 as it is; 1, 2, 3 turned by 90, 180, 270 degrees counter-clockwise; 4 top to bottom;
            5 left to right; 6 and 7 mirrored along the two diagonals.
    """
    if orientation < 4:
        turned = np.rot90(pixels, orientation)
    elif orientation == 4:
        turned = pixels[::-1]
    elif orientation == 5:
        turned = pixels[:, ::-1]
    else:
        turned = np.fliplr(np.rot90(pixels, 3 if orientation == 6 else 1))
    return np.ascontiguousarray(turned)


def code_distances(codes: NDArray[np.uint8], queries: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """All Hamming distances.

    Args:
        codes: uint8 (n, bytes), bytes a multiple of 8, C-contiguous.
        queries: uint8 (m, bytes).

    Returns:
        uint16 (m, n).
    """
    words, asked = codes.view(np.uint64), np.ascontiguousarray(queries).view(np.uint64)
    return np.stack([np.bitwise_count(words ^ query).sum(axis=1, dtype=np.uint16) for query in asked])
