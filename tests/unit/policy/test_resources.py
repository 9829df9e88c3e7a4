"""Data folders are found in a checkout, in a wheel, or not at all with a clear word."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails import resources
from guardrails.errors import DatasetUnavailable


def test_the_checkout_has_the_default_pack() -> None:
    assert resources.policies_path("packs", "default.yaml").is_file()
    assert resources.datasets_path().is_dir()


def test_bundled_data_of_a_wheel_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "guardrails"
    for root in (package / "_bundled", tmp_path):
        (root / "policies").mkdir(parents=True)
        (root / "policies" / "x.txt").write_text("")
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.policies_path("x.txt") == package / "_bundled" / "policies" / "x.txt"


def test_a_missing_file_is_named_with_a_next_step() -> None:
    with pytest.raises(DatasetUnavailable, match=r"datasets/none/here\.npz") as caught:
        resources.datasets_path("none", "here.npz")
    assert caught.value.hint
