"""Hub models say quickly and clearly when they cannot be had."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from guardrails.encoders import load_encoder, text_side
from guardrails.errors import ModelUnavailable, OptionError

SPEC = "open_clip:ViT-B-32/laion2b_s34b_b79k"


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_offline_setting_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set") as caught:
        load_encoder(SPEC)
    assert "offline-clip" in caught.value.hint


def test_unreachable_hub_is_reported_without_long_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # Port 9 of this very machine (discard): refused at once, and nothing leaves the machine.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    start = time.monotonic()
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        load_encoder(SPEC)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("spec", ["open_clip:No-Such-Model/openai", "open_clip:ViT-B-32/no-such-tag"])
def test_names_that_open_clip_does_not_know_are_refused(spec: str) -> None:
    with pytest.raises(OptionError, match="no hub weights"):
        load_encoder(spec)


def save_small_model(folder: Path) -> None:
    """A model in open_clip's own form with one small layer a tower."""
    import open_clip
    from safetensors.torch import save_file

    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    network = open_clip.CLIP(**model)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")


def test_a_model_in_a_folder_needs_no_hub_and_brings_its_text_tower(tmp_path: Path) -> None:
    save_small_model(tmp_path / "small")
    encoder = load_encoder(f"folder:{tmp_path / 'small'}")
    pictures = [np.full((40, 60, 3), 200, dtype=np.uint8), np.zeros((32, 32, 3), dtype=np.uint8)]
    assert encoder.embed(pictures).shape == (2, encoder.dim) == (2, 16)
    text = text_side(encoder)
    assert text is not None
    assert text.embed(["a cat"]).shape == (1, 16)
    assert encoder.id.startswith("folder:small:")


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"no open_clip_config\.json"):
        load_encoder(f"folder:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match=r"no open_clip_model\.safetensors"):
        load_encoder(f"folder:{tmp_path}")


@pytest.mark.parametrize("broken", ["open_clip_config.json", "open_clip_model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"no model"])
def test_a_folder_whose_files_are_no_model_is_refused(tmp_path: Path, broken: str, content: bytes) -> None:
    save_small_model(tmp_path / "model")
    (tmp_path / "model" / broken).write_bytes(content)
    with pytest.raises(ModelUnavailable, match="holds no model of open_clip"):
        load_encoder(f"folder:{tmp_path / 'model'}")


def test_weights_of_another_shape_than_the_configuration_says_are_refused(tmp_path: Path) -> None:
    save_small_model(tmp_path / "model")
    config = tmp_path / "model" / "open_clip_config.json"
    config.write_text(config.read_text().replace('"embed_dim": 16', '"embed_dim": 24'))
    with pytest.raises(ModelUnavailable, match="holds no model of open_clip"):
        load_encoder(f"folder:{tmp_path / 'model'}")
