"""The identity of an image, chosen before anything is made of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageId:
    """A random 128-bit id: names the manifest, and its first 64 bits are the watermark's payload id."""

    value: uuid.UUID

    @classmethod
    def new(cls) -> ImageId:
        return cls(uuid.uuid4())

    @classmethod
    def parse(cls, text: str) -> ImageId:
        """Read `urn:c2pa:<uuid>` or a bare UUID.

        Raises:
            ValueError: neither.
        """
        return cls(uuid.UUID(text.removeprefix("urn:c2pa:")))

    @property
    def urn(self) -> str:
        """The manifest label, "urn:c2pa:<uuid>"."""
        return f"urn:c2pa:{self.value}"

    @property
    def mark_id(self) -> str:
        """The first 64 bits as 16 lower-case hexadecimal digits: what the pixels carry."""
        return self.value.hex[:16]

    def __str__(self) -> str:
        return str(self.value)
