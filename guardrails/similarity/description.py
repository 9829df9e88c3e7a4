"""Everything the search knows of one picture: hashes, qualities and colours of its views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.similarity.colours import colour_layout
from guardrails.similarity.hashes import ImageHash, PdqHashes, oriented, pdq256, phash64
from guardrails.similarity.views import Drawing, Kind, full_frame, isolate


@dataclass(frozen=True, slots=True)
class DescribedView:
    """One view.

    Attributes:
        pixels: uint8 (64, 64, 3).
        pdq: of the picture as it is for the full frame, so that it equals other people's PDQ; of `pixels` otherwise.
    """

    pixels: Pixels
    pdq: PdqHashes


@dataclass(frozen=True, slots=True)
class Description:
    """The views of one picture that have enough detail to be hashed; none for a blank or flat picture."""

    views: Mapping[Kind, DescribedView]
    centred: Pixels
    _phashes: dict[tuple[Kind, int], ImageHash] = field(default_factory=dict)

    def phash(self, kind: Kind, orientation: int) -> ImageHash:
        """Of one view, turned; computed when first asked for, because most orientations never hit."""
        key = kind, orientation
        if key not in self._phashes:
            self._phashes[key] = phash64(oriented(self.views[kind].pixels, orientation))
        return self._phashes[key]

    def colours(self, orientation: int) -> NDArray[np.uint8]:
        """Colour layout of the centred view, turned."""
        return colour_layout(oriented(self.centred, orientation))


def describe(pixels: Pixels) -> Description:
    """Hash every view of a picture.

    Args:
        pixels: RGB, uint8, height x width x 3.
    """
    full = full_frame(pixels)
    drawing = isolate(pixels)
    views = {Kind.FULL: DescribedView(full, pdq256(pixels))} | {
        kind: _describe_view(drawing, full, kind) for kind in (Kind.BOX, Kind.CENTRED)
    }
    hashable = {kind: view for kind, view in views.items() if view.pdq.hashable}
    return Description(hashable, views[Kind.CENTRED].pixels)


def _describe_view(drawing: Drawing | None, full: Pixels, kind: Kind) -> DescribedView:
    # Without a plain background the drawing fills the frame.
    pixels = full if drawing is None else drawing.view(kind)
    return DescribedView(pixels, pdq256(pixels))
