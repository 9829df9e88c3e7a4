"""`guardrails policy train-head` from files to a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardrails.cli.main import main

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "grey", "brown")
THINGS = ("car", "house", "boat", "chair", "apple", "tower", "lamp")


@pytest.fixture
def contrast(tmp_path: Path) -> Path:
    folder = tmp_path / "contrast"
    folder.mkdir()
    lines = [f"a {c} {t} on fire\ta {c} {t} in the rain" for c in COLOURS for t in THINGS]
    (folder / "violence.tsv").write_text("unsafe\tbenign\n" + "\n".join(lines) + "\n")
    return folder


def test_heads_are_trained_calibrated_and_described(
    contrast: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    words = ["policy", "train-head", "--contrast", contrast, "--out", out, "--frozen", "--epochs", 2, "--json"]
    if main([str(word) for word in words]) == 5:
        pytest.skip("the weights carrier is not installed")
    card = json.loads(capsys.readouterr().out)
    assert card == json.loads((out / "card.json").read_text())
    assert card["adapter_sha256"] == ""
    assert 30 < card["categories"]["violence"]["pairs"] < len(COLOURS) * len(THINGS)
    assert set(card["calibrated_on"]) == {"contrast"}
    assert (out / "heads.npz").is_file()
    assert not (out / "adapter.npz").exists()


def test_nothing_left_to_train_on_is_an_error(contrast: Path, tmp_path: Path) -> None:
    words = ["policy", "train-head", "--contrast", contrast, "--out", tmp_path / "o", "--leave-out", "violence"]
    assert main([str(word) for word in words]) == 2


def test_an_adapter_needs_minilm(contrast: Path, tmp_path: Path) -> None:
    words = [
        "policy",
        "train-head",
        "--contrast",
        contrast,
        "--out",
        tmp_path / "o",
        "--frozen",
        "--start-from",
        tmp_path,
    ]
    assert main([str(word) for word in words]) == 2
