"""Recovery of manifests: the levels reached after common changes, and fingerprints that are near by chance.

    python benchmarks/recovery.py [FOLDER]

FOLDER holds pictures (any format that is read here); without it pictures are drawn, which are harder than photographs
for a fingerprint (large flat areas) and easier for a mark. Detection in mode "standard"; one thread.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.audit.recovery import (
    BOTH_ISCC,
    BOTH_PDQ,
    ISCC_RADIUS,
    PDQ_RADIUS,
    SAME_ISCC,
    SAME_PDQ,
    Appearance,
    Recoverer,
    find_near,
)
from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus, ManifestVerdict, MarkVerdict
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.provenance import TrustStore, Verifier
from guardrails.provenance.repository import Entry, Repository
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

MARKED, UNMARKED, LOOKED_AT = 12, 12, 1000
SIDE = 512


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    pictures = list(_pictures(folder, MARKED + UNMARKED))
    marked, unmarked = pictures[: len(pictures) // 2], pictures[len(pictures) // 2 :]
    mark = PixelMark(Keyring(b"recovery benchmark, a fixed key."))
    with tempfile.TemporaryDirectory() as home, Repository(Path(home)) as repository:
        copies = [_keep(repository, mark, pixels) for pixels in marked]
        print(
            f"{len(copies)} marked pictures, {SIDE} px, each changed in {len(CHANGES)} ways; {len(unmarked)} unmarked"
        )
        print(f"{'change':<22}{'certain':>9}{'candidate':>11}{'none':>6}{'wrong':>7}{'mark read':>11}{'near':>6}")
        for name, change in CHANGES.items():
            _show(name, repository, mark, [(change(pixels), urn) for pixels, urn in copies])
        _show("unmarked, unrelated", repository, mark, [(pixels, "") for pixels in unmarked])
    _pairs(folder)
    return 0


def _pictures(folder: Path | None, count: int) -> Iterator[Pixels]:
    if folder is None:
        yield from (draw_shapes(50_000 + number, SIDE) for number in range(count))
        return
    paths = sorted(path for path in folder.rglob("*") if path.is_file())[:count]
    for path in paths:
        image = Image.fromarray(decode(path.read_bytes()).pixels)
        yield np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _keep(repository: Repository, mark: PixelMark, pixels: Pixels) -> tuple[Pixels, str]:
    identity = ImageId.new()
    embedded = mark.embed(pixels, identity.mark_id).pixels
    look = Appearance.of(embedded).upright
    name = identity.urn.encode()
    entry = Entry(
        manifest_id=identity.urn,
        mark_id=identity.mark_id,
        fingerprints=look,
        container=name,
        pieces=((0, len(name)),),
    )
    repository.add(entry)
    return embedded, identity.urn


def _jpeg(quality: int) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return decode(buffer.getvalue()).pixels

    return change


def _resize(share: float) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        side = round(pixels.shape[0] * share)
        return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))

    return change


def _crop(share: float) -> Callable[[Pixels], Pixels]:
    def change(pixels: Pixels) -> Pixels:
        cut = round(pixels.shape[0] * share / 2)
        return np.ascontiguousarray(pixels[cut:-cut, cut:-cut])

    return change


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "saved as PNG": lambda pixels: pixels,
    "JPEG 80": _jpeg(80),
    "JPEG 50": _jpeg(50),
    "half size": _resize(0.5),
    "half size, JPEG 70": lambda pixels: _jpeg(70)(_resize(0.5)(pixels)),
    "5 % cropped": _crop(0.05),
    "10 % cropped, JPEG 80": lambda pixels: _jpeg(80)(_crop(0.1)(pixels)),
    "20 % cropped": _crop(0.2),
    "quarter turn": lambda pixels: np.ascontiguousarray(np.rot90(pixels)),
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
}


class ByName(Verifier):
    """Takes a kept manifest for its name: the cryptography is not what is measured here."""

    def verify_store(self, data: bytes) -> ManifestVerdict:
        return ManifestVerdict(status=ManifestStatus.TRUSTED, explanation="", manifest_id=data.decode())


def _show(name: str, repository: Repository, mark: PixelMark, cases: list[tuple[Pixels, str]]) -> None:
    recoverer, counts = Recoverer(repository, ByName(TrustStore())), Counter[str]()
    stripped = ManifestVerdict(status=ManifestStatus.NO_MANIFEST, explanation="")
    for pixels, urn in cases:
        reading = mark.detect(pixels, "standard")
        recovery = recoverer.recover(b"", stripped, pixels, reading)
        counts["read"] += reading.verdict is MarkVerdict.PRESENT
        counts["near"] += bool(find_near(repository, Appearance.of(pixels), limit=1))
        counts["none" if recovery is None else recovery.level.value] += 1
        counts["wrong"] += recovery is not None and recovery.manifest.manifest_id != urn
    row = [counts[key] for key in ("certain", "candidate", "none", "wrong", "read", "near")]
    print(f"{name:<22}{row[0]:>9}{row[1]:>11}{row[2]:>6}{row[3]:>7}{row[4]:>11}{row[5]:>6}")


def _pairs(folder: Path | None) -> None:
    """How often the fingerprints of two unrelated pictures are near by chance."""
    looks = [Appearance.of(pixels).upright for pixels in _pictures(folder, LOOKED_AT)]
    looks = [look for look in looks if look.pdq]
    iscc = _distances(np.array([np.frombuffer(look.iscc, np.uint8) for look in looks]))
    pdq = _distances(np.array([np.frombuffer(look.pdq, np.uint8) for look in looks]))
    count = iscc.size
    print(f"{len(looks)} pictures, {count} pairs of different ones; rate of near fingerprints and its 95 % upper bound")
    agreeing = (iscc <= SAME_ISCC) | (pdq <= SAME_PDQ) | (iscc <= BOTH_ISCC) & (pdq <= BOTH_PDQ)
    rows = (
        (f"ISCC <= {BOTH_ISCC}", iscc <= BOTH_ISCC),
        (f"ISCC <= {SAME_ISCC}", iscc <= SAME_ISCC),
        (f"PDQ <= {SAME_PDQ}", pdq <= SAME_PDQ),
        ("near enough where a watermark agrees", agreeing),
        ("near enough to be a candidate", (iscc <= ISCC_RADIUS) | (pdq <= PDQ_RADIUS)),
    )
    for name, near in rows:
        found = int(near.sum())
        # Exact for none, by the normal approximation of a Poisson count otherwise.
        bound = (3.0 if not found else found + 2 + 1.96 * found**0.5) / count
        print(f"{name:<48}{found:>8}{found / count:>10.1e}{bound:>10.1e}")


def _distances(codes: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Of all pairs, in order of the first."""
    rows = [np.bitwise_count(codes[i] ^ codes[i + 1 :]).sum(axis=1, dtype=np.uint16) for i in range(len(codes) - 1)]
    return np.concatenate(rows)


if __name__ == "__main__":
    sys.exit(main())
