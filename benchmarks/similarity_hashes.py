"""How fast pictures are hashed beside pdqhash and imagehash, and how near our PDQ is to pdqhash's.

::

    OMP_NUM_THREADS=1 python benchmarks/similarity_hashes.py PICTURES.npy [--works 400]

CPU time, one thread, 512 x 512 pixels, best of several rounds. `PICTURES.npy` as for `similarity_recall.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.imaging import Pixels
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import MIN_QUALITY, PDQ256, SYM256, code_distances, pdq256

SIZES = ((64, 64), (128, 128), (256, 256), (512, 512), (333, 333), (200, 300), (97, 640), (64, 300))


def on_white(rgba: NDArray[np.uint8], size: tuple[int, int]) -> Pixels:
    """The drawing on white, scaled to height x width."""
    values = rgba.astype(np.float32)
    alpha = values[..., 3:] / 255
    white = np.rint(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return cv2.resize(white, size[::-1], interpolation=cv2.INTER_AREA if min(size) < 256 else cv2.INTER_CUBIC)


def milliseconds(function: Callable[[Pixels], object], pictures: list[Pixels], rounds: int = 5) -> float:
    """CPU time of one picture in the best round."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for picture in pictures:
            function(picture)
        times.append((time.process_time() - started) / len(pictures) * 1e3)
    return min(times)


def speed(drawings: NDArray[np.uint8]) -> None:
    """Print milliseconds and pictures a second of each hash."""
    import imagehash
    import pdqhash

    pictures = [on_white(drawings[row], (512, 512)) for row in range(0, len(drawings), len(drawings) // 24)]
    hashers: dict[str, Callable[[Pixels], object]] = {
        "sym256, 8 orientations, quality": Fingerprinter(SYM256).hashes,
        "pdq256, 8 orientations, quality": Fingerprinter(PDQ256).hashes,
        "sym256, the same of frame and box": Fingerprinter(SYM256).fingerprint,
        "pdqhash.compute": lambda p: pdqhash.compute(p),
        "pdqhash.compute_dihedral": lambda p: pdqhash.compute_dihedral(p),
        "imagehash.phash": lambda p: imagehash.phash(Image.fromarray(p)),
        "imagehash.dhash": lambda p: imagehash.dhash(Image.fromarray(p)),
    }
    for name, function in hashers.items():
        cost = milliseconds(function, pictures)
        print(f"{name:36}{cost:8.3f} ms {1000 / cost:9,.0f} /s")


def conformance(drawings: NDArray[np.uint8], works: int) -> None:
    """Print the distances between our codes and pdqhash's, of pictures with enough detail."""
    chosen = np.random.default_rng(3).choice(len(drawings), works, replace=False)
    hasher = Fingerprinter(PDQ256)
    columns = {"size": 10, "pictures": 10, "equal": 8, "<= 2": 8, "largest": 9, "quality off by": 16}
    print("".join(f"{name:>{width}}" for name, width in columns.items()) + f"{'8 orientations <= 2':>21}")
    for size in SIZES:
        distances, orientations, quality = [], [], 0
        for row in chosen:
            picture = on_white(drawings[row], size)
            reference = pdq256(picture)
            if reference.quality < MIN_QUALITY:
                continue
            ours = hasher.hashes(picture)
            off = np.diagonal(code_distances(ours.codes, reference.codes)).astype(int)
            distances.append(off[0])
            orientations.append(off.max())
            quality = max(quality, abs(ours.quality - reference.quality))
        found, worst = np.array(distances), np.array(orientations)
        print(
            f"{f'{size[0]}x{size[1]}':>10}{len(found):10}{np.mean(found == 0):8.3f}{np.mean(found <= 2):8.3f}"
            f"{found.max():9}{quality:16}{np.mean(worst <= 2):21.3f}"
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures")
    parser.add_argument("--works", type=int, default=400)
    options = parser.parse_args()
    drawings = np.load(options.pictures, mmap_mode="r")
    speed(drawings)
    conformance(drawings, options.works)


if __name__ == "__main__":
    main()
