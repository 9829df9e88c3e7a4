"""Kept manifests by what is known of a picture: a name, a soft binding, or the picture itself.

The values of soft bindings, as the manifests of this toolkit carry them and as the resolution routes take them:

* ``org.guardrails.watermark.1``: 16 hexadecimal digits, or their 8 bytes.
* ``io.iscc.v0``: the Image-Code as text, "ISCC:..."; or its 10 bytes, header included.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from guardrails import home as homes
from guardrails.audit.recovery import ISCC_RADIUS, Appearance, find_near, is_near, upright
from guardrails.domain.images import MarkReading, MarkVerdict
from guardrails.errors import OptionError, WatermarkError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.imaging.iscc import ALGORITHM as ISCC
from guardrails.imaging.iscc import code_bits
from guardrails.provenance.manifest import WATERMARK
from guardrails.provenance.repository import Entry, Repository
from guardrails.watermark.keys import KEY_FILE, Keyring
from guardrails.watermark.protocol import Scheme
from guardrails.watermark.scheme import PixelMark

ALGORITHMS = (WATERMARK, ISCC)

_MARK_ID = re.compile(r"[0-9a-f]{16}")
_MANIFEST_ID = re.compile(r"urn:c2pa:[0-9a-fA-F-]{36}(:[\w.-]{1,64}){0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A kept manifest and why it was found.

    Attributes:
        found_by: "manifest", "watermark" or "fingerprint".
        score: 0..100; 100 for an exact name or a watermark, else by the share of equal fingerprint bits.
    """

    manifest_id: str
    found_by: str
    score: int
    iscc_bits: int | None = None
    pdq_bits: int | None = None


class Matcher:
    """Looks manifests up.

    Args:
        mark: reads watermarks; None to go by fingerprints alone.
    """

    def __init__(self, repository: Repository, mark: Scheme | None) -> None:
        self.repository, self._mark = repository, mark

    @classmethod
    def open(cls, home: Path | None = None) -> Matcher:
        """The repository and the watermark key of an installation.

        Raises:
            RepositoryError: it has no repository.
        """
        root = home or homes.home()
        keys = homes.keys_folder(root)
        has_mark = (keys / KEY_FILE).exists()
        return cls(
            Repository(homes.manifests_folder(root), create=False),
            PixelMark(Keyring.load_or_create(keys)) if has_mark else None,
        )

    def find(self, what: str, *, limit: int) -> list[Match]:
        """By a manifest id, a watermark id, an ISCC code, or the name of an image file.

        Raises:
            OptionError: an ISCC code that is none.
            ImageError: no such file, or no picture in it.
        """
        if _MANIFEST_ID.fullmatch(what):
            entry = self.repository.by_manifest(what)
            return [Match(manifest_id=entry.manifest_id, found_by="manifest", score=100)] if entry else []
        if _MARK_ID.fullmatch(what):
            return self.by_binding(WATERMARK, what.encode(), limit=limit)
        if what.startswith("ISCC:"):
            return self.by_binding(ISCC, what.encode(), limit=limit)
        return self.by_content(decode(read_image_bytes(Path(what))).pixels, limit=limit)

    def by_binding(self, algorithm: str, value: bytes, *, limit: int) -> list[Match]:
        """By the value of one soft binding.

        Raises:
            OptionError: an unknown algorithm, or a value that is none of its values.
        """
        if algorithm == WATERMARK:
            return [_marked(entry) for entry in self.repository.by_mark(_mark_id(value))[:limit]]
        if algorithm == ISCC:
            near = self.repository.by_fingerprint(iscc=[_iscc(value)], iscc_radius=ISCC_RADIUS, limit=limit)
            return [_looks_alike(one.entry, one.iscc, None) for one in near]
        raise OptionError(
            f"soft bindings of {algorithm!r} are not kept here", hint=f"use one of {', '.join(ALGORITHMS)}"
        )

    def by_content(
        self, pixels: Pixels, *, limit: int, algorithm: str = "", hint: tuple[str, bytes] | None = None
    ) -> list[Match]:
        """By a picture: what its watermark names first, then what looks like it.

        Args:
            algorithm: look only for bindings of this one; "" for all.
            hint: a soft binding that the caller read himself: what it names counts when the picture is near it.

        Raises:
            OptionError: an unknown algorithm, or a hint that is none.
        """
        if algorithm and algorithm not in ALGORITHMS:
            raise OptionError(
                f"soft bindings of {algorithm!r} are not kept here", hint=f"use one of {', '.join(ALGORITHMS)}"
            )
        mark = self._read_mark(pixels)
        appearance = Appearance.of(upright(pixels, mark))
        found: dict[str, Match] = {}
        if algorithm in ("", WATERMARK) and mark is not None and mark.verdict is MarkVerdict.PRESENT:
            for entry in self.repository.by_mark(mark.mark_id):
                found[entry.manifest_id] = _marked(entry, *appearance.distances(entry.fingerprints, turned=False))
        if hint is not None:
            for match in self.by_binding(*hint, limit=limit):
                hinted = self.repository.by_manifest(match.manifest_id)
                bits = appearance.distances(hinted.fingerprints, turned=True) if hinted else (None, None)
                if hinted and is_near(*bits):
                    found.setdefault(hinted.manifest_id, _looks_alike(hinted, *bits))
        if algorithm in ("", ISCC):
            for near in find_near(self.repository, appearance, limit=limit):
                bits = appearance.distances(near.entry.fingerprints, turned=True)
                found.setdefault(near.entry.manifest_id, _looks_alike(near.entry, *bits))
        return sorted(found.values(), key=lambda match: -match.score)[:limit]

    def _read_mark(self, pixels: Pixels) -> MarkReading | None:
        if self._mark is None:
            return None
        try:
            return self._mark.detect(pixels, "deep")
        except WatermarkError:
            # Too small for a mark; the fingerprints are left.
            return None


def _marked(entry: Entry, iscc: int | None = None, pdq: int | None = None) -> Match:
    return Match(manifest_id=entry.manifest_id, found_by="watermark", score=100, iscc_bits=iscc, pdq_bits=pdq)


def _looks_alike(entry: Entry, iscc: int | None, pdq: int | None) -> Match:
    shares = [bits / size for bits, size in ((iscc, 64), (pdq, 256)) if bits is not None]
    # Half of all bits agree by chance: that is no likeness at all.
    score = round(100 * max(0.0, 1 - 2 * min(shares, default=0.5)))
    return Match(manifest_id=entry.manifest_id, found_by="fingerprint", score=score, iscc_bits=iscc, pdq_bits=pdq)


def _mark_id(value: bytes) -> str:
    text = value.hex() if len(value) == 8 else value.decode("ascii", "replace").lower()
    if not _MARK_ID.fullmatch(text):
        raise OptionError(f"this is no value of {WATERMARK}", hint="give 16 hexadecimal digits, or their 8 bytes")
    return text


def _iscc(value: bytes) -> bytes:
    text = value.decode("ascii", "replace") if len(value) != 10 else f"ISCC:{base64.b32encode(value).decode()}"
    try:
        return code_bits(text)
    except ValueError as error:
        raise OptionError(
            f"this is no value of {ISCC}: {error}", hint='give "ISCC:..." of a 64-bit Image-Code, or its 10 bytes'
        ) from error
