"""The pocket data set: every drawing rendered once, with a manifest that says what it is and whose.

The manifest ships under `datasets/pocket/`; the pictures are rebuilt into a work folder by `build`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import DatasetUnavailable
from guardrails.files import write_atomically
from guardrails.pocket.rendering import PICTURE_SIZE, render
from guardrails.pocket.sources import Drawing, read_drawings
from guardrails.resources import datasets_path

PICTURES = "pictures.npy"
MANIFEST = "manifest.csv"

# The model learns common things, listed by name, as two hands drew them; everything else stands in the index only.
TRAINED_SETS = frozenset({"noto", "twemoji"})
CONCEPTS = "concepts.txt"
# Works that must not be reproduced, by id; marked after training, as an owner's objection would be.
RESERVED = "reserved.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One row of the manifest.

    Attributes:
        id: "<set>:<slug>".
        keywords: separated by "|".
        package: source package and version, "name@version".
        sha256: of the RGBA bytes of the 256 x 256 rendering.
        trained: "yes" when the pocket model saw it.
        rights: "" or "opt-out": its owner asked that it is not reproduced.
    """

    id: str
    name: str
    set: str
    style: str
    group: str
    keywords: str
    licence: str
    licence_url: str
    creator: str
    package: str
    sha256: str
    trained: str
    rights: str


def build(work: Path, progress: Callable[[Iterable[Drawing], int], Iterable[Drawing]]) -> list[Picture]:
    """Fetch the sources and render every drawing into `work`; resumes where it stopped.

    Args:
        work: folder for packages and `pictures.npy`, uint8 of shape (n, 256, 256, 4).
        progress: wraps the drawings in a progress bar; gets the iterable and its length.
    """
    drawings = list(read_drawings(work / "packages"))
    done_file = work / "pictures.done"
    target = work / PICTURES
    shape = (len(drawings), PICTURE_SIZE, PICTURE_SIZE, 4)
    done = int(done_file.read_text()) if done_file.exists() and target.exists() else 0
    store = np.lib.format.open_memmap(target, mode="r+" if done else "w+", dtype=np.uint8, shape=shape)
    for number, drawing in enumerate(progress(drawings[done:], len(drawings) - done), start=done):
        store[number] = render(drawing.svg)
        if number % 200 == 199 or number + 1 == len(drawings):
            store.flush()
            done_file.write_text(str(number + 1))
    return [describe(drawing, store[number]) for number, drawing in enumerate(drawings)]


def describe(drawing: Drawing, rgba: NDArray[np.uint8]) -> Picture:
    """The manifest row of one rendered drawing."""
    return Picture(
        id=drawing.id,
        name=drawing.name,
        set=drawing.set.name,
        style=drawing.set.style,
        group=drawing.group,
        keywords="|".join(drawing.keywords),
        licence=drawing.set.licence,
        licence_url=drawing.set.licence_url,
        creator=drawing.set.creator,
        package=f"{drawing.set.package}@{drawing.set.version}",
        sha256=hashlib.sha256(rgba.tobytes()).hexdigest(),
        trained="yes" if is_trained(drawing) else "",
        rights="opt-out" if drawing.id in _lines(RESERVED) else "",
    )


def is_trained(drawing: Drawing) -> bool:
    """Whether the model sees a drawing."""
    return drawing.set.name in TRAINED_SETS and drawing.name in _lines(CONCEPTS)


@cache
def _lines(name: str) -> frozenset[str]:
    return frozenset(datasets_path("pocket", name).read_text(encoding="utf-8").splitlines())


def write_manifest(path: Path, pictures: Iterable[Picture]) -> None:
    """Write the manifest as CSV, one row a picture."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Picture)]
    writer.writerow(names)
    writer.writerows([getattr(picture, name) for name in names] for picture in pictures)
    write_atomically(path, text.getvalue().encode())


def read_manifest(path: Path) -> list[Picture]:
    """Read a manifest written by `write_manifest`."""
    if not path.is_file():
        raise DatasetUnavailable(f"no data set manifest at {path}", hint="run `guardrails pocket build`")
    with path.open(newline="", encoding="utf-8") as file:
        return [Picture(**row) for row in csv.DictReader(file)]
