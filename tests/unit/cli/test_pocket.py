from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrails.pocket.dataset import Picture, write_manifest
from guardrails.pocket.sources import EMOJI_SETS, Drawing
from guardrails.similarity.search import SimilarityIndex
from guardrails.testing.doubles import draw_shapes

WORKS = 3


def picture(number: int) -> Picture:
    return Picture(
        id=f"set:{number}",
        name=f"work {number}",
        set="set",
        style="plain",
        group="objects",
        keywords="",
        licence="CC0-1.0",
        licence_url="",
        creator="Ada",
        package="set@1",
        sha256=f"{number:064x}",
        trained="yes",
        rights="",
    )


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a manifest of three works in the place of the shipped one."""
    folder = tmp_path / "datasets"
    write_manifest(folder / "pocket" / "manifest.csv", [picture(number) for number in range(WORKS)])
    for module in ("guardrails.resources", "guardrails.pipeline.pictures"):
        monkeypatch.setattr(f"{module}.datasets_path", lambda *parts: folder.joinpath(*parts))
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder with the pictures of the three works."""
    folder = tmp_path / "work"
    folder.mkdir()
    opaque = np.full((256, 256, 1), 255, np.uint8)
    np.save(folder / "pictures.npy", np.stack([np.dstack([draw_shapes(n), opaque]) for n in range(WORKS)]))
    (folder / "pictures.done").write_text(str(WORKS))
    return folder


def test_an_index_of_the_rendered_pictures_finds_them(datasets: Path, work: Path, run: Callable[..., Any]) -> None:
    result = run("pocket", "index", "--work", work, "--json")

    assert result.status == 0
    assert result.json["entries"] == WORKS
    index = SimilarityIndex.open(work / "index", entries=datasets / "pocket" / "manifest.csv")
    found = index.find(draw_shapes(1))
    assert "set:1" in [match.entry for match in found.matches]


def test_an_index_needs_all_pictures(
    datasets: Path, work: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    (work / "pictures.done").write_text("2")

    result = run("pocket", "index", "--work", work)

    one_line_error(result, "dataset_unavailable", 5)
    assert "guardrails pocket build" in result.err
    assert not (work / "index").exists()


@pytest.mark.parametrize("part", ["autoencoder", "diffusion"])
def test_training_needs_pictures(
    part: str, tmp_path: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    result = run("pocket", "train", part, "--work", tmp_path)

    one_line_error(result, "dataset_unavailable", 5)
    assert list(tmp_path.iterdir()) == []


def test_a_rebuild_says_how_much_of_it_equals_the_manifest(
    datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    square = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="red" d="M1 1h6v6h-6z"/></svg>'
    drawing = Drawing(id="set:square", name="square", set=EMOJI_SETS[0], group="objects", keywords=(), svg=square)

    def drawings(_: Path) -> Iterable[Drawing]:
        return [drawing]

    monkeypatch.setattr("guardrails.pocket.dataset.read_drawings", drawings)

    foreign = run("pocket", "build", "--work", tmp_path / "work", "--json")
    written = run("pocket", "build", "--work", tmp_path / "work", "--write-manifest", "--json")

    assert (foreign.json["pictures"], foreign.json["equal_to_manifest"]) == (1, 0)
    assert (written.json["pictures"], written.json["equal_to_manifest"]) == (1, 1)
