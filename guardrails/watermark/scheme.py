"""The product's own pixel mark, put together."""

from __future__ import annotations

from guardrails.domain.images import MarkReading
from guardrails.imaging import Pixels
from guardrails.watermark.detection import SCHEME, Detector
from guardrails.watermark.embedding import embed
from guardrails.watermark.keys import Keyring
from guardrails.watermark.payload import FLAG_AI_GENERATED, Payload
from guardrails.watermark.protocol import Embedded


class PixelMark:
    """Keyed spread-spectrum mark in the luma of a picture; implements `protocol.Scheme`.

    Args:
        keyring: marks with its current epoch, reads all the epochs it keeps.
    """

    name = SCHEME

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def embed(self, pixels: Pixels, mark_id: str, *, flags: int = FLAG_AI_GENERATED) -> Embedded:
        """Write `mark_id` into RGB uint8 pixels (height, width >= 128) and prove it by reading it back.

        Raises:
            WatermarkError: the pixels cannot carry a mark, or the id or flags do not fit the payload.
        """
        epoch = self._keyring.current_epoch
        return embed(pixels, Payload(mark_id=mark_id, epoch=epoch, flags=flags), self._keyring.keys(epoch))

    def detect(self, pixels: Pixels, mode: str = "deep") -> MarkReading:
        """Look for a mark of this key.

        Args:
            mode: "fast" undoes resizing, turns by 90 degrees, mirroring and shifts; "standard" also crops, frames and
                squeezes; "deep", the automatic one, starts with these and ends with the learned front end and
                rotation by up to 12 degrees.

        Raises:
            OptionError: an unknown mode.
            WatermarkError: the pixels are too few or not RGB.
        """
        keyring = self._keyring
        return Detector(tuple(keyring.keys(epoch) for epoch in keyring.epochs)).read(pixels, mode)
