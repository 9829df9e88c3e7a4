"""Indexes larger than one machine: every shard is a store's folder, served by a Ray actor on a machine that has it.

A radius search is a union over shards, so the answers are those of one index with all entries. Needs the extra
`distributed`; Ray must have been started, or is started here on this machine alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import GuardrailsError, IndexFormatError, OptionError
from guardrails.similarity.answers import Answer, RadiusIndex, check_codes, union, unknown
from guardrails.similarity.fingerprints import Region
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.store import Store


class Shard:
    """One store, as an actor holds it: runs in its own process, with its shard's pages in its machine's cache."""

    def __init__(self, folder: str) -> None:
        self._store = Store.open(Path(folder))
        self._store.warm()

    def algorithm(self) -> str:
        """The hash of its codes."""
        return self._store.algorithm

    def search_many(
        self, questions: list[NDArray[np.uint8]], radius: int, region_radii: Mapping[Region, int], limit: int
    ) -> list[Answer]:
        """See `ShardedIndex.search_many`."""
        return [self._store.search(codes, radius, region_radii=region_radii, limit=limit) for codes in questions]

    def add(self, entries: list[NewEntry]) -> int:
        """See `Store.add`."""
        return self._store.add(entries)

    def contains(self, ids: list[str]) -> list[bool]:
        """Which entries it holds."""
        return [entry_id in self._store for entry_id in ids]

    def set_state(self, entry_id: str, state: State, reason: str) -> None:
        """See `Store.set_state`."""
        self._store.set_state(entry_id, state, reason)


class ShardedIndex(RadiusIndex):
    """Several folders as one index.

    New entries go to the shard that their id's checksum names, so that every process agrees where an entry is.

    Args:
        folders: one store each, of the same hash; reachable under these names where the actors run.

    Raises:
        OptionError: no folder, or stores of different hashes.
        IndexFormatError: a store cannot be opened.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        import ray

        if not folders:
            raise OptionError("no shard was given", hint="name at least one index folder")
        start_ray()
        actor = ray.remote(Shard).options(scheduling_strategy="SPREAD", num_cpus=1)
        self._shards = [actor.remote(str(folder.resolve())) for folder in folders]
        names: set[str] = set(gathered([shard.algorithm.remote() for shard in self._shards]))
        if len(names) != 1:
            raise OptionError(f"the shards have different hashes: {', '.join(sorted(names))}", hint="serve them apart")
        (self._algorithm,) = names

    @property
    def algorithm(self) -> str:
        """The hash of all shards."""
        return self._algorithm

    def _search(self, codes: NDArray[np.uint8], radius: int, region_radii: Mapping[Region, int], limit: int) -> Answer:
        return self.search_many([codes], radius, region_radii=region_radii, limit=limit)[0]

    def search_many(
        self,
        questions: Sequence[NDArray[np.uint8]],
        radius: int,
        *,
        region_radii: Mapping[Region, int] | None = None,
        limit: int = 100,
    ) -> list[Answer]:
        """Many searches with one call to each shard: the call costs more than a search."""
        checked = [check_codes(codes, self._algorithm) for codes in questions]
        asked = [shard.search_many.remote(checked, radius, region_radii or {}, limit) for shard in self._shards]
        return [union(answers, limit) for answers in zip(*gathered(asked), strict=True)]

    def add(self, entries: Iterable[NewEntry]) -> int:
        """See `answers.RadiusIndex.add`; each shard takes its entries whole or not at all."""
        parts: list[list[NewEntry]] = [[] for _ in self._shards]
        for entry in entries:
            parts[shard_of(entry.id, len(self._shards))].append(entry)
        pairs = zip(self._shards, parts, strict=True)
        return sum(gathered([shard.add.remote(part) for shard, part in pairs if part]))

    def set_state(self, entry_id: str, state: State, reason: str = "") -> None:
        """See `answers.RadiusIndex.set_state`."""
        holding = gathered([shard.contains.remote([entry_id]) for shard in self._shards])
        holders = [shard for shard, (holds,) in zip(self._shards, holding, strict=True) if holds]
        if not holders:
            raise unknown(entry_id)
        gathered([shard.set_state.remote(entry_id, state, reason) for shard in holders])

    def close(self) -> None:
        """End the actors; the folders stay."""
        import ray

        for shard in self._shards:
            ray.kill(shard)


def shard_of(entry_id: str, shards: int) -> int:
    """Which of several shards an entry belongs to."""
    return crc32(entry_id.encode("utf-8")) % shards


def start_ray() -> None:
    """Join the Ray that this process belongs to, or start one on this machine without a dashboard."""
    import ray

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)


def gathered(references: list[Any]) -> list[Any]:
    """Results of actors or tasks; their own errors come through as they are."""
    import ray

    try:
        return list(ray.get(references))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GuardrailsError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise IndexFormatError(f"a shard does not answer: {error}", hint="open the sharded index again") from error
