"""Small synthetic works: random shapes on white, and what a model might make of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from guardrails.imaging import Pixels
from guardrails.similarity.building import build_index
from guardrails.similarity.entries import read_entries

WORKS = 24
COLUMNS = ["id", "name", "set", "licence", "licence_url", "creator", "package", "sha256", "rights"]


def draw_work(seed: int, background: tuple[int, int, int] = (255, 255, 255)) -> Pixels:
    """A cluster of coloured shapes, 256 x 256, the same for the same seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (256, 256), background)
    draw = ImageDraw.Draw(image)
    draw.ellipse((48, 48, 208, 208), fill=tuple(int(v) for v in rng.integers(40, 200, 3)))
    for _ in range(14):
        x, y = (int(v) for v in rng.integers(40, 180, 2))
        w, h = (int(v) for v in rng.integers(12, 60, 2))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, min(x + w, 216), min(y + h, 216)), fill=tuple(int(v) for v in rng.integers(0, 230, 3)))
    return np.asarray(image)


def reproduce(work: Pixels, seed: int) -> Pixels:
    """The work smaller, elsewhere, softer, tinted and noisy, as an imprecise decoder would give it back."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(165, 235))
    left, top = (int(v) for v in rng.integers(0, 256 - side, 2))
    picture = np.full((256, 256, 3), 255, np.uint8)
    picture[top : top + side, left : left + side] = cv2.resize(work, (side, side), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(picture, (0, 0), 1.0) * rng.uniform(0.95, 1.03, 3) + rng.normal(0, 3, picture.shape)
    return np.clip(soft, 0, 255).astype(np.uint8)


@pytest.fixture
def works() -> list[Pixels]:
    return [draw_work(seed) for seed in range(WORKS)]


@pytest.fixture
def copy_of() -> Callable[[Pixels, int], Pixels]:
    return reproduce


@pytest.fixture
def work_on() -> Callable[..., Pixels]:
    return draw_work


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an entry table and an index over all works; work 3 is reserved."""
    folder = tmp_path_factory.mktemp("collection")
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(WORKS):
            reservation = "opt-out" if number == 3 else ""
            rights = ["CC-BY-4.0", "https://example.org/by", f"artist {number % 2}", "pkg@1"]
            writer.writerow([f"set:{number}", f"work {number}", "set", *rights, f"{number:064x}", reservation])
    entries = read_entries(folder / "manifest.csv")
    build_index((draw_work(seed) for seed in range(WORKS)), entries, folder / "index")
    return folder
