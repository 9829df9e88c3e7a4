"""Builds of an index with keypoints that die: entries and keypoints never part, and the next build makes both whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.imaging import Pixels
from guardrails.similarity.banks import Banks, BankSettings, Role
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.ingest import ingest
from guardrails.similarity.keypoint_index import KeypointIndex
from guardrails.similarity.sources import read_source
from guardrails.similarity.store import Store
from guardrails.testing.doubles import draw_textures

WORKS = 6

# Dies by SIGKILL before or after one call; batches of two works, each added to the keypoints and then to the entries.
KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from guardrails.similarity import ingest, journal
from guardrails.similarity.sources import read_source
from guardrails.similarity.store import Store

index, pictures, name, number, when = sys.argv[1:]
ingest._BATCH = 2
owner = {"add": Store, "merge": Store, "fsync": journal.os}[name]
real, calls = getattr(owner, name), 0

def counted(*arguments, **more):
    global calls
    calls += 1
    if calls == int(number) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **more)
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

opened = Store.open(Path(index))
setattr(owner, name, counted)
ingest.ingest(opened, read_source(Path(pictures)))
"""
# What died, and how many works the index and its keypoints then hold.
POINTS = {
    "before anything was added": ("add", 1, "before", 0, 0),
    "between keypoints and entries": ("add", 1, "after", 0, 2),
    "after a batch": ("add", 2, "after", 2, 2),
    "between keypoints and entries, later": ("add", 3, "after", 2, 4),
    "before the merges": ("merge", 1, "before", 6, 6),
    "between the merges": ("merge", 1, "after", 6, 6),
    "after the merges": ("merge", 2, "after", 6, 6),
}
# Files are synced in an order that is the store's own affair.
SYNCS = range(1, 9)


@pytest.fixture(scope="module")
def works() -> list[Pixels]:
    return [draw_textures(number, 240) for number in range(WORKS)]


@pytest.fixture(scope="module")
def pictures(works: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(works):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def empty(folder: Path) -> Store:
    KeypointIndex.create(folder)
    return Store.create(folder, PDQ256, BankSettings.default("list", Role.PROTECTED, PDQ256).to_json())


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Digests of an index that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "list"
    ingest(empty(folder), read_source(pictures))
    return digests(folder)


def digests(folder: Path) -> tuple[str, str]:
    keypoints = KeypointIndex.of(folder)
    assert keypoints is not None
    return Store.open(folder).digest, keypoints.store.digest


@pytest.fixture
def killed(pictures: Path, tmp_path: Path) -> Callable[..., Path]:
    def at(name: str, number: int, when: str) -> Path:
        empty(tmp_path / "list")
        arguments = [str(tmp_path / "list"), str(pictures), name, str(number), when]
        done = subprocess.run([sys.executable, "-c", KILLED_BUILD, *arguments], timeout=300, check=False)
        assert done.returncode == -9
        return tmp_path / "list"

    return at


def check(folder: Path, works: list[Pixels], pictures: Path, whole: tuple[str, str]) -> tuple[int, int]:
    """Nothing is half there, and the next build gives what an undisturbed one gives; returns what was there."""
    store, keypoints = Store.open(folder), KeypointIndex.of(folder)
    assert keypoints is not None
    names = {f"{number}.png" for number in range(WORKS)}
    entries, pointed = ({name for name in names if name in one} for one in (store, keypoints.store))
    assert entries <= pointed
    assert found(folder, works) == entries
    ingest(store, read_source(pictures))
    assert digests(folder) == whole
    assert found(folder, works) == names
    return len(entries), len(pointed)


def found(folder: Path, works: list[Pixels]) -> set[str]:
    """The works that their parts lead to."""
    banks, fingerprinter = Banks.open([folder]), Fingerprinter(PDQ256)
    parts = [np.ascontiguousarray(work[40:200, 30:190]) for work in works]
    return {part.located.id for one in parts for part in banks.match(fingerprinter.fingerprint(one), one).parts}


@pytest.mark.parametrize("point", POINTS)
def test_a_build_killed_between_keypoints_and_entries_is_made_whole(
    point: str, killed: Callable[..., Path], works: list[Pixels], pictures: Path, whole: tuple[str, str]
) -> None:
    name, number, when, *there = POINTS[point]
    assert check(killed(name, number, when), works, pictures, whole) == tuple(there)


@pytest.mark.slow
@pytest.mark.parametrize("number", SYNCS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_build_killed_at_any_sync_is_made_whole(
    number: int, when: str, killed: Callable[..., Path], works: list[Pixels], pictures: Path, whole: tuple[str, str]
) -> None:
    check(killed("fsync", number, when), works, pictures, whole)
