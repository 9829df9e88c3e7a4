"""How well faces of enrolled persons are found and others are not, on a folder with one folder a person.

::

    python benchmarks/faces.py FOLDER

Every pair of pictures with one face each is compared; then the first picture of each person is enrolled and the others
are looked up, at full size and with faces scaled to 60 and to 30 pixels. Last, what CLIP's whole-picture vectors alone
would say: the nearest other picture, and the nearest of the persons' names (the folders', in words).
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from guardrails.domain.calibration import clopper_pearson_upper
from guardrails.encoders import load_encoder, text_side
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.screens.faces import MARGIN, THRESHOLD, Face, FaceFinder
from guardrails.screens.gallery import Matcher, Person
from guardrails.screens.views import letterbox

HEIGHTS = (0, 60, 30)
GALLERY = 10_000


def scaled(pixels: Pixels, face: Face, height: int) -> Pixels:
    """The picture in the size at which its face is `height` pixels tall; as it is when 0."""
    if not height:
        return pixels
    scale = height / (face.box.bottom - face.box.top)
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def person(name: str, *vectors: np.ndarray) -> Person:
    """An enrolled person with nothing but a name."""
    return Person(id=name, faces=np.stack(vectors), born="", legal_basis="", note="", keep_until="", enrolled_on="",
                  sources=())  # fmt: skip


def outcome(finder: FaceFinder, matcher: Matcher, pixels: Pixels, name: str) -> str:
    """ "right", "wrong", "abstained" (no face, or nobody clearly) for one picture of one person."""
    faces = finder.find(pixels)
    match = matcher.nearest(faces[0].vector) if faces else None
    if match is None or match.distance >= THRESHOLD or match.margin < MARGIN:
        return "abstained"
    return "right" if match.person == name else "wrong"


def by_clip(shown: Sequence[tuple[str, Pixels, Face]]) -> tuple[int, int]:
    """Pictures whose nearest other picture, and whose nearest name, is that of the same person."""
    encoder = load_encoder("offline-clip")
    text = text_side(encoder)
    assert text is not None, "the offline encoder has a text side"
    vectors = np.concatenate([encoder.embed([letterbox(pixels)]) for _, pixels, _ in shown])
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    likeness = centred @ centred.T
    np.fill_diagonal(likeness, -np.inf)
    owners = [name for name, _, _ in shown]
    names = sorted(set(owners))
    words = text.embed([f"a photo of {name.replace('_', ' ')}" for name in names])
    nearest = [owners[row] for row in likeness.argmax(axis=1)]
    named = [names[column] for column in (centred @ words.T).argmax(axis=1)]
    return sum(map(str.__eq__, nearest, owners)), sum(map(str.__eq__, named, owners))


def main(folder: Path) -> None:
    """Print the tables."""
    finder, shown = FaceFinder(), []
    for path in sorted(folder.glob("*/*")):
        pixels = decode(path.read_bytes()).pixels
        faces = finder.find(pixels)
        if len(faces) == 1:
            shown.append((path.parent.name, pixels, faces[0]))
    apart: dict[bool, list[float]] = {True: [], False: []}
    for (name, _, one), (other, _, two) in itertools.combinations(shown, 2):
        apart[name == other].append(float(np.linalg.norm(one.vector - two.vector)))
    same, different = apart[True], apart[False]
    false = sum(distance < THRESHOLD for distance in different)
    print(f"{len(shown)} pictures with one face, of {len({name for name, _, _ in shown})} persons")
    print(f"same person: {sum(d < THRESHOLD for d in same)} of {len(same)} below {THRESHOLD}, largest {max(same):.3f}")
    print(f"others: {false} of {len(different)} below (at most {clopper_pearson_upper(false, len(different)):.2%} with "
          f"95 % confidence), smallest {min(different):.3f}")  # fmt: skip
    first = {name: (pixels, face) for name, pixels, face in reversed(shown)}
    matcher = Matcher([person(name, face.vector) for name, (_, face) in first.items()])
    for height in HEIGHTS:
        found = [
            outcome(finder, matcher, scaled(pixels, face, height), name)
            for name, pixels, face in shown
            if first[name][1] is not face
        ]
        counts = ", ".join(f"{found.count(word)} {word}" for word in ("right", "wrong", "abstained"))
        print(f"faces {f'{height} pixels tall' if height else 'in full size'}: {counts} of {len(found)}")
    pictures, words = by_clip(shown)
    print(f"CLIP alone: nearest other picture of the same person {pictures}, nearest name {words} of {len(shown)}")
    random = np.random.default_rng(1)
    many = Matcher([person(str(n), random.normal(size=128).astype(np.float32)) for n in range(GALLERY)])
    spent = []
    for _ in range(10):
        start = time.process_time()
        many.nearest(shown[0][2].vector)
        spent.append(time.process_time() - start)
    print(f"a gallery of {GALLERY} persons: {min(spent) * 1e3:.1f} ms a face")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
