"""Hub models say quickly and clearly when they cannot be had."""

from __future__ import annotations

import time

import pytest
from huggingface_hub import constants

from guardrails.encoders import load_encoder
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
