"""Manifests for files that lost theirs: which kept manifest belongs to a file, and how sure that is.

The rules, in order; the first that matches decides:

1. BIT_IDENTICAL: the repository keeps a manifest that was cut out of a file with these very bytes, and with it put
   back the whole file verifies.
2. CERTAIN: the watermark's payload names a kept manifest, its keyed check is right, and the picture is near the
   recorded fingerprint.
3. CANDIDATE: the watermark names one, but the picture looks different (heavily cropped, or the mark was lifted from
   one picture onto another); or there is no mark, and a recorded fingerprint is near.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from guardrails.domain.images import (
    ManifestStatus,
    ManifestVerdict,
    MarkReading,
    MarkVerdict,
    Recovery,
    RecoveryLevel,
)
from guardrails.errors import RepositoryError
from guardrails.imaging import Pixels
from guardrails.imaging.iscc import grey_code, reduced
from guardrails.provenance import Verifier
from guardrails.provenance.repository import Entry, Fingerprints, Near, Repository, attach, rest_digest
from guardrails.similarity.hashes import ORIENTATIONS, oriented, pdq256

# Where a watermark names the manifest, there is one comparison and not one for each kept manifest. Saving anew,
# resizing and crops of a tenth stay within; `benchmarks/recovery.py` counts how many pairs of other pictures do.
SAME_ISCC, SAME_PDQ = 8, 64
# Or both at once, each further away.
BOTH_ISCC, BOTH_PDQ = 16, 96
# Where the fingerprint alone has to find it.
ISCC_RADIUS, PDQ_RADIUS = 6, 31

ERROR_RATE_IDENTICAL = "none: the signature covers every byte of the file with this manifest put back"
ERROR_RATE_CERTAIN = (
    "below 1e-6 for a picture without a mark: the detector's own bound, before the chance that a random payload names "
    "one of N kept manifests (N / 2**64, 5.4e-15 at 100,000) and that the picture looks alike"
)
ERROR_RATE_MARK_ALONE = (
    "below 1e-6 that there is no mark of ours; but the picture looks unlike the recorded one, so the mark may "
    "have been moved here from another picture"
)
ERROR_RATE_FINGERPRINT = (
    "none stated: pictures that look alike have near fingerprints, whoever made them; a reason to look, not a finding"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """The fingerprints of one picture in its eight orientations, the picture as it is first.

    Attributes:
        iscc: eight codes of 8 bytes.
        pdq: eight codes of 32 bytes; empty with too little detail.
    """

    iscc: tuple[bytes, ...]
    pdq: tuple[bytes, ...]

    @classmethod
    def of(cls, pixels: Pixels) -> Appearance:
        """The fingerprints of RGB uint8 pixels."""
        grey, hashes = reduced(pixels), pdq256(pixels)
        return cls(
            iscc=tuple(grey_code(oriented(grey, orientation)) for orientation in range(ORIENTATIONS)),
            pdq=tuple(code.tobytes() for code in hashes.codes) if hashes.hashable else (),
        )

    @property
    def upright(self) -> Fingerprints:
        """What is kept of it."""
        return Fingerprints(iscc=self.iscc[0], pdq=self.pdq[0] if self.pdq else b"")

    def distances(self, kept: Fingerprints, *, turned: bool) -> tuple[int | None, int | None]:
        """Differing bits of ISCC (of 64) and of PDQ (of 256); None where one is unknown.

        Args:
            turned: in the best orientation, not only as it is.
        """
        asked = ORIENTATIONS if turned else 1
        return _least(self.iscc[:asked], kept.iscc), _least(self.pdq[:asked], kept.pdq)


class Recoverer:
    """Finds kept manifests for files.

    Args:
        repository: of kept manifests.
        verifier: judges what was found.
    """

    def __init__(self, repository: Repository, verifier: Verifier) -> None:
        self._repository, self._verifier = repository, verifier

    def recover(
        self, data: bytes, embedded: ManifestVerdict, pixels: Pixels | None, mark: MarkReading | None
    ) -> Recovery | None:
        """The kept manifest of a file, by the rules above.

        Where the file carries a readable manifest, only one that the watermark names instead of it is looked for: the
        file's own may have been put there in its place.

        Args:
            pixels: decoded; None when they cannot be.
            mark: what the detector says.
        """
        if embedded.status is ManifestStatus.NO_MANIFEST and (whole := self._identical(data)):
            return whole
        named = self._named_by(mark)
        known = {embedded.manifest_id, *_names(embedded.ancestry)}
        has_own = embedded.manifest_id and (not named or any(entry.manifest_id in known for entry in named))
        if pixels is None or has_own:
            return None
        appearance = Appearance.of(upright(pixels, mark))
        return self._confirmed(named, appearance) if named else self._look_alike(appearance)

    def _named_by(self, mark: MarkReading | None) -> list[Entry]:
        if mark is None or mark.verdict is not MarkVerdict.PRESENT:
            return []
        return self._repository.by_mark(mark.mark_id)

    def _confirmed(self, named: list[Entry], appearance: Appearance) -> Recovery:
        """The entry that the picture looks like, of those that its watermark names; else the newest as a candidate."""
        for entry in named:
            iscc, pdq = appearance.distances(entry.fingerprints, turned=False)
            if is_near(iscc, pdq):
                return self._recovery(RecoveryLevel.CERTAIN, "watermark", entry, iscc, pdq, ERROR_RATE_CERTAIN)
        iscc, pdq = appearance.distances(named[0].fingerprints, turned=False)
        return self._recovery(RecoveryLevel.CANDIDATE, "watermark", named[0], iscc, pdq, ERROR_RATE_MARK_ALONE)

    def _look_alike(self, appearance: Appearance) -> Recovery | None:
        near = find_near(self._repository, appearance, limit=1)
        if not near:
            return None
        entry = near[0].entry
        iscc, pdq = appearance.distances(entry.fingerprints, turned=True)
        return self._recovery(RecoveryLevel.CANDIDATE, "fingerprint", entry, iscc, pdq, ERROR_RATE_FINGERPRINT)

    def _identical(self, data: bytes) -> Recovery | None:
        file = io.BytesIO(data)
        for entry in self._repository.by_rest(rest_digest(file)):
            whole = io.BytesIO()
            try:
                attach(file, entry, whole)
            except RepositoryError:
                continue
            verdict = self._verifier.verify(whole.getvalue())
            if verdict.status not in (ManifestStatus.TAMPERED, ManifestStatus.UNREADABLE):
                return identical(entry, verdict)
        return None

    def _recovery(
        self, level: RecoveryLevel, found_by: str, entry: Entry, iscc: int | None, pdq: int | None, error_rate: str
    ) -> Recovery:
        return Recovery(
            level=level,
            found_by=found_by,
            manifest=self._verifier.verify_store(entry.store),
            iscc_bits=iscc,
            pdq_bits=pdq,
            error_rate=error_rate,
            added_at=entry.added_at,
        )


def find_near(repository: Repository, appearance: Appearance, *, limit: int) -> list[Near]:
    """Kept manifests that the fingerprint alone leads to, in any orientation, nearest first."""
    return repository.by_fingerprint(
        iscc=appearance.iscc, iscc_radius=ISCC_RADIUS, pdq=appearance.pdq, pdq_radius=PDQ_RADIUS, limit=limit
    )


def identical(entry: Entry, verdict: ManifestVerdict) -> Recovery:
    """What is said of a file that is the signed one again, byte for byte."""
    return Recovery(
        level=RecoveryLevel.BIT_IDENTICAL,
        found_by="digest",
        manifest=verdict,
        iscc_bits=None,
        pdq_bits=None,
        error_rate=ERROR_RATE_IDENTICAL,
        added_at=entry.added_at,
    )


def is_near(iscc: int | None, pdq: int | None) -> bool:
    """Whether the fingerprints say that it is the recorded picture."""
    return (
        (iscc is not None and iscc <= SAME_ISCC)
        or (pdq is not None and pdq <= SAME_PDQ)
        or (iscc is not None and pdq is not None and iscc <= BOTH_ISCC and pdq <= BOTH_PDQ)
    )


def upright(pixels: Pixels, mark: MarkReading | None) -> Pixels:
    """Undo the quarter turns and the mirroring that the watermark reveals."""
    if mark is None or mark.verdict is not MarkVerdict.PRESENT or not mark.geometry:
        return pixels
    turned = np.rot90(pixels, -round(mark.geometry["rotation"] / 90))
    return np.ascontiguousarray(turned[:, ::-1] if mark.geometry["mirror"] else turned)


def _names(ancestry: tuple[str, ...]) -> set[str]:
    return {line.partition(" ")[0] for line in ancestry}


def _least(codes: tuple[bytes, ...], kept: bytes) -> int | None:
    number = int.from_bytes(kept, "big")
    distances = [(int.from_bytes(code, "big") ^ number).bit_count() for code in codes]
    return min(distances) if kept and distances else None
