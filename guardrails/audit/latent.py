"""The latent mark of a file: bring the picture back to how it was drawn, invert it with a model, look for the mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.domain.canonical import Json
from guardrails.domain.images import MarkReading, MarkVerdict
from guardrails.imaging import Pixels
from guardrails.watermark.binding import Fit
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import LatentMark

POCKET = "pocket"
# Sides that every supported model can draw are multiples of this.
_MULTIPLE = 64


class Inverts(Protocol):
    """Finds the initial latent of a picture, see `generation.inversion.Inverter`."""

    def latent(self, pixels: Pixels) -> NDArray[np.float32]: ...


class LatentReader:
    """Reads the latent mark of pictures.

    Args:
        inverter: of the model that may have drawn them.
        default_size: width and height that the model draws when nothing else is asked for.
    """

    def __init__(self, inverter: Inverts, mark: LatentMark, default_size: tuple[int, int]) -> None:
        self._inverter = inverter
        self._mark = mark
        self._default_size = default_size

    @classmethod
    def load(cls, model: str, keyring: Keyring) -> LatentReader:
        """With the embedded model ("pocket"), a folder or a hub id.

        Raises:
            ModelUnavailable: there is no such model.
            OptionError: it cannot be inverted.
        """
        from guardrails.domain.requests import PromptRequest
        from guardrails.generation.inversion import Inverter
        from guardrails.generation.latents import picture_size
        from guardrails.generation.loading import load_generator
        from guardrails.pipeline.embedded import pocket_model

        pipeline = load_generator(str(pocket_model()) if model == POCKET else model, dtype="float32").pipeline
        return cls(Inverter(pipeline), LatentMark(keyring), picture_size(pipeline, PromptRequest(prompt="")))

    def read(
        self,
        pixels: Pixels,
        mark: MarkReading,
        fit: Fit | None,
        size: tuple[int, int] | None,
        candidates: Callable[[], Sequence[tuple[str, int]]],
    ) -> MarkReading:
        """Look for the latent mark.

        1. With a record, lay the picture over the recorded one; without, undo what the pixel mark's geometry tells.
        2. Invert it.
        3. When the pixel mark gave an id, ask for that one; else, or if it is not there, for any; at last for those
           of the ledger, which are heard when a picture was regenerated and nothing can be decoded any more.

        Args:
            mark: what the pixel mark says.
            fit: where the picture lies on the recorded one, when there is a record.
            size: width and height of the recorded picture.
            candidates: gives ids and epochs of recorded pictures that were drawn from signed noise.
        """
        if fit is not None and fit.same and size is not None:
            upright = fit.register(pixels, *size)
        else:
            upright = _turned_back(pixels, found_geometry(mark))
            upright = _resized(upright, self._size_of(upright))
        noise = self._inverter.latent(upright)
        if mark.verdict is MarkVerdict.PRESENT and mark.epoch is not None:
            known = self._mark.confirm(noise, mark.mark_id, mark.epoch)
            if known.verdict is MarkVerdict.PRESENT:
                return known
        blind = self._mark.detect(noise)
        if blind.verdict is MarkVerdict.PRESENT:
            return blind
        identified = self._mark.identify(noise, candidates())
        return identified if identified.verdict is MarkVerdict.PRESENT else blind

    def _size_of(self, pixels: Pixels) -> tuple[int, int]:
        """The model's own size where the shape fits it, else the picture's, in steps that the model can draw."""
        height, width = pixels.shape[:2]
        own_width, own_height = self._default_size
        if abs(width * own_height - height * own_width) <= 0.02 * width * own_height:
            return self._default_size
        return _drawable(width), _drawable(height)


def found_geometry(mark: MarkReading | None) -> Mapping[str, Json]:
    """What a reading says about the picture's geometry; nothing when no mark was found, for then it is noise."""
    heard = (MarkVerdict.PRESENT, MarkVerdict.PRESENT_UNBOUND, MarkVerdict.SUSPECTED)
    return mark.geometry if mark is not None and mark.verdict in heard else {}


def _drawable(side: int) -> int:
    return max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE)


def _turned_back(pixels: Pixels, geometry: Mapping[str, Json]) -> Pixels:
    """Undo quarter turns and mirroring."""
    turned = np.rot90(pixels, -round(geometry.get("rotation", 0.0) / 90))
    return np.ascontiguousarray(turned[:, ::-1] if geometry.get("mirror") else turned)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
