"""Manifests of files that are signed already, taken into the repository."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from guardrails import home as homes
from guardrails.audit.auditor import installed_trust
from guardrails.audit.recovery import Appearance
from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus
from guardrails.errors import ImageError, RepositoryError
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.provenance import TrustStore, Verifier
from guardrails.provenance.repository import Repository, to_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of one file.

    Attributes:
        why: it was not kept; "" when it was.
    """

    source: str
    kept: bool
    manifest_id: str = ""
    why: str = ""


class Keeper:
    """Takes manifests in.

    Args:
        untrusted: also those that are intact, but of signers who are not trusted.
    """

    def __init__(self, repository: Repository, verifier: Verifier, *, untrusted: bool = False) -> None:
        self._repository, self._verifier = repository, verifier
        self._welcome = {ManifestStatus.TRUSTED} | ({ManifestStatus.VALID_UNTRUSTED} if untrusted else set())

    @classmethod
    def open(cls, home: Path | None = None, *, trust: TrustStore | None = None, untrusted: bool = False) -> Keeper:
        """The repository of an installation, made when there is none.

        Raises:
            StorageError: it cannot be written.
        """
        root = home or homes.home()
        verifier = Verifier((trust or TrustStore()) + installed_trust(root))
        return cls(Repository(homes.manifests_folder(root)), verifier, untrusted=untrusted)

    def keep(self, path: Path) -> Kept:
        """Keep one file's manifest; what speaks against it is told, not raised.

        Raises:
            StorageError: the repository cannot be written.
        """
        try:
            data = read_image_bytes(path)
            verdict = self._verifier.verify(data)
            if verdict.status not in self._welcome:
                return Kept(source=str(path), kept=False, manifest_id=verdict.manifest_id, why=verdict.explanation)
            # Of the very bytes that were verified: the file may be another one by now.
            entry = to_entry(
                io.BytesIO(data),
                manifest_id=verdict.manifest_id,
                mark_id=_own_mark(verdict.manifest_id, verdict.mark_id),
                fingerprints=Appearance.of(decode(data).pixels).upright,
            )
            self._repository.add(entry, replace=True)
        except (ImageError, RepositoryError) as error:
            return Kept(source=str(path), kept=False, why=error.message)
        return Kept(source=str(path), kept=True, manifest_id=verdict.manifest_id)


def _own_mark(manifest_id: str, declared: str) -> str:
    """The watermark id that a manifest declares, when it is the one that follows from its name.

    Otherwise whoever has a certificate could bind his manifest to the watermark of somebody else's picture.
    """
    try:
        return declared if ImageId.parse(manifest_id).mark_id == declared else ""
    except ValueError:
        return ""
