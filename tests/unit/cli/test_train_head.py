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


def test_a_fold_that_is_set_aside_is_used_for_nothing(
    contrast: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    cards = []
    for more in ([], ["--set-aside", 0]):
        words = ["policy", "train-head", "--contrast", contrast, "--out", tmp_path / "o", "--frozen", "--epochs", 1]
        if main([str(word) for word in [*words, "--json", *more]]) == 5:
            pytest.skip("the weights carrier is not installed")
        cards.append(json.loads(capsys.readouterr().out))
    assert cards[1]["set_aside"] == [0]
    assert cards[1]["trained_on"]["contrast"]["unsafe"] < cards[0]["trained_on"]["contrast"]["unsafe"]
    assert cards[1]["calibrated_on"] == cards[0]["calibrated_on"]


def test_heads_can_read_with_the_text_encoder_of_a_pipeline(
    contrast: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The adapter and the heads on it, from training to an assessment."""
    pytest.importorskip("diffusers")
    from guardrails.encoders.pipeline_text import load_pipeline_text
    from guardrails.prompts.heads import load_heads
    from guardrails.prompts.semantics import PromptModel
    from guardrails.resources import datasets_path

    pipeline, out = datasets_path("pocket", "model"), tmp_path / "out"
    words = ["policy", "train-head", "--contrast", contrast, "--out", out, "--pipeline", pipeline, "--epochs", 8]
    assert main([str(word) for word in [*words, "--json"]]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["encoder"].startswith("pipeline-text:")
    assert card["adapter_sha256"] == ""
    model = PromptModel(encoder=load_pipeline_text(pipeline), heads=load_heads(out / "heads.npz"))
    pairs = [(f"a {colour} lamp on fire", f"a {colour} lamp in the rain") for colour in COLOURS]
    scores = [[model.assess(text)[0].score for text in pair] for pair in pairs]
    assert all(0 <= score <= 1 for pair in scores for score in pair)
    assert sum(unsafe > benign for unsafe, benign in scores) >= 7


def test_a_folder_without_a_text_encoder_is_named(contrast: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    words = ["policy", "train-head", "--contrast", contrast, "--out", tmp_path / "o", "--pipeline", tmp_path]
    assert main([str(word) for word in words]) == 5


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
