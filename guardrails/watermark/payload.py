"""What a mark says: flags, a 64-bit id, and a keyed check of 16 bits.

Version and key epoch are part of the payload too, but cost no pixels: the epoch is known from the pilot that was found,
the version from the scheme, and the check covers both.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import WatermarkError

PAYLOAD_VERSION = 1
FLAG_AI_GENERATED = 0b000001
FLAG_AI_EDITED = 0b000010

VERSION_BITS, EPOCH_BITS, FLAG_BITS, ID_BITS = 4, 6, 6, 64
INFORMATION_BITS = VERSION_BITS + EPOCH_BITS + FLAG_BITS + ID_BITS
CHECK_BITS = 16
MESSAGE_BITS = FLAG_BITS + ID_BITS + CHECK_BITS

_PADDING = -MESSAGE_BITS % 8

_MARK_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The message of one mark.

    Attributes:
        mark_id: 16 lower-case hexadecimal digits, see `domain.identity.ImageId.mark_id`.
        epoch: of the key that marks, 0..63.
        flags: 6 bits, `FLAG_...`.
        version: of this layout, 0..15.

    Raises:
        WatermarkError: a field does not fit its bits.
    """

    mark_id: str
    epoch: int
    flags: int = FLAG_AI_GENERATED
    version: int = PAYLOAD_VERSION

    def __post_init__(self) -> None:
        if not _MARK_ID.fullmatch(self.mark_id):
            raise WatermarkError(
                f"mark id {self.mark_id!r} is not 16 lower-case hexadecimal digits", hint="use ImageId.mark_id"
            )
        for name, value, bits in (
            ("epoch", self.epoch, EPOCH_BITS),
            ("flags", self.flags, FLAG_BITS),
            ("version", self.version, VERSION_BITS),
        ):
            if not 0 <= value < 1 << bits:
                raise WatermarkError(f"payload {name} {value} does not fit {bits} bits", hint="use a smaller number")

    def information(self) -> bytes:
        """The 80 information bits as 10 bytes, most significant bit first."""
        head = (self.version << EPOCH_BITS | self.epoch) << FLAG_BITS | self.flags
        return (head << ID_BITS | int(self.mark_id, 16)).to_bytes(INFORMATION_BITS // 8, "big")

    def to_bits(self, check_key: bytes) -> NDArray[np.uint8]:
        """The message: flags, id and keyed check, uint8 0/1 of shape (86,)."""
        information = self.information()
        packed = information + keyed_check(information, check_key)
        return np.unpackbits(np.frombuffer(packed, np.uint8))[-MESSAGE_BITS:]

    @classmethod
    def from_bits(cls, bits: NDArray[np.uint8], check_key: bytes, epoch: int) -> Payload | None:
        """Read a message of shape (86,) of an epoch; None when its check does not hold under `check_key`."""
        number = int.from_bytes(np.packbits(np.concatenate([np.zeros(_PADDING, np.uint8), bits])).tobytes(), "big")
        number, check = divmod(number, 1 << CHECK_BITS)
        flags, mark_id = divmod(number, 1 << ID_BITS)
        payload = cls(mark_id=f"{mark_id:016x}", epoch=epoch, flags=flags)
        expected = keyed_check(payload.information(), check_key)
        return payload if hmac.compare_digest(check.to_bytes(CHECK_BITS // 8, "big"), expected) else None


def keyed_check(information: bytes, check_key: bytes) -> bytes:
    """HMAC-SHA256 truncated to 16 bits: a foreign key passes with probability 2**-16."""
    return hmac.digest(check_key, information, hashlib.sha256)[: CHECK_BITS // 8]
