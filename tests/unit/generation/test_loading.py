from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from guardrails.errors import ModelUnavailable
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.loading import load_generator
from guardrails.generation.weights import weights_sha256
from guardrails.testing.pipelines import tiny_pipeline

KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def own_copy(saved, tmp_path) -> Path:
    """A saved pipeline that a test may damage."""
    return Path(shutil.copytree(saved("sd1"), tmp_path / "model"))


@pytest.fixture
def no_hub(monkeypatch):
    """The address of a hub that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_pipeline_draws_the_same_pixels_when_loaded(kind, ask, saved, shared_pipeline):
    in_memory = DiffusersGenerator(shared_pipeline(kind), name="tiny", device="cpu")
    loaded = load_generator(str(saved(kind)), device="cpu")
    wanted, got = (each.draw(ask(count=1), "a red cube")[0] for each in (in_memory, loaded))
    assert np.array_equal(wanted.pixels, got.pixels)
    assert got.facts.model == f"tiny-{kind}"
    assert got.facts.weights_sha256 == weights_sha256(saved(kind))
    assert weights_sha256(loaded.pipeline) == weights_sha256(tiny_pipeline(kind))


def test_a_folder_without_model_index_says_so(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"no model_index\.json"):
        load_generator(str(tmp_path))


@pytest.mark.parametrize("model", ["no/such/folder/here", "/nowhere", "plain", "", "owner/../name", "a" * 5000])
def test_what_is_neither_folder_nor_hub_id_is_refused(model):
    with pytest.raises(ModelUnavailable):
        load_generator(model)


def test_weights_in_a_pickle_are_not_loaded(own_copy):
    weights = own_copy / "unet" / "diffusion_pytorch_model.safetensors"
    assert weights.is_file()
    torch.save(tiny_pipeline("sd1").unet.state_dict(), weights.with_suffix(".bin"))
    load_generator(str(own_copy))  # the safetensors file is there
    weights.unlink()
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_generator(str(own_copy))


def test_a_text_encoder_in_a_pickle_is_not_loaded(own_copy):
    weights = own_copy / "text_encoder" / "model.safetensors"
    weights.unlink()
    torch.save(tiny_pipeline("sd1").text_encoder.state_dict(), weights.with_name("pytorch_model.bin"))
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_generator(str(own_copy))


@pytest.mark.parametrize(
    ("entry", "value", "file"),
    [
        ("_class_name", ["planted", "Planted"], "planted.py"),
        ("_class_name", "Planted", "pipeline.py"),
        ("unet", ["planted", "Planted"], "unet/planted.py"),
        ("unet", ["planted", "Planted"], "planted.py"),
    ],
)
def test_code_in_a_model_folder_is_not_run(entry, value, file, own_copy, tmp_path, monkeypatch):
    marker = tmp_path / "was-run"
    (own_copy / file).write_text(f"open({str(marker)!r}, 'w').close()\nclass Planted: ...\n")
    index = own_copy / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {entry: value}))
    monkeypatch.syspath_prepend(str(own_copy))
    with pytest.raises(ModelUnavailable):
        load_generator(str(own_copy))
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"_class_name": "os.system"}', b"\xff\xfe"])
def test_a_damaged_model_index_is_refused(content, own_copy):
    (own_copy / "model_index.json").write_bytes(content)
    with pytest.raises(ModelUnavailable):
        load_generator(str(own_copy))


def test_damaged_weights_are_refused(own_copy):
    weights = own_copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_generator(str(own_copy))


@pytest.mark.usefixtures("no_hub")
def test_an_unreachable_hub_is_reported_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match="cannot be reached") as caught:
        load_generator("nobody/no-such-model")
    assert time.monotonic() - started < 5.0
    assert "local folder" in caught.value.hint


def test_a_hub_that_never_answers_is_given_up_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            load_generator("nobody/no-such-model")
    assert time.monotonic() - started < 5.0


@pytest.mark.usefixtures("no_hub")
def test_a_cached_hub_model_is_used_when_the_hub_is_away_and_its_commit_is_recorded(saved, tmp_path, monkeypatch, ask):
    repository = tmp_path / "models--tiny--model"
    shutil.copytree(saved("sd2"), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    facts = load_generator("tiny/model", device="cpu").draw(ask(count=1), "x")[0].facts
    assert (facts.model, facts.revision) == ("tiny/model", COMMIT)
