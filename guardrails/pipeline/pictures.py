"""Reference pictures of the shipped index, where this machine has rebuilt them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.resources import datasets_path


class RebuiltPictures:
    """Reads `pictures.npy` (uint8 RGBA, n x 256 x 256 x 4, in the order of the manifest) by entry id."""

    def __init__(self, store: NDArray[np.uint8], rows: dict[str, int]) -> None:
        self._store = store
        self._rows = rows

    @classmethod
    def open(cls, folder: Path) -> RebuiltPictures | None:
        """The pictures under `folder`, or None when they were not rebuilt here (completely)."""
        path, done = folder / "pictures.npy", folder / "pictures.done"
        with datasets_path("pocket", "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = {row["id"]: number for number, row in enumerate(csv.DictReader(file))}
        if not path.is_file() or not done.is_file() or int(done.read_text()) != len(rows):
            return None
        return cls(np.load(path, mmap_mode="r"), rows)

    def picture(self, entry_id: str) -> Pixels | None:
        """The picture on white, RGB uint8 (256, 256, 3)."""
        row = self._rows.get(entry_id)
        if row is None:
            return None
        rgba = self._store[row].astype(np.uint16)
        alpha = rgba[..., 3:]
        on_white: Pixels = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        return on_white
