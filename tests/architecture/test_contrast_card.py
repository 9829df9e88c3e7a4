"""The card of the contrast pairs says what the files say."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_counts_are_those_of_the_files(checkout: Path) -> None:
    folder = checkout / "datasets" / "contrast"
    card = (folder / "README.md").read_text(encoding="utf-8")
    written = {name: int(count) for name, count in re.findall(r"^\| (\w+) \| (\d+) \|", card, flags=re.M)}
    lines = {file.stem: len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in folder.glob("*.tsv")}
    assert written == lines
