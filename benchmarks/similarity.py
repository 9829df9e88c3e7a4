"""What the similarity search finds and whom it accuses wrongly: the rates that `guardrails.similarity.radii` states.

::

    python benchmarks/similarity.py PICTURES.npy INDEX_FOLDER

Reproductions are simulated (moved, scaled, recoloured background, softened, bent, noisy): they stand in for the
output of an imprecise decoder and are no diffusion outputs. A wrong accusation is measured by asking with every
n-th drawing while the index lacks all works of its creator: then every confirmed match is wrong.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.pocket.scenes import COLOURS, canonical
from guardrails.similarity.description import describe
from guardrails.similarity.entries import EntryTable, read_entries
from guardrails.similarity.index import Arrays, HashIndex, open_index
from guardrails.similarity.radii import CANDIDATE_RADIUS
from guardrails.similarity.search import SimilarityIndex
from guardrails.similarity.verification import PictureSource

Attack = Callable[[NDArray[np.uint8], np.random.Generator], Pixels]
SIDE = 256
WORKS, WORKS_COMPARED = 150, 50
STRIDE, STRIDE_COMPARED = 3, 15


def place(rgba: NDArray[np.uint8], rng: np.random.Generator, low: float, coloured: bool) -> Pixels:
    """The drawing at a random size and place on white or on a plain colour."""
    names = [name for name in COLOURS if name != "white"]
    background = np.array(COLOURS[str(rng.choice(names))] if coloured else (255, 255, 255), np.float32)
    side = round(SIDE * rng.uniform(low, 0.95))
    left, top = rng.integers(0, SIDE - side, 2)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    layer = cv2.resize(np.dstack([rgba[..., :3] * alpha, alpha]), (side, side), interpolation=cv2.INTER_AREA)
    canvas = np.full((SIDE, SIDE, 3), background, np.float32)
    window = canvas[top : top + side, left : left + side]
    window[:] = window * (1 - layer[..., 3:]) + layer[..., :3]
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def decode_badly(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Bend by about `strength` pixels, blur by as much, tint, add noise, and pass through JPEG."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    bend = [cv2.resize(rng.normal(0, strength, (5, 5)).astype(np.float32), (SIDE, SIDE)) for _ in range(2)]
    bent = cv2.remap(pixels, columns + bend[0], rows + bend[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(bent, (0, 0), strength)
    tinted = soft * rng.uniform(1 - 0.05 * strength, 1 + 0.05 * strength, 3) + rng.uniform(-7, 7, 3) * strength
    noisy = np.clip(tinted + rng.normal(0, 3 * strength, tinted.shape), 0, 255).astype(np.uint8)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR))


ATTACKS: dict[str, Attack] = {
    "as it is": lambda rgba, rng: canonical(rgba),
    "blur 2": lambda rgba, rng: np.asarray(cv2.GaussianBlur(canonical(rgba), (0, 0), 2), np.uint8),
    "decoded badly 1": lambda rgba, rng: decode_badly(canonical(rgba), rng, 1),
    "placed": lambda rgba, rng: place(rgba, rng, 0.5, coloured=False),
    "placed, mirrored": lambda rgba, rng: np.ascontiguousarray(place(rgba, rng, 0.5, coloured=False)[:, ::-1]),
    "placed, decoded badly 1": lambda rgba, rng: decode_badly(place(rgba, rng, 0.5, coloured=False), rng, 1),
    "placed, decoded badly 2": lambda rgba, rng: decode_badly(place(rgba, rng, 0.5, coloured=False), rng, 2),
    "on colour": lambda rgba, rng: place(rgba, rng, 0.65, coloured=True),
    "on colour, decoded badly 1": lambda rgba, rng: decode_badly(place(rgba, rng, 0.65, coloured=True), rng, 1),
}


class Shelf:
    """Reference pictures from the array that the index was built from."""

    def __init__(self, drawings: NDArray[np.uint8], entries: EntryTable) -> None:
        self._drawings = drawings
        self._rows = {entry.id: row for row, entry in enumerate(entries.entries)}

    def picture(self, entry_id: str) -> Pixels | None:
        return canonical(self._drawings[self._rows[entry_id]])


def reproductions(search: SimilarityIndex, entries: EntryTable, drawings: NDArray[np.uint8], works: int) -> None:
    """Print recall by attack, and how often works of other creators are confirmed beside the right one."""
    chosen = np.random.default_rng(2026).choice(len(entries), works, replace=False)
    print(f"{'attack':28} confirmed  found  wrong creator  family  ms (median)")
    for number, (name, attack) in enumerate(ATTACKS.items()):
        counts: Counter[str] = Counter()
        times = []
        for row in chosen:
            pixels = attack(drawings[row], np.random.default_rng([int(row), number]))
            started = time.process_time()
            matches = search.find(pixels).matches
            times.append(time.process_time() - started)
            wanted = entries[int(row)]
            counts["found"] += any(match.entry == wanted.id for match in matches)
            confirmed = [match for match in matches if match.state.confirms]
            counts["confirmed"] += any(match.entry == wanted.id for match in confirmed)
            counts["wrong"] += any(match.rights.creator != wanted.rights.creator for match in confirmed)
            counts["family"] += any(
                match.rights.creator == wanted.rights.creator and match.entry != wanted.id for match in confirmed
            )
        print(
            f"{name:28} {counts['confirmed'] / works:9.3f}  {counts['found'] / works:.3f}  {counts['wrong']:13d}"
            f"  {counts['family']:6d}  {np.median(times) * 1e3:.0f}"
        )


def without_creator(index: HashIndex, entries: EntryTable, creator: str) -> HashIndex:
    """The index without the rows of one creator."""
    kept = np.array([entries[int(number)].rights.creator != creator for number in index.arrays.entry])
    columns = {
        field.name: getattr(index.arrays, field.name)
        if field.name == "colours"
        else getattr(index.arrays, field.name)[kept]
        for field in fields(Arrays)
    }
    return HashIndex(
        arrays=Arrays(**columns), digest="", entries=index.entries, entries_identity=index.entries_identity
    )


def accusations(
    index: HashIndex, entries: EntryTable, drawings: NDArray[np.uint8], stride: int, pictures: PictureSource | None
) -> None:
    """Print how many drawings of an unknown creator are confirmed as somebody else's, and which pairs these are."""
    searches = {
        creator: SimilarityIndex(without_creator(index, entries, creator), entries, pictures)
        for creator in {entry.rights.creator for entry in entries.entries}
    }
    rows = range(0, len(entries), stride)
    queries: Counter[str] = Counter()
    pairs = []
    same_concept = 0
    concepts = Counter((concept(entry.id), entry.rights.creator) for entry in entries.entries)
    by_concept = Counter(concept(entry.id) for entry in entries.entries)
    for row in rows:
        asked = entries[row]
        same_concept += by_concept[concept(asked.id)] - concepts[concept(asked.id), asked.rights.creator]
        confirmed = [
            match.entry
            for match in searches[asked.rights.creator].find(canonical(drawings[row])).matches
            if match.state.confirms
        ]
        pairs += [(asked.id, entry) for entry in confirmed]
        queries["same concept"] += any(concept(entry) == concept(asked.id) for entry in confirmed)
        queries["other concept"] += any(concept(entry) != concept(asked.id) for entry in confirmed)
        queries["any"] += bool(confirmed)
    of_same = sum(concept(one) == concept(other) for one, other in pairs)
    print(
        f"drawings {len(rows)}: wrongly confirmed {dict(queries)}, "
        f"upper 95 % bound {upper(queries['any'], len(rows)):.2%}"
    )
    print(f"same-concept pairs {same_concept}: {of_same}, upper bound {upper(of_same, same_concept):.2e}")
    others = (
        len(rows) * len(entries)
        - same_concept
        - sum(
            count * sum(entries[row].rights.creator == creator for row in rows)
            for creator, count in Counter(entry.rights.creator for entry in entries.entries).items()
        )
    )
    print(
        f"other-concept pairs {others}: {len(pairs) - of_same}, upper bound {upper(len(pairs) - of_same, others):.2e}"
    )
    print(pairs)


def families(search: SimilarityIndex, entries: EntryTable, drawings: NDArray[np.uint8], stride: int) -> None:
    """Print how often a drawing confirms other works, too, when its own is in the index."""
    counts: Counter[str] = Counter()
    examples: Counter[str] = Counter()
    rows = range(0, len(entries), stride)
    for row in rows:
        asked = entries[row]
        result = search.find(canonical(drawings[row]))
        counts["unhashable"] += result.unhashable
        confirmed = [match for match in result.matches if match.state.confirms]
        counts["itself"] += any(match.entry == asked.id for match in confirmed)
        counts["other creator"] += any(match.rights.creator != asked.rights.creator for match in confirmed)
        family = [m for m in confirmed if m.entry != asked.id and m.rights.creator == asked.rights.creator]
        counts["family"] += bool(family)
        counts["family pairs"] += len(family)
        counts["candidates"] += len(result.matches)
        if len(family) >= 5:
            examples[asked.id.partition(":")[2].split("-")[-1]] += 1
    print(f"drawings {len(rows)}: {dict(counts)}; large families: {examples.most_common(12)}")


def candidates(index: HashIndex, entries: EntryTable, drawings: NDArray[np.uint8], stride: int) -> None:
    """Print how often two drawings of different creators and concepts are within the candidate radius, any view."""
    rows = range(0, len(entries), stride)
    creators = np.array([entry.rights.creator for entry in entries.entries])
    concepts = np.array([concept(entry.id) for entry in entries.entries])
    pairs = near = 0
    for row in rows:
        strangers = (creators != creators[row]) & (concepts != concepts[row])
        found = {
            int(index.arrays.entry[hit.row])
            for kind, view in describe(canonical(drawings[row])).views.items()
            for hit in index.search(view.pdq.codes, CANDIDATE_RADIUS, kind)
        }
        near += int(strangers[sorted(found)].sum())
        pairs += int(strangers.sum())
    print(
        f"within {CANDIDATE_RADIUS}: {near} of {pairs} pairs ({near / pairs:.1e}), upper bound {upper(near, pairs):.1e}"
    )


def concept(entry: str) -> str:
    return entry.partition(":")[2]


def upper(hits: int, n: int) -> float:
    """One-sided 95 % upper bound of a rate, Clopper-Pearson."""
    from scipy.stats import beta

    return 1.0 if hits >= n else float(beta.ppf(0.95, hits + 1, n - hits))


def main(pictures: Path, folder: Path) -> None:
    """Print all tables."""
    drawings = np.load(pictures, mmap_mode="r")
    entries = read_entries(folder.parent / "manifest.csv")
    index = open_index(folder)
    shelf = Shelf(drawings, entries)
    print("hashes alone")
    reproductions(SimilarityIndex(index, entries), entries, drawings, WORKS)
    families(SimilarityIndex(index, entries), entries, drawings, STRIDE)
    accusations(index, entries, drawings, STRIDE, None)
    candidates(index, entries, drawings, STRIDE)
    print("with the reference pictures")
    reproductions(SimilarityIndex(index, entries, shelf), entries, drawings, WORKS_COMPARED)
    accusations(index, entries, drawings, STRIDE_COMPARED, shelf)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
