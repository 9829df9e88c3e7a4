"""The network's map and score, its loss, and the exported file against the network that it came from."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from guardrails.screens.lettering_training import build, export, loss_of, measure, surest


def test_the_map_has_a_cell_for_sixteen_pixels_and_one_cell_alone_counts_less_than_two_by_two() -> None:
    assert build()(torch.zeros(2, 1, 64, 96)).shape == (2, 1, 4, 6)
    alone, together = torch.full((1, 1, 4, 6), -4.0), torch.full((1, 1, 4, 6), -4.0)
    alone[0, 0, 1, 1] = 4
    together[0, 0, 1:3, 1:3] = 4
    assert surest()(alone).item() == -2
    assert surest()(together).item() == 4


def test_the_loss_is_least_for_the_map_that_says_where_the_ink_is() -> None:
    cells = torch.zeros(1, 6, 6, dtype=torch.bool)
    cells[0, 2:4, 2:4] = True
    right = torch.full((2, 1, 6, 6), -6.0)
    right[0, 0, 2:4, 2:4] = 6
    shows = torch.ones(1)
    silent, loud = torch.full_like(right, -6.0), torch.full_like(right, 6.0)
    best = loss_of(right, cells, shows)
    assert best < loss_of(silent, cells, shows)
    assert best < loss_of(loud, cells, shows)
    assert loss_of(silent, cells, torch.zeros(1)) < loss_of(silent, cells, shows)


def test_the_measure_counts_plain_pictures_above_the_threshold() -> None:
    darkest = torch.nn.Sequential(torch.nn.AvgPool2d(16))
    pairs = [np.stack([np.full((64, 64), 200, np.uint8), np.full((64, 64), value, np.uint8)]) for value in (10, 250)]
    report = measure(darkest, pairs, "cpu")
    assert report["n"] == 2
    assert report["passed_at_miss_0.05"] == 0.5


def test_the_exported_file_says_what_the_network_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build().eval()
    torch.save(network.state_dict(), tmp_path / "state.pt")
    export(Namespace(state=tmp_path / "state.pt", output=tmp_path / "model.onnx"))
    luma = np.random.default_rng(0).random((1, 1, 80, 112), np.float32)
    with torch.inference_mode():
        expected = torch.sigmoid(surest()(network(torch.from_numpy(luma)))).item()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (score,) = session.run(None, {"luma": luma})
    assert abs(float(score[0]) - expected) < 0.01
    assert (tmp_path / "model.onnx").stat().st_size < 500_000
