from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from guardrails.errors import ModelUnavailable
from guardrails.generation.weights import weights_sha256
from guardrails.testing.pipelines import tiny_pipeline


def test_equal_weights_in_memory_have_equal_digests_and_one_changed_bit_another():
    pipeline = tiny_pipeline("sdxl")
    digest = weights_sha256(pipeline)
    assert digest == weights_sha256(tiny_pipeline("sdxl"))
    assert digest != weights_sha256(tiny_pipeline("sdxl", seed=1))
    bits = pipeline.vae.decoder.conv_in.bias.data.view(torch.int32)
    bits[0] ^= 1
    assert weights_sha256(pipeline) != digest
    bits[0] ^= 1
    assert weights_sha256(pipeline) == digest


def test_the_precision_of_weights_in_memory_is_part_of_their_digest():
    pipeline = tiny_pipeline("sd2")
    exact = weights_sha256(pipeline)
    pipeline.to(dtype=torch.bfloat16)
    assert weights_sha256(pipeline) != exact


def test_the_digest_of_a_folder_is_over_names_and_file_digests(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "a.safetensors").write_bytes(b"more")
    (tmp_path / "unet" / "config.json").write_bytes(b"{}")
    lines = "".join(
        f"{name}\0{hashlib.sha256(content).hexdigest()}\n"
        for name, content in (("a.safetensors", b"more"), ("unet/model.safetensors", b"weights"))
    )
    assert weights_sha256(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_changed_renamed_or_added_file_changes_the_digest_of_a_folder(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    digests = [weights_sha256(tmp_path)]
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(1, 1))
    digests.append(weights_sha256(tmp_path))
    file.rename(tmp_path / "other.safetensors")
    digests.append(weights_sha256(tmp_path))
    (tmp_path / "second.safetensors").write_bytes(b"")
    digests.append(weights_sha256(str(tmp_path)))
    assert len(set(digests)) == 4


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    digest = weights_sha256(tmp_path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("the file was read again"))
    assert weights_sha256(tmp_path) == digest


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable):
        weights_sha256(tmp_path)
    with pytest.raises(ModelUnavailable):
        weights_sha256(tmp_path / "missing")


def test_importing_the_package_loads_neither_torch_nor_diffusers():
    modules = ("arguments", "diffusers_pipeline", "loading", "pictures", "placement", "protocol", "samplers", "weights")
    imports = "\n".join(f"import guardrails.generation.{module}" for module in modules)
    code = f"import sys\n{imports}\nimport guardrails.testing.pipelines\n" + (
        "print([name for name in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
