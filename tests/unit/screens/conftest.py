"""A pack of one concept and safe pictures, in the space of `guardrails.testing.spaces`."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.testing.spaces import safe_pictures


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("references") / "references.npz"
    path.write_bytes(safe_pictures())
    return path


@pytest.fixture
def pack_file(tmp_path: Path) -> Path:
    path = tmp_path / "pack.yaml"
    path.write_text(
        "api_version: concepts/v1\nid: house\nversion: '1'\nowner: tests\nagainst: [flower]\nconcepts:\n"
        "  - {id: weapon, kind: text, category: weapons, action: block, phrases: [gun], negatives: [drill]}\n"
    )
    return path
