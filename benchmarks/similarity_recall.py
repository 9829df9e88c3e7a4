"""How many copies each hash finds after 45 attacks, and at what rate it takes different works for one.

::

    python benchmarks/similarity_recall.py PICTURES.npy [--works 150] [--manifest datasets/pocket/manifest.csv]

`PICTURES.npy` holds drawings as RGBA, uint8 (n, side, side, 4), as `guardrails pocket build` makes them. Each chosen
drawing stands on white at 384 pixels, is attacked, and asked against itself. pdqhash and imagehash run on the same
pictures. Pairs of different works give the false-positive rate at the thresholds used. The regenerations stand in for a
memorised output (bend, blur, tint, noise); they are no diffusion outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.similarity.entries import read_entries
from guardrails.similarity.fingerprints import Fingerprinter, Region
from guardrails.similarity.hashes import HASH_BYTES, ISCC_IMAGE64, PDQ256, SYM256, code_distances

SIDE = 384
Attack = Callable[[Pixels, np.random.Generator], Pixels]
Codes = NDArray[np.uint8]


def encoded(extension: str, flag: int, quality: int) -> Attack:
    """Through a lossy file."""

    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        return cv2.imdecode(cv2.imencode(extension, pixels, [flag, quality])[1], cv2.IMREAD_COLOR)

    return attack


def scaled(x: float, y: float) -> Attack:
    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        size = round(pixels.shape[1] * x), round(pixels.shape[0] * y)
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if min(x, y) < 1 else cv2.INTER_CUBIC)

    return attack


def cropped(share: float, centred: bool = False) -> Attack:
    """Without `share` of the area."""

    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = (round(n * np.sqrt(1 - share)) for n in pixels.shape[:2])
        spare = pixels.shape[0] - height, pixels.shape[1] - width
        top, left = (n // 2 for n in spare) if centred else (int(rng.integers(0, n + 1)) for n in spare)
        return pixels[top : top + height, left : left + width]

    return attack


def rotated(degrees: float) -> Attack:
    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(pixels, matrix, (width, height), borderValue=pixels[0, 0].tolist())

    return attack


def padded(vertical: float, horizontal: float, value: int) -> Attack:
    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        y, x = round(pixels.shape[0] * vertical), round(pixels.shape[1] * horizontal)
        return cv2.copyMakeBorder(pixels, y, y, x, x, cv2.BORDER_CONSTANT, value=(value,) * 3)

    return attack


def toned(function: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Attack:
    return lambda pixels, rng: np.clip(np.rint(function(pixels.astype(np.float32))), 0, 255).astype(np.uint8)


def hue(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 30) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def grey(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def noisy(sigma: float) -> Attack:
    return lambda p, rng: np.clip(p + rng.normal(0, sigma, p.shape), 0, 255).astype(np.uint8)


def blurred(sigma: float) -> Attack:
    return lambda pixels, rng: cv2.GaussianBlur(pixels, (0, 0), sigma * pixels.shape[0] / 384)


def lettered(text: str, size: float, where: tuple[float, float], bar: bool = False, tiled: bool = False) -> Attack:
    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        out = pixels.copy()
        height, width = out.shape[:2]
        if bar:
            out[round(height * 0.8) :] = 0
        spots = [(x, y) for y in np.arange(0.1, 1, 0.2) for x in np.arange(0, 1, 0.35)] if tiled else [where]
        layer = out.copy()
        for x, y in spots:
            spot = round(x * width), round(y * height)
            colour = (255, 255, 255) if bar else (120, 120, 120) if tiled else (200, 30, 30)
            cv2.putText(layer, text, spot, cv2.FONT_HERSHEY_SIMPLEX, size, colour, max(1, round(size * 2)), cv2.LINE_AA)
        return cv2.addWeighted(layer, 0.5, out, 0.5, 0) if tiled else layer

    return attack


def on_colour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    out = pixels.copy()
    out[(pixels > 240).all(axis=2)] = rng.integers(0, 256, 3)
    return out


def regenerated(strength: float) -> Attack:
    """Down to 256 pixels, bent, softened, tinted and noisy, and up again."""

    def attack(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        side = 256
        small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        rows, columns = np.mgrid[:side, :side].astype(np.float32)
        bend = [cv2.resize(rng.normal(0, strength, (5, 5)).astype(np.float32), (side, side)) for _ in range(2)]
        bent = cv2.remap(small, columns + bend[0], rows + bend[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        soft = cv2.GaussianBlur(cv2.medianBlur(bent, 3), (0, 0), 0.8)
        tinted = soft * rng.uniform(0.94, 1.06, 3) + rng.uniform(-6, 6, 3) + rng.normal(0, 2, soft.shape)
        shape = pixels.shape[1], pixels.shape[0]
        return cv2.resize(np.clip(tinted, 0, 255).astype(np.uint8), shape, interpolation=cv2.INTER_CUBIC)

    return attack


def turned(quarters: int) -> Attack:
    return lambda pixels, rng: np.ascontiguousarray(np.rot90(pixels, quarters))


JPEG, WEBP = cv2.IMWRITE_JPEG_QUALITY, cv2.IMWRITE_WEBP_QUALITY
# The first group is the one with a goal of its own: everything that an honest re-use does to a file.
PLAIN: dict[str, Attack] = {
    **{f"jpeg {quality}": encoded(".jpg", JPEG, quality) for quality in (75, 50, 20)},
    "webp 50": encoded(".webp", WEBP, 50),
    "scale .5": scaled(0.5, 0.5),
    "scale .2": scaled(0.2, 0.2),
    "scale 2": scaled(2, 2),
    "aspect 1.25": scaled(1.25, 1),
    "mirror": lambda pixels, rng: np.ascontiguousarray(pixels[:, ::-1]),
    "upside down": lambda pixels, rng: np.ascontiguousarray(pixels[::-1]),
    "turn 90": turned(1),
    "turn 180": turned(2),
    "white pad 10": padded(0.1, 0.1, 255),
    "white pad 30": padded(0.3, 0.3, 255),
    "dark pad 10": padded(0.1, 0.1, 12),
    "letterbox": padded(0.2, 0, 0),
}
HARDER: dict[str, Attack] = {
    "jpeg 8": encoded(".jpg", JPEG, 8),
    **{f"crop {round(share * 100)}": cropped(share) for share in (0.05, 0.1, 0.2, 0.3, 0.5)},
    "crop 20 centred": cropped(0.2, centred=True),
    **{f"rotate {degrees}": rotated(degrees) for degrees in (1, 3, 8)},
    "brightness .7": toned(lambda p: p * 0.7),
    "brightness 1.4": toned(lambda p: p * 1.4),
    "contrast .6": toned(lambda p: (p - 128) * 0.6 + 128),
    "gamma .6": toned(lambda p: 255 * (p / 255) ** 0.6),
    "hue": hue,
    "grey": grey,
    "invert": lambda pixels, rng: 255 - pixels,
    "blur 2": blurred(2),
    "blur 5": blurred(5),
    "noise 10": noisy(10),
    "noise 30": noisy(30),
    "caption": lettered("a caption", 0.7, (0.55, 0.95)),
    "bar": lettered("breaking news", 1, (0.05, 0.93), bar=True),
    "big word": lettered("SALE", 3.5, (0.1, 0.6)),
    "stock mark": lettered("stock", 1, (0, 0), tiled=True),
    "coloured ground": on_colour,
    **{f"regenerated {strength}": regenerated(strength) for strength in (1, 3, 6)},
}
ATTACKS = PLAIN | HARDER
assert len(ATTACKS) == 45

# Radius of the full frame and of the peeled box, see docs/similarity.md.
RADII = {SYM256: {Region.FULL: 50, Region.BOX: 47}, PDQ256: {Region.FULL: 50, Region.BOX: 31}}
NARROW = {algorithm: {Region.FULL: 31, Region.BOX: 31} for algorithm in RADII}
# Of these only the pairs are counted: lists of them come from others.
EXCHANGED = {ISCC_IMAGE64: {Region.FULL: 4, Region.BOX: 4}}
EXACT = {Region.FULL: 0, Region.BOX: 0}


class Ours:
    """One of our fingerprints: eight orientations, complement, peeled box."""

    def __init__(self, algorithm: str) -> None:
        self.name = f"{algorithm}, 8 orientations, box, complement"
        self._hasher = Fingerprinter(algorithm)
        self._radii = RADII[algorithm]

    def reference(self, pixels: Pixels) -> list[tuple[Region, Codes]]:
        return [(region, np.frombuffer(code, np.uint8)[None]) for region, code in self._hasher.fingerprint(pixels).rows]

    def finds(self, pixels: Pixels, reference: list[tuple[Region, Codes]]) -> bool:
        asked = self._hasher.fingerprint(pixels).queries()
        return bool(len(asked)) and any(
            code_distances(code, asked).min() <= self._radii[region] for region, code in reference
        )


class Peer:
    """A hash as its library computes it, compared as its users do."""

    def __init__(self, name: str, radius: int, compute: Callable[[Pixels], Codes | None]) -> None:
        self.name = f"{name} <= {radius}"
        self._radius, self._compute = radius, compute

    def reference(self, pixels: Pixels) -> Codes | None:
        return self._compute(pixels)

    def finds(self, pixels: Pixels, reference: Codes | None) -> bool:
        asked = self._compute(pixels)
        if asked is None or reference is None:
            return False
        return int(np.bitwise_count(asked ^ reference).sum()) <= self._radius


def pdqhash_code(pixels: Pixels) -> Codes | None:
    import pdqhash

    vector, quality = pdqhash.compute(np.ascontiguousarray(pixels))
    return np.packbits(np.asarray(vector, np.uint8)) if quality >= 50 else None


def imagehash_code(kind: str) -> Callable[[Pixels], Codes]:
    import imagehash
    from PIL import Image

    function = getattr(imagehash, kind)
    return lambda pixels: np.packbits(function(Image.fromarray(pixels)).hash)


def on_white(rgba: NDArray[np.uint8]) -> Pixels:
    values = rgba.astype(np.float32)
    alpha = values[..., 3:] / 255
    white = np.rint(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return cv2.resize(white, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def recall(drawings: NDArray[np.uint8], works: int, seed: int) -> None:
    """Print the table of recall by attack and method."""
    chosen = np.random.default_rng(seed).choice(len(drawings), works, replace=False)
    methods: list[Any] = [
        Ours(SYM256),
        Ours(PDQ256),
        Peer("pdqhash", 31, pdqhash_code),
        Peer("imagehash.phash", 4, imagehash_code("phash")),
        Peer("imagehash.phash", 10, imagehash_code("phash")),
        Peer("imagehash.dhash", 1, imagehash_code("dhash")),
    ]
    found = {method.name: dict.fromkeys(ATTACKS, 0) for method in methods}
    for row in chosen:
        picture = on_white(drawings[row])
        references = [method.reference(picture) for method in methods]
        for number, (name, attack) in enumerate(ATTACKS.items()):
            attacked = np.ascontiguousarray(attack(picture, np.random.default_rng([seed, int(row), number])))
            for method, reference in zip(methods, references, strict=True):
                found[method.name][name] += method.finds(attacked, reference)
    print(f"{works} drawings, seed {seed}")
    for number, method in enumerate(methods):
        print(f"  ({number}) {method.name}")
    print(f"{'attack':18}" + "".join(f"{f'({number})':>8}" for number in range(len(methods))))
    for name in ATTACKS:
        print(f"{name:18}" + "".join(f"{found[method.name][name] / works:8.3f}" for method in methods))
    for label, group in (("mean of plain", PLAIN), ("mean of all 45", ATTACKS)):
        means = [np.mean([found[method.name][name] / works for name in group]) for method in methods]
        print(f"{label:18}" + "".join(f"{mean:8.3f}" for mean in means))


def false_positives(drawings: NDArray[np.uint8], works: int, seed: int, manifest: Path) -> None:
    """Print how often different works are within the radii: all regions, orientations and complements.

    Pairs of one creator are variants of one drawing as often as not (skin tones, clock faces), and pairs of one concept
    look alike by intention; what is left are pairs that nobody would call alike.
    """
    entries = read_entries(manifest)
    chosen = np.random.default_rng(seed + 1).choice(len(drawings), works, replace=False)
    creators = np.array([entries[int(row)].rights.creator for row in chosen])
    concepts = np.array([entries[int(row)].id.partition(":")[2] for row in chosen])
    for algorithm, wide_radii in {**RADII, **EXCHANGED}.items():
        narrow_radii = NARROW.get(algorithm, EXACT)
        hasher = Fingerprinter(algorithm)
        prints = [hasher.fingerprint(on_white(drawings[row])) for row in chosen]
        rows = [(number, region, code) for number, one in enumerate(prints) for region, code in one.rows]
        owner = np.array([number for number, _, _ in rows])
        codes = np.frombuffer(b"".join(code for *_, code in rows), np.uint8).reshape(-1, HASH_BYTES[algorithm])
        regions = np.array([region for _, region, _ in rows])
        counts: dict[str, NDArray[np.int64]] = {}
        for number, one in enumerate(prints):
            asked = one.queries()
            if not len(asked):
                continue
            distances = code_distances(codes, asked).min(axis=0)
            theirs = creators != creators[number]
            groups = {
                "same creator": ~theirs & (np.arange(works) != number),
                "same concept, other creator": theirs & (concepts == concepts[number]),
                "other concept, other creator": theirs & (concepts != concepts[number]),
            }
            for narrow, radii in enumerate((wide_radii, narrow_radii)):
                limits = np.vectorize(lambda region, radii=radii: radii[Region(region)])(regions)
                near = np.zeros(works, np.bool_)
                near[owner[distances <= limits]] = True
                for group, members in groups.items():
                    seen = counts.setdefault(group, np.zeros(3, np.int64))
                    seen[narrow] += np.sum(near & members)
                    seen[2] += 0 if narrow else np.sum(members)
        print(f"{algorithm}: ordered pairs of different drawings within {_radii(wide_radii)}")
        for group, (wide, narrow, pairs) in counts.items():
            bound = f"< {3 / pairs:.1e}" if wide == 0 else f"{wide / pairs:.1e}"
            print(f"  {group:30}{wide:7,} of {pairs:11,} ({bound}); within {_radii(narrow_radii)}: {narrow:,}")


def _radii(radii: dict[Region, int]) -> str:
    return f"{radii[Region.FULL]}/{radii[Region.BOX]}"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures")
    parser.add_argument("--works", type=int, default=150)
    parser.add_argument("--pairs", type=int, default=1500, help="drawings for the false-positive rate")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--manifest", type=Path, help="the pictures' entry table, for the false-positive rate")
    options = parser.parse_args()
    drawings = np.load(options.pictures, mmap_mode="r")
    recall(drawings, options.works, options.seed)
    if options.manifest is not None:
        false_positives(drawings, options.pairs, options.seed, options.manifest)


if __name__ == "__main__":
    main()
