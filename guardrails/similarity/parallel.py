"""Builds by several processes: each part of a collection is read, decoded, hashed and written by the one that has it.

An id's checksum says which part its picture belongs to, as with the shards of `distributed`, so that nothing has to be
handed around: the process that started a build only names the sources, and takes the finished segments over. Ray runs
the parts, on this machine or on others that see the same folders under the same names. Needs the extra `distributed`;
Ray Data is not used, because its package needs pandas for nothing that is needed here.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrails.errors import OptionError
from guardrails.files import try_lock
from guardrails.similarity.distributed import gathered, shard_of, start_ray
from guardrails.similarity.ingest import BuildReport, Unreadable, ingest, write_unreadable
from guardrails.similarity.pointer import POINTER
from guardrails.similarity.sources import Item, read_source
from guardrails.similarity.store import Store

_PARTS = "parts"
_LOCK = "BUILD-LOCK"
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """What one process did.

    Attributes:
        cpu_seconds: that it took.
    """

    built: BuildReport
    cpu_seconds: float


def build_parallel(
    store: Store, sources: Sequence[Path], workers: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[BuildReport, list[PartReport]]:
    """Hash collections into one index with several processes; can be stopped at any time and called again.

    Args:
        workers: processes, each with one core.
        progress: told once a second how many pictures are in an index.

    Raises:
        OptionError: a source is no collection, one id is in two sources, or another process builds this index.
        StorageError: a folder cannot be written; what was added before stays.
    """
    lock = try_lock(store.folder / _LOCK)
    if lock is None:
        raise OptionError(f"another process builds {store.folder}", hint="wait for it, or stop it")
    try:
        reports = _build(store, sources, workers, progress)
    finally:
        os.close(lock)
    report = _together(reports)
    write_unreadable(store.folder, list(report.unreadable))
    return report, reports


def _build(store: Store, sources: Sequence[Path], workers: int, progress: Callable[[int], None]) -> list[PartReport]:
    folder = store.folder / _PARTS
    if folder.exists():
        # Of a build that was stopped.
        store.adopt([Store.open(part) for part in sorted(folder.iterdir()) if (part / POINTER).exists()])
        shutil.rmtree(folder)
    before = store.snapshot
    parts = [Store.create(folder / f"{number}", store.algorithm, store.settings) for number in range(workers)]
    reports = build_parts(sources, parts, progress, known=store.folder)
    store.adopt(parts, since=before)
    shutil.rmtree(folder)
    return reports


def build_sharded(
    sources: Sequence[Path], stores: Sequence[Store], progress: Callable[[int], None] = lambda done: None
) -> BuildReport:
    """Hash collections into the shards of a `ShardedIndex`, one process for each; can be stopped and called again.

    Args:
        stores: one for each shard, of the same hash; reachable under these names where the processes run.

    Raises:
        OptionError: a source is no collection.
        StorageError: a shard's folder cannot be written; what was added before stays.
    """
    return _together(build_parts(sources, stores, progress))


def build_parts(
    sources: Sequence[Path], stores: Sequence[Store], progress: Callable[[int], None], known: Path | None = None
) -> list[PartReport]:
    """Run one process for each store; `known` is an index whose entries are passed over."""
    import ray

    start_ray()
    task = ray.remote(_build_part).options(scheduling_strategy="SPREAD", num_cpus=1, max_retries=0)
    paths = [source.resolve() for source in sources]
    for path in paths:
        # What is no collection is said here, before anything starts.
        read_source(path)
    running = [
        task.remote(paths, store.folder.resolve(), number, len(stores), None if known is None else known.resolve())
        for number, store in enumerate(stores)
    ]
    waiting: list[Any] = running
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
        progress(sum(len(store) for store in stores))
    return gathered(running)


def _build_part(sources: list[Path], folder: Path, number: int, parts: int, known: Path | None) -> PartReport:
    """What one process does; the pictures of the other parts are not read."""
    started = time.process_time()
    store, there = Store.open(folder), None if known is None else Store.open(known)
    passed_over: set[str] = set()

    def wanted(name: str) -> bool:
        if shard_of(name, parts) != number:
            return False
        if there is not None and name in there:
            passed_over.add(name)
            return False
        return True

    def items() -> Iterator[Item]:
        for source in sources:
            yield from read_source(source, wanted)

    built = ingest(store, items())
    return PartReport(
        built=BuildReport(
            added=built.added,
            known=built.known + len(passed_over),
            unhashable=built.unhashable,
            unreadable=built.unreadable,
        ),
        cpu_seconds=time.process_time() - started,
    )


def _together(reports: Sequence[PartReport]) -> BuildReport:
    built = [report.built for report in reports]
    unreadable: list[Unreadable] = sorted((one for part in built for one in part.unreadable), key=lambda one: one.id)
    return BuildReport(
        added=sum(part.added for part in built),
        known=sum(part.known for part in built),
        unhashable=sum(part.unhashable for part in built),
        unreadable=tuple(unreadable),
    )
