from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from guardrails.errors import OptionError
from guardrails.watermark.attacks import ATTACKS
from guardrails.watermark.benchmark import make_method, measure, psnr, scaled_to, ssim, summarise, wilson, write_report
from guardrails.watermark.hosts import drawn_hosts, load_hosts, scene
from guardrails.watermark.plots import null_plot

FEW = tuple(attack for attack in ATTACKS if attack.name in ("png", "jpeg 60", "mirror"))


@pytest.fixture(scope="module")
def rows() -> list:
    return measure(list(drawn_hosts(size=256, count=2)), ["ours", "dwtDct"], attacks=FEW, goals=(None, 42.0))


def test_there_is_a_row_for_each_scheme_goal_picture_and_attack(rows: list) -> None:
    keys = {(row.scheme, row.psnr_goal, row.image, row.attack) for row in rows}
    assert len(keys) == len(rows) == 2 * 2 * 2 * 3


def test_residuals_are_scaled_to_the_common_psnr(rows: list) -> None:
    for row in rows:
        if row.psnr_goal is not None:
            assert row.psnr == pytest.approx(42.0, abs=0.5)


def test_a_scheme_that_refuses_a_picture_gets_a_row_that_says_so() -> None:
    (row,) = measure(list(drawn_hosts(size=200, count=1)), ["dwtDct"], attacks=FEW[:1])
    assert not row.exact
    assert "needs at least" in row.error


def test_the_summary_counts_each_row_once(rows: list) -> None:
    records = summarise(rows)
    assert [(record["scheme"], record["psnr_goal"]) for record in records] == [
        ("ours", None),
        ("ours", 42.0),
        ("dwtDct", None),
        ("dwtDct", 42.0),
    ]
    for record in records:
        assert record["all"]["n"] == 6
        assert sum(group["n"] for group in record["groups"].values()) == 6
    assert records[0]["all"]["exact"] == 1


def test_the_report_is_written(rows: list, tmp_path: Path) -> None:
    write_report(rows, tmp_path)
    with (tmp_path / "robustness.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert json.loads((tmp_path / "robustness.json").read_text())["header"]["opencv"]
    assert "dwtDct at 42 dB" in (tmp_path / "summary.md").read_text()
    for plot in ("attacks.svg", "psnr.svg"):
        assert ET.parse(tmp_path / plot).getroot().tag.endswith("svg")


def test_the_null_plot_is_well_formed() -> None:
    """A curve of a single share shows as a dot."""
    root = ET.fromstring(null_plot({"a & b": [(0.1, 0.05), (0.01, 0.0)]}))
    assert root.tag.endswith("svg")
    assert sum(part.tag.endswith("circle") for part in root.iter()) == 1


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10), (997, 1000)])
def test_intervals_agree_with_scipy(hits: int, n: int) -> None:
    reference = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((reference.low, reference.high), abs=1e-6)


def test_quality_of_equal_and_of_different_pictures() -> None:
    one, other = scene(1, 128), scene(2, 128)
    assert psnr(one, one) == np.inf
    assert ssim(one, one) == pytest.approx(1)
    assert psnr(one, one + np.uint8(1)) == pytest.approx(48.13, abs=0.3)
    assert ssim(one, other) < 0.3
    assert psnr(one, scaled_to(one, other, 35.0)) == pytest.approx(35.0, abs=0.3)


def test_unknown_schemes_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        make_method("best")
    with pytest.raises(OptionError):
        load_hosts(tmp_path, size=256, limit=3)
