"""Small banks for tests: lists of hashes and indexes of works, made of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.similarity.banks import BankSettings, Role
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.ingest import Intake
from guardrails.similarity.keypoint_index import KeypointIndex
from guardrails.similarity.sources import Item
from guardrails.similarity.store import Store


def bank_of(
    folder: Path,
    role: Role,
    works: Mapping[str, Pixels],
    facts: Mapping[str, str] | None = None,
    *,
    keypoints: bool = False,
) -> Store:
    """A bank in a new folder, whose name it has, with these works by their ids.

    Args:
        works: RGB, uint8, height x width x 3.
        facts: of every work.
        keypoints: parts of the works are found, too.
    """
    if keypoints:
        KeypointIndex.create(folder)
    store = Store.create(folder, PDQ256, BankSettings.default(folder.name, role, PDQ256).to_json())
    intake = Intake(store)
    items = [Item(entry, encode(pixels, ImageFormat.PNG), facts or {}) for entry, pixels in works.items()]
    intake.add([intake.hash(item) for item in items])
    return store
