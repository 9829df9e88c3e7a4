"""Entries of one index taken over by another: linked when nothing can clash, else one by one."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.similarity.distributed import shard_of
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.parts import NewEntry, SegmentPart, State
from guardrails.similarity.store import Store
from guardrails.similarity.thumbnails import Thumbnails


def works(count: int) -> list[NewEntry]:
    rng = np.random.default_rng(5)
    return [
        NewEntry(f"work {n}", [(region, rng.bytes(32)) for region in range(n % 3)], {"creator": f"artist {n}"})
        for n in range(count)
    ]


@pytest.fixture
def parts(tmp_path):
    made = [Store.create(tmp_path / f"part-{number}", PDQ256) for number in range(2)]
    for number, part in enumerate(made):
        part.add(work for work in works(60) if shard_of(work.id, 2) == number)
        part.merge(everything=True)
        Thumbnails(part.folder).put({f"thumbnail of {number}": b"webp"})
    return made


def assert_holds_all(store: Store) -> None:
    expected = Store.create(store.folder.parent / "expected", PDQ256)
    expected.add(works(60))
    for work in works(60):
        for _, code in work.rows:
            asked = np.frombuffer(code, np.uint8)[None]
            assert store.search(asked, 31) == expected.search(asked, 31)
    assert len(store) == 60
    assert [Thumbnails(store.folder).get(f"thumbnail of {number}") for number in range(2)] == [b"webp"] * 2


def test_segments_are_linked_where_nothing_can_clash(parts, tmp_path):
    store = Store.create(tmp_path / "whole", PDQ256)
    store.adopt(parts, since=store.snapshot)
    names = {part.segment.name for part in store.parts if isinstance(part, SegmentPart)}
    assert names == {part.segment.name for other in parts for part in other.parts if isinstance(part, SegmentPart)}
    assert_holds_all(store)
    Store.open(store.folder).verify()
    # What was linked is the index's own: a merge leaves nothing of it behind.
    store.set_state("work 7", State.CONFIRMED)
    store.merge(everything=True)
    assert (len(store), store.state("work 7")) == (60, State.CONFIRMED)


def test_what_came_meanwhile_stays_as_it_is(parts, tmp_path):
    store = Store.create(tmp_path / "whole", PDQ256)
    before = store.snapshot
    store.add([works(60)[4]])
    store.set_state("work 4", State.DISABLED)
    assert store.snapshot != before
    store.adopt(parts, since=before)
    assert (len(store), store.state("work 4")) == (60, State.DISABLED)
    store.set_state("work 4", State.ACTIVE)
    assert_holds_all(store)


def test_adopting_twice_adds_nothing(parts, tmp_path):
    store = Store.create(tmp_path / "whole", PDQ256)
    store.adopt(parts)
    store.adopt(parts)
    assert_holds_all(store)
