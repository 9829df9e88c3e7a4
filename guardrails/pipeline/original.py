"""The picture that an edit starts from: given by somebody, so it is checked before anything is drawn from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.domain.canonical import Json
from guardrails.domain.images import ManifestStatus, ManifestVerdict
from guardrails.errors import ImageError, OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.provenance.lineage import Lineage, Process, Source
from guardrails.screens.scanning import shown_as

DEFAULT_STRENGTH = 0.6
# A history that does not hold would be handed on as if it did.
_BROKEN = (ManifestStatus.TAMPERED, ManifestStatus.BAD_ANCESTOR, ManifestStatus.UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Original:
    """A picture to change.

    Attributes:
        source: the file, which becomes the parent in the manifest, with its own history.
        pixels: RGB uint8, height x width x 3; what the model starts from.
        shown: every way in which the file can be shown, of the shape of `pixels`; it is looked at in all of them.
        strength: 0..1, how far it is changed.
        mask: uint8, height x width; changed where it is 255. None changes everything.
    """

    source: Source
    pixels: Pixels
    shown: Sequence[Pixels]
    strength: float = DEFAULT_STRENGTH
    mask: NDArray[np.uint8] | None = None

    @classmethod
    def read(cls, data: bytes, *, strength: float = DEFAULT_STRENGTH, mask: bytes | None = None) -> Original:
        """Read a file, and a PNG of the same size that is transparent where the picture is to be changed.

        Raises:
            ImageError: one of them cannot be read, or the sizes differ, or the mask has no transparency.
            OptionError: the strength is outside 0..1.
        """
        if not 0.0 < strength <= 1.0:
            raise OptionError(f"strength {strength:g}", hint="choose a number above 0, up to 1")
        picture = decode(data)
        source = Source(mime=picture.format.mime, data=data)
        return cls(
            source=source,
            pixels=picture.pixels,
            shown=tuple(shown_as(picture).values()),
            strength=strength,
            mask=_read_mask(mask, picture.pixels),
        )

    @property
    def lineage(self) -> Lineage:
        """For the manifest of what is made from it."""
        process = Process.IMAGE_TO_IMAGE if self.mask is None else Process.INPAINTING
        return Lineage(process=process, parent=self.source, strength=self.strength)

    def facts(self, manifest: ManifestVerdict, mark_id: str) -> dict[str, Json]:
        """What a record says about it."""
        return {
            "sha256": hashlib.sha256(self.source.data).hexdigest(),
            "manifest_id": manifest.manifest_id,
            "manifest": manifest.status.value,
            "mark_id": mark_id,
            "strength": self.strength,
            "masked": self.mask is not None,
        }


def check_history(manifest: ManifestVerdict) -> None:
    """Raises ImageError when the manifest of an original does not hold."""
    if manifest.status in _BROKEN:
        raise ImageError(
            f"the picture's own manifest does not hold: {manifest.status.value}", hint="edit a file that is intact"
        )


def _read_mask(mask: bytes | None, pixels: Pixels) -> NDArray[np.uint8] | None:
    if mask is None:
        return None
    picture = decode(mask)
    if picture.alpha is None:
        raise ImageError("the mask has no transparency", hint="make it transparent where the picture is to be changed")
    if picture.alpha.shape != pixels.shape[:2]:
        raise ImageError("the mask is not as large as the picture", hint="give both the same width and height")
    wanted: NDArray[np.uint8] = np.where(picture.alpha < 128, 255, 0).astype(np.uint8)
    return wanted
