"""One CLIP pass over a picture, and every concept of every pack scored on it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from guardrails.domain.canonical import Json
from guardrails.domain.findings import Component
from guardrails.encoders import ImageEncoder, load_encoder, text_side
from guardrails.errors import ModelUnavailable, ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.resources import datasets_path
from guardrails.screens.concepts import (
    VECTOR_KINDS,
    ConceptPack,
    concepts_of,
    expired_concepts,
    foreign_concepts,
    make_heads,
    shipped_pack,
)
from guardrails.screens.heads import HeadSet, Vectors
from guardrails.screens.protocol import Reading
from guardrails.screens.references import Calibrated, Place, References, read_references
from guardrails.screens.views import View, views

NAME = "clip-concepts"
REFERENCES = ("screens", "references.npz")
SMALLEST_SIDE = 128
# Below this score nothing is worth an explanation: one safe picture in ten gets there.
EXPLAINED = 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """What one pass of the encoder saw in one picture.

    Attributes:
        vectors: one a view, shape (views, dim); the first is the whole picture.
        raw: of every concept in every view, shape (views, concepts).
        calibrated: the heads that gave them; those in use may be others by now.
    """

    views: Sequence[View]
    vectors: Vectors
    raw: Vectors
    place: Place
    calibrated: Calibrated


@dataclass(slots=True, kw_only=True, eq=False)
class _Sight:
    """One picture under the encoder: whoever comes second waits for whoever came first."""

    digest: bytes
    seen: tuple[list[View], Vectors] | None = None
    looking: threading.Lock = field(default_factory=threading.Lock)


class ClipConcepts:
    """A `Screen` with one score a concept: one minus its conformal p-value among safe pictures; see `references`.

    Args:
        packs: the shipped one by default. Concepts of other kinds than vectors are left to other screens.
        encoder: the offline tower by default, loaded at the first picture.
        references: safe pictures to calibrate on; the shipped ones by default.

    Raises:
        PolicyError: two concepts are called the same.
        ModelUnavailable: the file of safe pictures cannot be read.
    """

    def __init__(
        self,
        *,
        packs: Sequence[ConceptPack] | None = None,
        encoder: ImageEncoder | None = None,
        references: Path | None = None,
    ) -> None:
        self._encoder = encoder
        self._references_file = references or datasets_path(*REFERENCES)
        self._references_digest = _digest_of(self._references_file)
        self._references: References | None = None
        self._packs = (shipped_pack(),) if packs is None else tuple(packs)
        concepts_of(self._packs, *VECTOR_KINDS)
        self._calibrated: Calibrated | None = None
        # By concept that this encoder cannot look for, why.
        self._foreign: Mapping[str, str] = {}
        self._last = _Sight(digest=b"")
        self._remembering = threading.Lock()
        self._changing, self._loading = threading.Lock(), threading.Lock()

    @property
    def component(self) -> Component:
        """Named by its packs; the digest covers them and the safe pictures."""
        digest = hashlib.sha256("".join((self._references_digest, *(pack.digest for pack in self._packs))).encode())
        version = ", ".join(f"{pack.id}/{pack.version}" for pack in self._packs)
        return Component(name=NAME, version=version, digest=digest.hexdigest())

    def use(self, packs: Sequence[ConceptPack]) -> None:
        """Look for other concepts from the next picture on; nothing is trained, and pictures under way are not
        disturbed.

        Raises:
            PolicyError: two concepts are called the same; the old packs stay in use.
            ScreenUnavailable: a pack does not fit the encoder; likewise.
        """
        concepts_of(packs, *VECTOR_KINDS)
        with self._changing:
            # Made before anything changes.
            calibrated, foreign = self._calibrate(packs)
            self._packs, self._calibrated, self._foreign = tuple(packs), calibrated, foreign

    def look(self, pixels: Pixels) -> Pass:
        """One pass over one picture."""
        calibrated = self.calibrated()
        shown, vectors = self.seen(pixels)
        return Pass(
            views=shown,
            vectors=vectors,
            raw=calibrated.heads.raw(vectors, self.encoder().id),
            place=calibrated.place(vectors),
            calibrated=calibrated,
        )

    def seen(self, pixels: Pixels) -> tuple[list[View], Vectors]:
        """The views of one picture and their vectors, shape (views, dim). Those of the last picture are remembered,
        because another screen asks for them too, perhaps at the same time (see `prior`)."""
        # By content: a caller may write the next picture into the same array.
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        with self._remembering:
            if self._last.digest != digest:
                self._last = _Sight(digest=digest)
            sight = self._last
        with sight.looking:
            if sight.seen is None:
                shown = views(pixels)
                sight.seen = shown, self.encoder().embed([view.pixels for view in shown])
            return sight.seen

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture; see `Screen.score`."""
        silent = expired_concepts(self._packs, *VECTOR_KINDS)
        concepts = [concept.id for pack in self._packs for concept in pack.of_kind(*VECTOR_KINDS)]
        side = min(pixels.shape[:2])
        if side < SMALLEST_SIDE:
            reason = f"the picture is {side} pixels narrow; concepts are calibrated from {SMALLEST_SIDE} on"
            return Reading(scores={}, abstained=dict.fromkeys(concepts, reason))
        seen = self.look(pixels)
        silent |= self._foreign
        if not seen.place.domain:
            reason = "the picture is unlike all pictures that the concepts are calibrated on"
            return Reading(scores={}, abstained=dict.fromkeys(concepts, reason))
        return self.read(seen, silent)

    def read(self, seen: Pass, silent: Mapping[str, str]) -> Reading:
        """The scores of one pass, without the concepts that stay `silent` for a reason."""
        calibrated = seen.calibrated
        scores = calibrated.scores(seen.raw, seen.place.domain)
        found = {
            concept: float(score)
            for concept, score in zip(calibrated.heads.concepts, scores, strict=True)
            if concept not in silent
        }
        evidence = {
            concept: self._explain(concept, score, seen) for concept, score in found.items() if score >= EXPLAINED
        }
        ceiling = calibrated.ceiling(seen.place.domain)
        return Reading(scores=found, evidence=evidence, abstained=silent, ceilings=dict.fromkeys(found, ceiling))

    def _explain(self, concept: str, score: float, seen: Pass) -> dict[str, Json]:
        calibrated = seen.calibrated
        heads = calibrated.heads
        column = heads.concepts.index(concept)
        worst = int(np.argmax(seen.raw[:, column]))
        return {
            "raw": round(float(seen.raw[worst, column]), 4),
            "domain": seen.place.domain,
            "calibrated_on": seen.place.n,
            "views": len(seen.views),
            "rate_of_all_views": round(min(1.0, len(seen.views) * (1 - score)), 4),
            "box": seen.views[worst].box.to_json(),
            "nearest": [[label, cosine] for label, cosine in heads.nearest(concept, seen.vectors[worst])],
            "nearest_safe": [
                [label, cosine] for label, cosine in calibrated.nearest(seen.place.domain, seen.vectors[worst])
            ],
        }

    def encoder(self) -> ImageEncoder:
        """The encoder, loaded at the first call, also when several screens call at the same time."""
        with self._loading:
            if self._encoder is None:
                self._encoder = load_encoder("offline-clip")
            return self._encoder

    def references(self) -> References:
        """The safe pictures, read at the first call.

        Raises:
            ScreenUnavailable: another encoder made their vectors.
        """
        if self._references is None:
            self._references = read_references(self._references_file)
        if self._references.encoder != self.encoder().id:
            raise ScreenUnavailable(
                f"the safe pictures in {self._references_file} were embedded by {self._references.encoder}, "
                f"not by {self.encoder().id}",
                hint="run `guardrails screens calibrate` with this encoder",
            )
        return self._references

    def heads(self) -> HeadSet:
        """The heads in use."""
        return self.calibrated().heads

    def calibrated(self) -> Calibrated:
        """The heads in use with what safe pictures score under them; made at the first call."""
        calibrated = self._calibrated
        if calibrated is not None:
            return calibrated
        with self._changing:
            if self._calibrated is None:
                self._calibrated, self._foreign = self._calibrate(self._packs)
            return self._calibrated

    def _calibrate(self, packs: Sequence[ConceptPack]) -> tuple[Calibrated, dict[str, str]]:
        """The heads of the packs, and the concepts whose weights are another encoder's, with the reason."""
        encoder, references = self.encoder(), self.references()
        foreign = foreign_concepts(packs, encoder.id)
        packs = [replace(pack, concepts=tuple(one for one in pack.concepts if one.id not in foreign)) for pack in packs]
        text = text_side(encoder) if any(pack.of_kind("text") for pack in packs) else None
        heads = [head for pack in packs for head in make_heads(pack, encoder.id, encoder.dim, text)]
        if not heads:
            why = next(iter(foreign.values()), f"the kinds are {', '.join(sorted(VECTOR_KINDS))}")
            raise ScreenUnavailable("no concept of the packs is looked for in vectors of this encoder", hint=why)
        return Calibrated(HeadSet(heads, centre=references.centre), references), foreign


def _digest_of(references: Path) -> str:
    try:
        return hashlib.sha256(references.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelUnavailable(
            f"the safe pictures in {references} cannot be read: {error.strerror}",
            hint="run `guardrails screens calibrate` to make such a file",
        ) from error
