"""What CLIP's vectors of whole pictures say about enrolled persons: where to look closer, and never who is there.

Whole pictures separate persons only roughly: the official portraits of two politicians can reach a cosine of .83. So
the prior explains what a face decided, and asks for a closer look where no face could decide; see `faces`.

It sees in two ways. By pictures: how near the nearest reference picture of the enrolment is. By name: how much nearer
the person's public name is than phrases for persons in general, through the encoder's text side. Both are heads like
those of every concept, so their scores are rates of safe pictures too (see `references`). Beside one head a person
there is one for all persons of a concept together: its rate holds however many are enrolled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from guardrails.domain.canonical import Json
from guardrails.encoders import ImageEncoder, text_side
from guardrails.encoders.lit_text import LitText
from guardrails.encoders.protocol import TextEncoder
from guardrails.errors import ModelUnavailable, UnavailableError
from guardrails.imaging import Pixels
from guardrails.screens.clip_concepts import ClipConcepts
from guardrails.screens.concepts import Concept
from guardrails.screens.gallery import Embedded, Person
from guardrails.screens.heads import Contrast, Head, HeadSet, Vectors
from guardrails.screens.judge import too_low
from guardrails.screens.references import Calibrated

# At most one safe picture in a hundred is looked at again, in each of the two ways.
POINTS_AT = 0.99
PICTURES, NAME = "by_pictures", "by_name"
PHRASE = "a photo of {}"
ANYBODY = (
    "a photo of a person",
    "a photo of a man",
    "a photo of a woman",
    "a portrait of a stranger",
    "a photo of a politician giving a speech",
    "a photo of an actor at a film premiere",
    "a photo of a musician on a stage",
    "a photo of an athlete",
    "a photo of a crowd",
)
# What is written behind the offline text side, which takes most names for other names.
WEAK = "weak"


def embed_pictures(encoder: ImageEncoder, pictures: Sequence[Pixels]) -> Embedded:
    """What an enrolment keeps of its reference pictures, which are square or letterboxed."""
    return Embedded(encoder=encoder.id, vectors=encoder.embed(pictures))


def embed_names(text: TextEncoder, names: Sequence[str]) -> Embedded:
    """What an enrolment keeps of a person's public names."""
    return Embedded(encoder=text.id, vectors=text.embed([PHRASE.format(name) for name in names]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What the prior says about one picture.

    Attributes:
        unavailable: why it says nothing, or "".
        concepts: by concept, the higher score of the two ways over all of its persons.
        persons: by person, the score of each way.
        outside: the picture is unlike all safe pictures, so that no rate is promised for it.
        text_side: what read the names.
    """

    unavailable: str = ""
    concepts: dict[str, float] = field(default_factory=dict)
    persons: dict[str, dict[str, float]] = field(default_factory=dict)
    outside: bool = False
    text_side: str = ""

    def points(self, concept: str) -> bool:
        """Whether a picture is so much like those of a concept's persons that faces deserve a closer look."""
        return self.concepts.get(concept, 0.0) >= POINTS_AT

    def of(self, person: str) -> dict[str, Json]:
        """What is said about one person, as evidence."""
        if person not in self.persons:
            return {"not_available": self.unavailable or "enrolled without vectors for this encoder; enrol again"}
        said: dict[str, Json] = {way: round(score, 4) for way, score in self.persons[person].items()}
        if NAME in said:
            said["text_side"] = self.text_side
        return {**said, "outside": True} if self.outside else said

    def nearest(self, among: Iterable[str]) -> list[Json]:
        """The persons whose own score points, of `among` when ids are given."""
        chosen = set(among)
        return [
            {"person": person, **self.of(person)}
            for person, scores in self.persons.items()
            if max(scores.values()) >= POINTS_AT and (not chosen or person in chosen)
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Heads:
    """Attributes:
    calibrated: None when nobody has vectors that fit the encoder.
    meant: for each head its way, and the concept or the person that it stands for; one of the two is "".
    """

    calibrated: Calibrated | None
    meant: Sequence[tuple[str, str, str]]
    text_side: str


class Prior:
    """Compares whole pictures with enrolled persons.

    Args:
        clip: whose encoder, safe pictures and pass over each picture are shared.
    """

    def __init__(self, clip: ClipConcepts) -> None:
        self._clip = clip
        self._made: tuple[bytes, _Heads] | None = None

    def look(self, pixels: Pixels, persons: Sequence[Person], concepts: Sequence[Concept]) -> Hint:
        """Look at one picture.

        Args:
            persons: everybody who is enrolled.
            concepts: of kind face; see `Concept.persons`.
        """
        try:
            heads = self._heads(persons, concepts)
            if heads.calibrated is None:
                return Hint(unavailable="nobody is enrolled with vectors for this encoder")
            _, vectors = self._clip.seen(pixels)
        except UnavailableError as error:
            return Hint(unavailable=error.message)
        calibrated, place = heads.calibrated, heads.calibrated.place(vectors)
        # Portraits lie outside of the safe pictures more often than other pictures do, so unlike other concepts the
        # prior speaks there too: what follows is a closer look, and no finding of its own.
        domain = place.nearest
        if calibrated.ceiling(domain) < POINTS_AT:
            return Hint(unavailable=too_low(calibrated.ceiling(domain), POINTS_AT))
        scores = calibrated.scores(calibrated.heads.raw(vectors, self._clip.encoder().id), domain)
        hint = Hint(outside=not place.domain, text_side=heads.text_side)
        for (way, concept, person), score in zip(heads.meant, scores.tolist(), strict=True):
            if concept:
                hint.concepts[concept] = max(score, hint.concepts.get(concept, 0.0))
            else:
                hint.persons.setdefault(person, {})[way] = score
        return hint

    def _heads(self, persons: Sequence[Person], concepts: Sequence[Concept]) -> _Heads:
        """Made again when somebody was enrolled or forgotten."""
        key = _key(persons, concepts)
        made = self._made
        if made is None or made[0] != key:
            made = self._made = key, self._make(persons, concepts)
        return made[1]

    def _make(self, persons: Sequence[Person], concepts: Sequence[Concept]) -> _Heads:
        encoder, references = self._clip.encoder(), self._clip.references()
        text = _text_side(encoder) if any(person.names for person in persons) else None
        by_way = {
            PICTURES: _vectors([(one.id, one.pictures) for one in persons], encoder.id),
            NAME: _vectors([(one.id, one.names) for one in persons], "" if text is None else text.id),
        }
        heads: list[Head] = []
        meant: list[tuple[str, str, str]] = []
        for way, vectors in by_way.items():
            negatives = text.embed(ANYBODY) if way == NAME and text else np.empty((0, encoder.dim), np.float32)
            groups = [("", person, [person]) for person in vectors]
            groups += [(one.id, "", [id for id in vectors if not one.persons or id in one.persons]) for one in concepts]
            for concept, person, members in groups:
                if members:
                    rows = np.concatenate([vectors[member] for member in members])
                    meant.append((way, concept, person))
                    heads.append(
                        Contrast(
                            concept=str(len(heads)), encoder=encoder.id, positives=rows, negatives=negatives, labels=()
                        )
                    )
        calibrated = Calibrated(HeadSet(heads, centre=references.centre), references) if heads else None
        side = "" if text is None else f"{text.id}, {WEAK}" if isinstance(text, LitText) else text.id
        return _Heads(calibrated=calibrated, meant=meant, text_side=side)


def _text_side(encoder: ImageEncoder) -> TextEncoder | None:
    try:
        return text_side(encoder)
    except ModelUnavailable:
        # The pictures can still be compared.
        return None


def _vectors(embedded: Iterable[tuple[str, Embedded | None]], encoder: str) -> dict[str, Vectors]:
    """By person, where this encoder made them."""
    return {person: one.vectors for person, one in embedded if one is not None and one.encoder == encoder}


def _key(persons: Sequence[Person], concepts: Sequence[Concept]) -> bytes:
    digest = hashlib.sha256(repr([(concept.id, concept.persons) for concept in concepts]).encode())
    for person in persons:
        digest.update(person.id.encode())
        for one in (person.pictures, person.names):
            digest.update(b"" if one is None else one.encoder.encode() + one.vectors.tobytes())
    return digest.digest()
