"""How a picture came about, and the pictures that it was made from."""

from __future__ import annotations

import enum
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from guardrails.errors import ImageError, OptionError

PARENT_ID = "parent"


class Process(enum.Enum):
    """What the model did; the value is what the manifest says for people."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    INPAINTING = "inpainting"
    UPSCALING = "upscaling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A picture as a file, with the manifest that it may carry.

    Attributes:
        mime: its media type, for example "image/png".
        data: its bytes; empty when `path` is given.
        path: where to read it from, piece by piece.
    """

    mime: str
    data: bytes = b""
    path: Path | None = None

    def open(self) -> BinaryIO:
        """The content as a stream.

        Raises:
            ImageError: the file cannot be read.
        """
        if self.path is None:
            return io.BytesIO(self.data)
        try:
            return self.path.open("rb")
        except OSError as error:
            raise ImageError(
                f"cannot read {self.path}: {error.strerror or error}", hint="check the file name and its permissions"
            ) from error

    def is_same_file(self, other: Source) -> bool:
        """Whether both stand for the same bytes, whatever media type they are given."""
        return (self.data, self.path) == (other.data, other.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """A picture that the signed one was made from.

    Attributes:
        id: the name under which an action refers to it (`ingredientIds`).
        relationship: "parentOf", "inputTo" or "componentOf".
    """

    id: str
    relationship: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where the content of a picture comes from.

    Attributes:
        parent: the picture that was changed; None for text-to-image, required for every other process.
        references: pictures that steered the model and are not seen in the result (ControlNet, image prompts).
        strength: 0..1, how far the parent was changed; None where the process has no such setting.

    Raises:
        OptionError: a parent where there can be none, or none where one is needed.
    """

    process: Process = Process.TEXT_TO_IMAGE
    parent: Source | None = None
    references: tuple[Source, ...] = ()
    strength: float | None = None

    def __post_init__(self) -> None:
        if (self.parent is None) is not (self.process is Process.TEXT_TO_IMAGE):
            needed = "has no parent picture" if self.parent is not None else "needs the picture that was changed"
            raise OptionError(
                f"{self.process.value} {needed}",
                hint="give `parent` for image-to-image, inpainting and upscaling, `references` for the rest",
            )

    @property
    def reference_ids(self) -> tuple[str, ...]:
        return tuple(f"reference-{number}" for number in range(1, len(self.references) + 1))

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """The parent first, then the references."""
        inputs = [
            Ingredient(id=name, relationship="inputTo", source=source)
            for name, source in zip(self.reference_ids, self.references, strict=True)
        ]
        if self.parent is None:
            return tuple(inputs)
        return (Ingredient(id=PARENT_ID, relationship="parentOf", source=self.parent), *inputs)
