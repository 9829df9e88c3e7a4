from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from guardrails.errors import OptionError, WatermarkError
from guardrails.imaging import Pixels
from guardrails.watermark.classic import ClassicMark


def test_dwt_dct_svd_reads_its_own_bits(pictures: list[Pixels]) -> None:
    mark = ClassicMark("dwtDctSvd", 48)
    bits = np.random.default_rng(0).integers(0, 2, 48).astype(np.uint8)
    marked = mark.embed(pictures[3], bits)
    assert marked.shape == pictures[3].shape
    assert np.mean(mark.read(marked) == bits) > 0.95


def test_what_a_method_does_not_have_is_refused() -> None:
    with pytest.raises(OptionError):
        ClassicMark("stegano", 48)
    with pytest.raises(OptionError):
        ClassicMark("rivaGan", 48)


def test_small_pictures_and_wrong_lengths_are_refused() -> None:
    mark = ClassicMark("dwtDct", 8)
    with pytest.raises(WatermarkError):
        mark.read(np.zeros((255, 256, 3), np.uint8))
    with pytest.raises(WatermarkError):
        mark.embed(np.zeros((256, 256, 3), np.uint8), np.zeros(9, np.uint8))


def test_the_own_mark_loads_no_heavy_module() -> None:
    code = "import sys, guardrails.watermark.scheme, guardrails.watermark.classic; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "scipy", "imwatermark", "onnxruntime", "pydantic"} & set(loaded)
