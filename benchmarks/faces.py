"""How well faces of enrolled persons are found and others are not, on a folder with one folder a person.

::

    python benchmarks/faces.py PERSONS [SAFE ...]

Every pair of pictures with one face each is compared, by the faces and by CLIP's prior. Then the first picture of each
person is enrolled under the name of its folder, and the others are looked at by the screen, at full size and with faces
scaled down to 14 pixels and turned, with the prior and without. The pictures in the folders SAFE show none of the
persons: what becomes of them is counted at full size and as thumbnails, and faces in them are compared in all sizes.
"""

from __future__ import annotations

import datetime
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from guardrails.cli.picture_files import pictures_of
from guardrails.domain.calibration import clopper_pearson_upper
from guardrails.encoders import text_side
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.screens.clip_concepts import ClipConcepts
from guardrails.screens.faces import EVERYBODY, THRESHOLD, Face, FaceFinder, Faces, decide
from guardrails.screens.gallery import Gallery, Matcher, Person
from guardrails.screens.prior import NAME, PICTURES, Prior, embed_names, embed_pictures
from guardrails.screens.protocol import Reading
from guardrails.screens.views import Box, cut, letterbox

HEIGHTS = (0, 60, 30, 20, 14)
THUMBNAIL = 64
RATES = (0.99, 0.95)
GALLERY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """One picture of one person."""

    name: str
    pixels: Pixels
    face: Face


def shrunk(pixels: Pixels, scale: float) -> Pixels:
    """The picture in another size."""
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def scaled(shown: Shown, height: int) -> Pixels:
    """The picture in the size at which its face is `height` pixels tall; as it is when 0."""
    return shrunk(shown.pixels, height / shown.face.height) if height else shown.pixels


def enrolled(name: str, face: np.ndarray, pixels: Pixels | None = None, clip: ClipConcepts | None = None) -> Person:
    """A person with one face, and with what the prior needs when the picture is given."""
    pictures = names = None
    if clip is not None and pixels is not None:
        text = text_side(clip.encoder())
        assert text is not None, "the offline encoder has a text side"
        pictures = embed_pictures(clip.encoder(), [letterbox(pixels)])
        names = embed_names(text, [name.replace("_", " ").title()])
    return Person(id=name, faces=face[np.newaxis], born="", legal_basis="", note="", keep_until="2999-01-01",
                  enrolled_on="", sources=(), pictures=pictures, names=names)  # fmt: skip


def outcome(reading: Reading, name: str = "") -> str:
    """What the screen said about a picture of one person, or of nobody."""
    seen = reading.evidence.get(EVERYBODY.id, {}).get("persons", [])
    if not isinstance(seen, list) or not seen:
        return "not known" if EVERYBODY.id in reading.abstained else "silent"
    return "found" if any(isinstance(one, dict) and one["person"] == name for one in seen) else "wrong"


def counts(outcomes: Iterable[str]) -> str:
    """All of them in words."""
    found = Counter(outcomes)
    return ", ".join(f"{found[word]} {word}" for word in ("found", "wrong", "not known", "silent"))


def bound(hits: int, n: int) -> str:
    """A count with its upper bound."""
    return f"{hits} of {n} (at most {clopper_pearson_upper(hits, n):.2%} with 95 % confidence)"


def compare_faces(shown: Sequence[Shown]) -> None:
    """Distances of all pairs."""
    apart: dict[bool, list[float]] = {True: [], False: []}
    for one, two in itertools.combinations(shown, 2):
        apart[one.name == two.name].append(float(np.linalg.norm(one.face.vector - two.face.vector)))
    same, different = apart[True], apart[False]
    print(f"same person: {sum(d < THRESHOLD for d in same)} of {len(same)} below {THRESHOLD}, largest {max(same):.3f}")
    print(f"others: {bound(sum(d < THRESHOLD for d in different), len(different))}, smallest {min(different):.3f}")


def compare_pictures(shown: Sequence[Shown], clip: ClipConcepts) -> None:
    """What the prior says of each picture when each other one alone is enrolled."""
    prior = Prior(clip)
    # Numbered: the same person is enrolled once a picture.
    people = [enrolled(f"{n}:{one.name}", one.face.vector, one.pixels, clip) for n, one in enumerate(shown)]
    scores: dict[tuple[str, bool], list[float]] = {
        (way, same): [] for way in (PICTURES, NAME) for same in (True, False)
    }
    for number, one in enumerate(shown):
        hint = prior.look(one.pixels, people, ())
        for person in people:
            index, _, name = person.id.partition(":")
            if int(index) != number:
                for way in (PICTURES, NAME):
                    scores[way, name == one.name].append(hint.persons[person.id][way])
    for (way, same), found in scores.items():
        reached = ", ".join(f"{sum(score >= rate for score in found)} at {rate}" for rate in RATES)
        print(f"prior {way}, {'same person' if same else 'others'}: {reached}, of {len(found)}")


def look_up(shown: Sequence[Shown], screens: dict[str, Faces]) -> None:
    """The other pictures of the enrolled, in all sizes, and turned so that the detector finds no face."""
    first = {one.name: one for one in reversed(shown)}
    others = [one for one in shown if first[one.name] is not one]
    for height in HEIGHTS:
        for word, screen in screens.items():
            said = counts(outcome(screen.score(scaled(one, height)), one.name) for one in others)
            print(f"faces {f'{height} pixels tall' if height else 'in full size'}, {word}: {said}")
    for word, screen in screens.items():
        turned = (np.ascontiguousarray(np.rot90(one.pixels)) for one in others)
        said = counts(outcome(screen.score(pixels), one.name) for one, pixels in zip(others, turned, strict=True))
        print(f"faces turned by 90 degrees, {word}: {said}")


def look_at_safe(folder: Path, screens: dict[str, Faces], side: int) -> None:
    """Pictures of nobody who is enrolled, at full size or `side` pixels narrow."""
    said: dict[str, list[str]] = {word: [] for word in screens}
    for path in pictures_of([folder]):
        pixels = decode(path.read_bytes()).pixels
        if side:
            pixels = shrunk(pixels, side / min(pixels.shape[:2]))
        for word, screen in screens.items():
            said[word].append(outcome(screen.score(pixels)))
    size = f"{side} pixels narrow" if side else "in full size"
    for word, outcomes in said.items():
        print(f"{folder} {size}, {word}: {counts(outcomes)}")
    without, with_it = said.values()
    changed = sum(
        before != "not known" and after == "not known" for before, after in zip(without, with_it, strict=True)
    )
    print(f"{folder} {size}: not known because of the prior {bound(changed, len(without))}")


def look_at_strangers(folders: Sequence[Path], finder: FaceFinder, matcher: Matcher) -> None:
    """Faces in pictures of nobody who is enrolled, cut out with what surrounds them, small, by a closer look."""
    strangers = []
    for path in pictures_of(folders):
        pixels = decode(path.read_bytes()).pixels
        for face in finder.find(pixels):
            tall = face.height
            around = Box(left=max(0, face.box.left - tall), top=max(0, face.box.top - tall),
                         right=face.box.right + tall, bottom=face.box.bottom + tall)  # fmt: skip
            strangers.append((cut(pixels, around), tall))
    for height in filter(None, HEIGHTS):
        sized = (shrunk(pixels, height / tall) for pixels, tall in strangers)
        false = sum(bool(decide(finder.find(pixels, closer=True), matcher, ()).seen) for pixels in sized)
        print(f"faces of strangers {height} pixels tall, by a closer look taken for somebody enrolled: "
              f"{bound(false, len(strangers))}")  # fmt: skip


def time_matching(face: np.ndarray) -> None:
    """The cost of a large gallery."""
    random = np.random.default_rng(1)
    many = Matcher([enrolled(str(n), random.normal(size=128).astype(np.float32)) for n in range(GALLERY)])
    spent = []
    for _ in range(10):
        start = time.process_time()
        many.nearest(face)
        spent.append(time.process_time() - start)
    print(f"a gallery of {GALLERY} persons: {min(spent) * 1e3:.1f} ms a face")


def main(persons: Path, safe: Sequence[Path]) -> None:
    """Print the tables."""
    finder, clip, shown = FaceFinder(), ClipConcepts(), []
    for path in sorted(persons.glob("*/*")):
        pixels = decode(path.read_bytes()).pixels
        faces = finder.find(pixels)
        if len(faces) == 1:
            shown.append(Shown(name=path.parent.name, pixels=pixels, face=faces[0]))
    print(f"{len(shown)} pictures with one face, of {len({one.name for one in shown})} persons")
    compare_faces(shown)
    compare_pictures(shown, clip)
    with tempfile.TemporaryDirectory() as home:
        gallery = Gallery(Path(home))
        for one in reversed(shown):
            gallery.add(enrolled(one.name, one.face.vector, one.pixels, clip))
        screens = {
            "faces alone": Faces(gallery, finder=finder),
            "with the prior": Faces(gallery, finder=finder, prior=Prior(clip)),
        }
        look_up(shown, screens)
        if safe:
            look_at_strangers(safe, finder, Matcher(gallery.persons(datetime.date.today())))
        for nobody in safe:
            for side in (0, THUMBNAIL):
                look_at_safe(nobody, screens, side)
    time_matching(shown[0].face.vector)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2:]])
