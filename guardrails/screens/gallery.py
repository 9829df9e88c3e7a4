"""The persons that an operator has enrolled: numbers of their faces, why they may be kept, and until when.

No picture is stored, no name but the id of the registry entry, and nobody who is not enrolled is ever identified.
Beside the faces lie CLIP's vectors of the whole pictures and of the person's names, for the prior (see `prior`). Both
are kept and forgotten with the faces, because they are one file.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError, StorageError
from guardrails.files import write_atomically

DIMENSION = 128
ADULT_YEARS = 18
# 1 had faces alone, and no number of its own.
FORMAT = 2
LEGAL_BASES = ("consent", "contract", "legal-obligation", "public-interest", "legitimate-interest")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """Unit vectors with what made them.

    Attributes:
        encoder: id of the image encoder or of the text side; vectors of another one mean nothing beside these.
        vectors: float32 of shape (n, dim), kept as float16.
    """

    encoder: str
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Person:
    """One enrolled person.

    Attributes:
        id: as the registries of the policy know them, for example "enwiki:Jane_Doe", so that prompt and face can be
            joined.
        faces: float32 of shape (n, 128); one row a reference picture.
        born: ISO date; nobody below eighteen is enrolled.
        legal_basis: one of `LEGAL_BASES` (GDPR, articles 6 and 9 name them).
        note: where the consent or the assessment is filed.
        keep_until: ISO date of the last day; afterwards the person is not matched any more.
        sources: SHA-256 of the reference files.
        pictures: of the whole reference pictures, one row each; None when no encoder was there.
        names: of phrases with the public names; None when no registry has the id or there was no text side.
    """

    id: str
    faces: NDArray[np.float32]
    born: str
    legal_basis: str
    note: str
    keep_until: str
    enrolled_on: str
    sources: tuple[str, ...]
    pictures: Embedded | None = None
    names: Embedded | None = None


def check_enrolment(*, born: str, legal_basis: str, note: str, keep_until: str, today: datetime.date) -> None:
    """Refuse an enrolment that must not be.

    Raises:
        OptionError: a minor, no known legal basis, no note, or an end that is over.
    """
    birthday, end = _day(born, "born"), _day(keep_until, "keep until")
    # As numbers, because not every year has a 29 February; who was born on it comes of age on 1 March.
    if (today.year - ADULT_YEARS, today.month, today.day) < (birthday.year, birthday.month, birthday.day):
        raise OptionError("minors are not enrolled", hint="no option changes this")
    if legal_basis not in LEGAL_BASES:
        raise OptionError(f"{legal_basis!r} is no legal basis", hint=f"write one of: {', '.join(LEGAL_BASES)}")
    if not note.strip():
        raise OptionError("an enrolment needs a note", hint="name the file of the consent or of the assessment")
    if end <= today:
        raise OptionError(f"the retention ends on {keep_until}, which is over", hint="give a day in the future")


def _day(text: str, name: str) -> datetime.date:
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise OptionError(f"{name}: {text!r} is not a date", hint="write it as 2027-12-31") from error
    if day.isoformat() != text:
        # Days are kept and compared as text.
        raise OptionError(f"{name}: {text!r} is another way to write a date", hint=f"write it as {day}")
    return day


# Files are replaced whole, so another content is another inode.
_Stamp: TypeAlias = tuple[int, int, int]


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}", hint="look again") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


class Gallery:
    """A folder with one file a person, readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_before: dict[Path, tuple[_Stamp, Person]] = {}

    def add(self, person: Person) -> None:
        """Keep a person; an earlier entry of the same id is replaced."""
        document = {
            "format": FORMAT,
            "id": person.id,
            "faces": _packed(person.faces, "<f4"),
            "pictures": _packed_with_encoder(person.pictures),
            "names": _packed_with_encoder(person.names),
            "born": person.born,
            "legal_basis": person.legal_basis,
            "note": person.note,
            "keep_until": person.keep_until,
            "enrolled_on": person.enrolled_on,
            "sources": list(person.sources),
        }
        write_atomically(self._path(person.id), json.dumps(document, indent=1).encode(), mode=0o600)

    def remove(self, person_id: str) -> bool:
        """Forget a person; whether there was one."""
        path = self._path(person_id)
        there = path.is_file()
        path.unlink(missing_ok=True)
        return there

    def purge(self, today: datetime.date) -> list[str]:
        """Forget everybody whose retention is over; their ids."""
        over = self.over(today)
        for person_id in over:
            self.remove(person_id)
        return over

    def over(self, today: datetime.date) -> list[str]:
        """The ids of everybody whose retention is over, and who is kept and not matched until they are purged."""
        return [person.id for person in self._all() if person.keep_until < today.isoformat()]

    def persons(self, today: datetime.date) -> list[Person]:
        """Everybody whose retention is not over, by id."""
        return [person for person in self._all() if person.keep_until >= today.isoformat()]

    def _all(self) -> list[Person]:
        """Everybody; a file is read again only when it has changed. Who is forgotten leaves the memory too."""
        found = {}
        for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
            try:
                stamp = _stamp(path)
                known = self._read_before.get(path)
                found[path] = known if known is not None and known[0] == stamp else (stamp, _read(path))
            except StorageError:
                # Who was forgotten since the folder was listed is nobody's fault.
                if path.exists():
                    raise
        self._read_before = found
        return sorted((person for _, person in found.values()), key=lambda person: person.id)

    def _path(self, person_id: str) -> Path:
        # A hash, so that listing a folder names nobody and an id cannot leave the folder.
        return self._folder / f"{hashlib.sha256(person_id.encode()).hexdigest()[:32]}.json"


def _packed(rows: NDArray[np.float32], number: str) -> list[str]:
    return [base64.b64encode(row.astype(number).tobytes()).decode() for row in rows]


def _unpacked(rows: Sequence[str], number: str) -> NDArray[np.float32]:
    vectors = np.stack([np.frombuffer(base64.b64decode(row, validate=True), number) for row in rows])
    if not np.all(np.isfinite(vectors)):
        raise ValueError("a number is not finite")
    return vectors.astype(np.float32)


def _packed_with_encoder(embedded: Embedded | None) -> dict[str, Any] | None:
    if embedded is None:
        return None
    return {"encoder": embedded.encoder, "vectors": _packed(embedded.vectors, "<f2")}


def _unpacked_with_encoder(document: Mapping[str, Any] | None) -> Embedded | None:
    if document is None:
        return None
    rows = _unpacked(document["vectors"], "<f2")
    return Embedded(encoder=str(document["encoder"]), vectors=rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _read(path: Path) -> Person:
    try:
        document = json.loads(path.read_bytes())
        number = document.pop("format", 1)
        if number not in range(1, FORMAT + 1):
            raise StorageError(f"{path} has format {number}, which is newer than this version", hint="update")
        faces = _unpacked(document.pop("faces"), "<f4")
        if faces.shape[1] != DIMENSION:
            raise ValueError("the numbers are no faces")
        return Person(
            faces=faces,
            pictures=_unpacked_with_encoder(document.pop("pictures", None)),
            names=_unpacked_with_encoder(document.pop("names", None)),
            sources=tuple(str(source) for source in document.pop("sources")),
            **{key: str(value) for key, value in document.items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: {error}", hint="remove the file and enrol the person again") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceMatch:
    """The enrolled person who is nearest to one face.

    Attributes:
        distance: Euclidean; the same person below `faces.THRESHOLD`.
        margin: how much further away the second person is; infinite when there is none.
    """

    person: str
    distance: float
    margin: float


class Matcher:
    """All faces of a gallery as one matrix."""

    def __init__(self, persons: Sequence[Person]) -> None:
        self._ids = [person.id for person in persons]
        self._starts = np.cumsum([0, *[len(person.faces) for person in persons[:-1]]])
        self._faces = np.concatenate([person.faces for person in persons]) if persons else None

    def knows(self, among: Iterable[str] = ()) -> bool:
        """Whether anybody is enrolled, of `among` when ids are given."""
        chosen = set(among)
        return bool(self._ids) if not chosen else not chosen.isdisjoint(self._ids)

    def nearest(self, face: NDArray[np.float32], among: Iterable[str] = ()) -> FaceMatch | None:
        """The nearest person to one face, of `among` when ids are given; None when nobody is enrolled."""
        if self._faces is None:
            return None
        # |a - b|^2 = |a|^2 - 2ab + |b|^2 would lose digits for near faces; the matrix is small.
        squares = ((self._faces - face) ** 2).sum(axis=1)
        distances = np.sqrt(np.minimum.reduceat(squares, self._starts))
        chosen = set(among)
        allowed = [row for row, person in enumerate(self._ids) if not chosen or person in chosen]
        if not allowed:
            return None
        best = min(allowed, key=lambda row: distances[row])
        others = np.delete(distances, best)
        margin = float(others.min() - distances[best]) if len(others) else float("inf")
        return FaceMatch(person=self._ids[best], distance=float(distances[best]), margin=margin)
