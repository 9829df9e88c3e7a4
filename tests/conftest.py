"""One installation for all tests of whole guards: the keys are made once, the ledger is each test's own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from guardrails import home as homes
from guardrails.pipeline import Guard
from guardrails.provenance import create_dev_chain
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, passing_screens
from guardrails.watermark.keys import KEY_FILE, Keyring

# The same examples in every run, and no limit in wall-clock time: a machine that is busy with other work is no fault.
settings.load_profile("ci")


def make_keys(root: Path) -> Path:
    keys = homes.keys_folder(root)
    create_dev_chain(keys, now=datetime.now(UTC))
    (keys / KEY_FILE).write_bytes(hashlib.sha256(b"the same marks in every run").digest())
    Keyring.load_or_create(keys)
    return root


@pytest.fixture(scope="session")
def keyed_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with keys and nothing else; not to be changed."""
    return make_keys(tmp_path_factory.mktemp("installation"))


@pytest.fixture
def home(keyed_home: Path, tmp_path: Path) -> Path:
    """An installation of this test's own, with the keys of all."""
    shutil.copytree(keyed_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="session")
def guard_in() -> Callable[..., Guard]:
    """Builds a guard of doubles in a home; every part can be given."""

    def build(home: Path, generator: Any = None, **parts: Any) -> Guard:
        parts = {"screens": passing_screens(), "index": FixedIndex()} | parts
        return Guard(ShapeGenerator() if generator is None else generator, home=home, **parts)

    return build


@pytest.fixture
def guard(home: Path, guard_in: Callable[..., Guard]) -> Guard:
    """A guard of doubles that releases what the prompt policy allows."""
    return guard_in(home)
