"""Any file from anywhere: collect the evidence of every layer, then judge.

1. Read the manifest (integrity, signature, trust, ancestry).
2. Decode the pixels and look for the watermark; where that is asked for, for the latent mark as well.
3. Find the record: by image digest, then by the watermark's id, then by the manifest's.
4. Verify the record's inclusion in the signed log.
5. Where the manifest is missing, look for it in the repository of kept manifests.
6. Compare the pixels with the recorded edges: a mark on another picture is unbound.
7. Compare the ids that the layers name.
8. Look for the public marks of other programs; they are shown and prove nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardrails import home as homes
from guardrails.audit.latent import LatentReader, found_geometry
from guardrails.audit.recovery import Recoverer
from guardrails.audit.report import FileReport, LedgerEvidence, LedgerStatus, judge
from guardrails.domain.identity import ImageId
from guardrails.domain.images import (
    ManifestStatus,
    ManifestVerdict,
    MarkReading,
    MarkVerdict,
    Recovery,
    RecoveryLevel,
)
from guardrails.errors import ImageError, LedgerCorrupt, LedgerError, RepositoryError, WatermarkError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.ledger import Ledger, LoggedRecord
from guardrails.provenance import TrustStore, Verifier
from guardrails.provenance.certificates import KEY_FOLDER
from guardrails.provenance.repository import Repository
from guardrails.watermark.binding import EdgeMap, Fit
from guardrails.watermark.keys import KEY_FILE, Keyring
from guardrails.watermark.latent import SCHEME as LATENT_SCHEME
from guardrails.watermark.protocol import Scheme
from guardrails.watermark.public_marks import find_public_mark
from guardrails.watermark.scheme import PixelMark

_log = logging.getLogger(__name__)

# Half a millisecond each; an older picture is still found by what it carries itself.
MOST_CANDIDATES = 10_000


class Auditor:
    """Verifies files against one installation's keys and ledger; writes nothing.

    Args:
        mark: None when this installation has no watermark key.
        ledger: None when it has no ledger yet.
        repository: of kept manifests; None when there is none.
        latent: looks for the latent mark with a model; seconds a picture. None leaves it out.
    """

    def __init__(
        self,
        verifier: Verifier,
        mark: Scheme | None,
        ledger: Ledger | None,
        repository: Repository | None = None,
        latent: LatentReader | None = None,
    ) -> None:
        self.verifier = verifier
        self._recoverer = None if repository is None else Recoverer(repository, verifier)
        self._mark = mark
        self._ledger = ledger
        self._latent = latent

    @classmethod
    def open(
        cls,
        home: Path | None = None,
        *,
        trust: TrustStore | None = None,
        strict: bool = False,
        latent_model: str | None = None,
        database: str = "",
    ) -> Auditor:
        """The auditor of an installation; what is missing there is reported as unavailable, not created.

        Args:
            trust: further trust anchors, beside the installation's own.
            strict: also look at bytes that no signature covers.
            latent_model: "pocket", a folder or a hub id: look for the latent mark with this model.
            database: address of the PostgreSQL database that holds the ledger; "" is SQLite in the home.

        Raises:
            ModelUnavailable, OptionError: the model cannot be loaded or inverted.
        """
        root = home or homes.home()
        keys, ledger, manifests = homes.keys_folder(root), homes.ledger_folder(root), homes.manifests_folder(root)
        keyring = Keyring.load_or_create(keys) if (keys / KEY_FILE).exists() else None
        return cls(
            Verifier((trust or TrustStore()) + installed_trust(root), strict=strict),
            PixelMark(keyring) if keyring else None,
            Ledger.open(ledger, database=database, create=False) if ledger.exists() else None,
            Repository(manifests, create=False) if Repository.exists(manifests) else None,
            LatentReader.load(latent_model, keyring) if latent_model and keyring else None,
        )

    @property
    def is_complete(self) -> bool:
        """Whether the installation had a watermark key, a ledger and kept manifests; a young one has not yet."""
        return None not in (self._mark, self._ledger, self._recoverer)

    def verify_file(self, path: Path, *, mode: str = "deep") -> FileReport:
        """Verify one file.

        Raises:
            ImageError: the file cannot be read at all (missing, a folder, too large).
        """
        return self.verify(read_image_bytes(path), source=str(path), mode=mode)

    def verify(self, data: bytes, *, source: str = "", mode: str = "deep") -> FileReport:
        """Verify the bytes of one file.

        Args:
            mode: how hard the watermark is looked for: "fast", "standard" or "deep".
        """
        sha256 = hashlib.sha256(data).hexdigest()
        manifest = self.verifier.verify(data)
        pixels, problem = _decode(data)
        mark = None
        if pixels is not None:
            mark, problem = self._look_for_mark(pixels, mode)
        ledger = self._find_record(sha256, manifest, mark)
        recovery = self._recover(data, manifest, pixels, mark)
        fit = _fit(pixels, mark, ledger.edges)
        latent = None
        if self._latent is not None and pixels is not None and mark is not None:
            latent = self._latent.read(pixels, mark, fit, ledger.size, self._signed_ids)
            if latent.mark_id and not mark.mark_id:
                ledger = self._find_record(sha256, manifest, latent)
                fit = _fit(pixels, mark, ledger.edges)
        vouched = ledger.image_sha256 == sha256 or _vouches(manifest, ledger)
        mark, latent = (_bound(reading, ledger, fit, vouched=vouched) for reading in (mark, latent))
        heard = latent if latent is not None and latent.mark_id and mark is not None and not mark.mark_id else mark
        ids = _ids(manifest, heard, ledger)
        verdict, explanation = judge(manifest, heard, ledger, ids, recovery)
        if recovery is not None and manifest.status is ManifestStatus.NO_MANIFEST:
            manifest = dataclasses.replace(manifest, status=ManifestStatus.RECOVERED, explanation=_explain(recovery))
        return FileReport(
            source=source,
            sha256=sha256,
            verdict=verdict,
            explanation=explanation,
            manifest=manifest,
            mark=mark,
            ledger=ledger,
            latent=latent,
            public_mark=None if pixels is None else find_public_mark(pixels),
            ids=ids,
            exact=ledger.image_sha256 == sha256,
            likeness=None if fit is None else round(fit.likeness, 3),
            recovery=recovery,
            problem=problem,
        )

    def _look_for_mark(self, pixels: Pixels, mode: str) -> tuple[MarkReading, str]:
        if self._mark is None:
            return _unread("no watermark key in this installation")
        try:
            return self._mark.detect(pixels, mode), ""
        except WatermarkError as error:
            return _unread(error.message)

    def _recover(
        self, data: bytes, manifest: ManifestVerdict, pixels: Pixels | None, mark: MarkReading | None
    ) -> Recovery | None:
        if self._recoverer is None:
            return None
        try:
            return self._recoverer.recover(data, manifest, pixels, mark)
        except RepositoryError as error:
            # The file's own layers still say what they say.
            _log.warning("no kept manifest was looked for: %s", error.message)
            return None

    def _find_record(self, sha256: str, manifest: ManifestVerdict, mark: MarkReading | None) -> LedgerEvidence:
        if self._ledger is None:
            return LedgerEvidence(status=LedgerStatus.UNAVAILABLE, reason="this installation has no ledger")
        # The mark before the manifest: pixels can be traced even where a foreign manifest was put around them.
        try:
            for found_by, logged in (
                ("image", self._ledger.find_by_image(sha256)),
                ("watermark", self._ledger.find_by_mark(mark.mark_id) if mark is not None else None),
                ("manifest", self._ledger.find_by_manifest(manifest.manifest_id)),
            ):
                if logged is not None:
                    return self._evidence(self._ledger, logged, found_by)
        except LedgerCorrupt as error:
            # An entry so damaged that it cannot even be read.
            return LedgerEvidence(status=LedgerStatus.CORRUPT, reason=error.message)
        return LedgerEvidence(status=LedgerStatus.NO_RECORD, reason="no record of this image")

    def _signed_ids(self) -> list[tuple[str, int]]:
        """Ids and epochs of the newest recorded pictures that were drawn from signed noise."""
        if self._ledger is None:
            return []
        newest = len(self._ledger)
        logged = (self._ledger.find_by_index(index) for index in range(max(0, newest - MOST_CANDIDATES), newest))
        records = [entry.record for entry in logged if entry is not None]
        return [
            (record.mark_id, record.facts["latent"]["epoch"])
            for record in records
            if record.facts.get("latent", {}).get("scheme") == LATENT_SCHEME
        ]

    def _evidence(self, ledger: Ledger, logged: LoggedRecord, found_by: str) -> LedgerEvidence:
        record = logged.record
        try:
            proof, status, reason = ledger.verify_record(logged), LedgerStatus.VERIFIED, ""
        except LedgerError as error:
            proof, status, reason = None, LedgerStatus.CORRUPT, error.message
        facts = record.facts
        return LedgerEvidence(
            status=status,
            found_by=found_by,
            record_id=record.id,
            mark_id=record.mark_id,
            created_at=record.created_at,
            model=facts.get("generation", {}).get("model", ""),
            policy=f"{record.policy.id} {record.policy.version} ({record.policy.digest[:12]})",
            action=facts.get("action", ""),
            rules=tuple(finding["rule"] for finding in facts.get("findings", ())),
            image_sha256=record.image_sha256,
            edges=facts.get("edges", ""),
            size=_size(facts.get("generation", {})),
            proof=proof,
            reason=reason,
        )


def installed_trust(home: Path) -> TrustStore:
    """The roots of an installation's own development keys and time-stamp authority; nobody where it has none."""
    keys = homes.keys_folder(home)
    return TrustStore.dev(keys) if (keys / KEY_FOLDER).exists() else TrustStore.own_authority(keys)


def verify_bytes(data: bytes, *, home: Path | None = None, mode: str = "deep") -> FileReport:
    """Verify one file's bytes against the installation in `home`."""
    return Auditor.open(home).verify(data, mode=mode)


def _decode(data: bytes) -> tuple[Pixels | None, str]:
    try:
        return decode(data).pixels, ""
    except ImageError as error:
        return None, error.message


def _size(generation: Mapping[str, Any]) -> tuple[int, int] | None:
    return (generation["width"], generation["height"]) if "width" in generation and "height" in generation else None


def _fit(pixels: Pixels | None, mark: MarkReading | None, edges: str) -> Fit | None:
    """Where the pixels fit the recorded edges; None without a record, or one that holds no edges that can be read."""
    if pixels is None or not edges:
        return None
    try:
        recorded = EdgeMap.parse(edges)
    except ValueError:
        return None
    return recorded.fit(pixels, found_geometry(mark))


def _explain(recovery: Recovery) -> str:
    name = recovery.manifest.manifest_id or "an unreadable manifest"
    match recovery.level:
        case RecoveryLevel.BIT_IDENTICAL:
            return f"The file carries no manifest, but with {name} put back it is the signed file, byte for byte."
        case RecoveryLevel.CERTAIN:
            return f"The file carries no manifest; its watermark names {name}, and the picture is the recorded one."
        case RecoveryLevel.CANDIDATE:
            return f"The file carries no manifest; {name} may be its own ({recovery.found_by} alone): look at both."


def _bound(
    reading: MarkReading | None, ledger: LedgerEvidence, fit: Fit | None, *, vouched: bool
) -> MarkReading | None:
    """A reading, `present_unbound` when its record is of another picture, or cannot be compared."""
    if reading is None or reading.verdict is not MarkVerdict.PRESENT or ledger.status is not LedgerStatus.VERIFIED:
        return reading
    if vouched or reading.mark_id != ledger.mark_id or (fit is not None and fit.same):
        return reading
    return dataclasses.replace(reading, verdict=MarkVerdict.PRESENT_UNBOUND)


def _vouches(manifest: ManifestVerdict, ledger: LedgerEvidence) -> bool:
    """Whether a trusted manifest says that these bytes are the recorded picture: its hash covers them all."""
    return manifest.status is ManifestStatus.TRUSTED and manifest.manifest_id == f"urn:c2pa:{ledger.record_id}"


def _unread(reason: str) -> tuple[MarkReading, str]:
    reading = MarkReading(verdict=MarkVerdict.ERROR, scheme="", p_value=1.0, z=0.0, tests=0, stage="")
    return reading, reason


def _ids(manifest: ManifestVerdict, mark: MarkReading | None, ledger: LedgerEvidence) -> dict[str, str]:
    ids = {}
    if manifest.manifest_id and not _is_derived(manifest, ledger):
        try:
            ids["manifest"] = ImageId.parse(manifest.manifest_id).mark_id
        except ValueError:
            ids["manifest"] = manifest.manifest_id
    if mark is not None and mark.mark_id:
        ids["watermark"] = mark.mark_id
    if ledger.status is LedgerStatus.VERIFIED:
        ids["ledger"] = ledger.mark_id
    return ids


def _is_derived(manifest: ManifestVerdict, ledger: LedgerEvidence) -> bool:
    """Whether the manifest is of a picture that was made from the recorded one."""
    origin = f"urn:c2pa:{ledger.record_id} "
    return bool(ledger.record_id) and any(line.startswith(origin) for line in manifest.ancestry)
