"""The repository: add manifests, find them again."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from guardrails.provenance.repository.entries import Entry
from guardrails.provenance.repository.fingerprints import Codes
from guardrails.provenance.repository.store import DATABASE_FILE, Store

ISCC_BYTES, PDQ_BYTES = 8, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """An entry whose fingerprint is near.

    Attributes:
        iscc, pdq: bits in which they differ, of 64 and of 256; None for the one that was not asked for or not near.
    """

    entry: Entry
    iscc: int | None
    pdq: int | None


class Repository:
    """Manifests by name, watermark id, digest and fingerprint. Safe between threads, and usable after a fork.

    Args:
        folder: of the database.
        create: make it when it is not there; else it is opened for reading.

    Raises:
        RepositoryError: there is none, or the file is something else.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self._folder, self._create = folder, create
        self._guard = threading.RLock()
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._store = Store(self._folder, create=self._create)
        self._iscc, self._pdq = Codes(ISCC_BYTES), Codes(PDQ_BYTES)
        self._loaded = 0

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether there is something to open; False also where a process died before anything was kept."""
        path = folder / DATABASE_FILE
        return path.is_file() and path.stat().st_size > 0

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._guard:
            return self._current().count()

    def close(self) -> None:
        with self._guard:
            self._current().close()

    def add(self, entry: Entry, *, replace: bool = False) -> None:
        """Keep a manifest; durable when this returns. Adding it again changes nothing.

        Args:
            replace: put it in the place of another one with the same id (the same file, time-stamped later).

        Raises:
            RepositoryError: another manifest has this id.
            StorageError: the disk is full.
        """
        self.add_all([entry], replace=replace)

    def add_all(self, entries: Iterable[Entry], *, replace: bool = False) -> None:
        """Keep many manifests in one transaction: all or none."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self._guard:
            self._current().insert((dataclasses.replace(entry, added_at=now) for entry in entries), replace=replace)

    def remove(self, manifest_id: str) -> bool:
        """Forget a manifest; False when it was not there."""
        with self._guard:
            return self._current().delete(manifest_id)

    def by_manifest(self, manifest_id: str) -> Entry | None:
        with self._guard:
            return self._current().by_manifest(manifest_id)

    def by_mark(self, mark_id: str) -> list[Entry]:
        """Everything bound to a watermark id, newest first."""
        with self._guard:
            return self._current().by_mark(mark_id)

    def by_rest(self, rest_sha256: bytes) -> list[Entry]:
        """Everything that was cut out of a file with this `rest_digest`, newest first."""
        with self._guard:
            return self._current().by_rest(rest_sha256)

    def by_fingerprint(
        self,
        *,
        iscc: Iterable[bytes] = (),
        iscc_radius: int = 0,
        pdq: Iterable[bytes] = (),
        pdq_radius: int = 0,
        limit: int = 100,
    ) -> list[Near]:
        """Every entry within a radius of one of the codes, exactly; the nearest first.

        Args:
            iscc, pdq: codes of one picture, for example one for each of its orientations.
            iscc_radius, pdq_radius: in bits, of 64 and of 256.
            limit: at most so many, the nearest.
        """
        with self._guard:
            store = self._current()
            self._load(store)
            by_iscc, by_pdq = self._iscc.near(iscc, iscc_radius), self._pdq.near(pdq, pdq_radius)
            near = {number: (by_iscc.get(number), by_pdq.get(number)) for number in by_iscc.keys() | by_pdq.keys()}
            found: list[Near] = []
            for number in sorted(near, key=lambda number: _distance(*near[number])):
                # A number without an entry was removed since it was loaded.
                if len(found) < limit and (entry := store.by_number(number)) is not None:
                    found.append(Near(entry=entry, iscc=near[number][0], pdq=near[number][1]))
        return found

    def newest(self, limit: int) -> list[Entry]:
        with self._guard:
            return self._current().newest(limit)

    def _current(self) -> Store:
        if self._process != os.getpid():
            # A connection must not be used in two processes; the parent closes its own.
            self._open()
        return self._store

    def _load(self, store: Store) -> None:
        rows = store.fingerprints_after(self._loaded)
        if not rows:
            return
        self._loaded = rows[-1][0]
        with_iscc = [(number, iscc) for number, iscc, _ in rows if len(iscc) == ISCC_BYTES]
        with_pdq = [(number, pdq) for number, _, pdq in rows if len(pdq) == PDQ_BYTES]
        for codes, known in ((self._iscc, with_iscc), (self._pdq, with_pdq)):
            codes.extend([number for number, _ in known], b"".join(code for _, code in known))


def _distance(iscc: int | None, pdq: int | None) -> float:
    """Share of differing bits of the nearer fingerprint."""
    return min(
        iscc / (8 * ISCC_BYTES) if iscc is not None else 1.0,
        pdq / (8 * PDQ_BYTES) if pdq is not None else 1.0,
    )
