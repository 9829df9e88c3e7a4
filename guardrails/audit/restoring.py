"""A stripped file gets its manifest back, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guardrails import home as homes
from guardrails.audit.auditor import Auditor, installed_trust
from guardrails.audit.recovery import identical
from guardrails.domain.images import ManifestVerdict, Recovery, RecoveryLevel
from guardrails.errors import ImageError, OptionError, RepositoryError
from guardrails.files import publish, stage, sync, write_atomically
from guardrails.imaging.decoding import DEFAULT_LIMITS
from guardrails.provenance import Verifier
from guardrails.provenance.placement import locate
from guardrails.provenance.repository import Entry, Repository, attach, rest_digest

SIDECAR_SUFFIX = ".c2pa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was written.

    Attributes:
        recovery: None when nothing was found; then nothing was written.
        target: name of the signed file made again, or of the manifest store alone; "" when nothing was written.
    """

    source: str
    recovery: Recovery | None
    target: str = ""

    @property
    def is_sure(self) -> bool:
        """Whether the manifest belongs to the file beyond a candidate."""
        return self.recovery is not None and self.recovery.level is not RecoveryLevel.CANDIDATE


def restore(source: Path, out: Path | None, *, home: Path | None = None) -> Restored:
    """Write the signed file again where only its manifest was cut out, else the kept manifest alone.

    The file is copied in pieces, whatever its size; only one within the image limits is looked at for a watermark.

    Raises:
        ImageError: the file cannot be read.
        OptionError: it carries a manifest.
        RepositoryError: there is no repository.
        StorageError: the result cannot be written.
    """
    root = home or homes.home()
    with Repository(homes.manifests_folder(root), create=False) as repository:
        whole = out or source.with_name(f"{source.stem}.recovered{source.suffix}")
        entry = _reattach(source, whole, repository)
        if entry is not None:
            return Restored(
                source=str(source), recovery=identical(entry, _verify(root, whole, entry)), target=str(whole)
            )
        recovery = Auditor.open(root).verify_file(source).recovery
        entry = repository.by_manifest(recovery.manifest.manifest_id) if recovery else None
    if recovery is None or entry is None:
        return Restored(source=str(source), recovery=None)
    sidecar = out or source.with_name(source.name + SIDECAR_SUFFIX)
    write_atomically(sidecar, entry.store)
    return Restored(source=str(source), recovery=recovery, target=str(sidecar))


def _reattach(source: Path, target: Path, repository: Repository) -> Entry | None:
    try:
        if not source.is_file():
            raise ImageError(f"{source} is missing or no regular file", hint="name a file that lost its manifest")
        file = source.open("rb")
    except OSError as error:
        raise ImageError(f"cannot read {source}: {error.strerror or error}", hint="make it readable") from error
    with file:
        if locate(file) is not None:
            raise OptionError(f"{source} carries a manifest", hint="see what it proves with `guardrails verify`")
        for entry in repository.by_rest(rest_digest(file)):
            staged = stage(target.parent, b"")
            try:
                with staged.open("wb") as copy:
                    attach(file, entry, copy)
                    sync(copy)
                publish(staged, target)
            except RepositoryError:
                continue
            finally:
                staged.unlink(missing_ok=True)
            return entry
    return None


def _verify(root: Path, path: Path, entry: Entry) -> ManifestVerdict:
    """What the manifest proves; of a file that is too large to be read at once, without the file.

    Its bytes were then compared with the digest of the signed file, which was verified when its manifest was kept.
    """
    verifier = Verifier(installed_trust(root))
    if path.stat().st_size > DEFAULT_LIMITS.max_bytes:
        return verifier.verify_store(entry.store)
    return verifier.verify(path.read_bytes())
