from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrails.imaging.encoding import ImageFormat, encode


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a sub-folder, one picture in each, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    (folder / "a.png").write_bytes(encode(pixels, ImageFormat.PNG))
    (folder / "more" / "b.jpg").write_bytes(encode(pixels, ImageFormat.JPEG))
    return folder


def test_a_folder_is_sealed_and_every_manifest_meets_the_rubric(pictures: Path, cli: Callable[..., Any]) -> None:
    before = {path: path.read_bytes() for path in pictures.rglob("*.*")}
    result = cli("seal", pictures, "--out", "sealed", "--json")
    assert result.status == 0
    assert [(entry["state"], entry["target"]) for entry in result.json] == [
        ("sealed", "sealed/a.png"),
        ("sealed", "sealed/more/b.jpg"),
    ]
    assert {path: path.read_bytes() for path in pictures.rglob("*.*")} == before
    judged = cli("verify", "sealed", "--rubric", "--json")
    assert judged.status == 0
    assert [(entry["passed"], entry["met"], len(entry["statements"])) for entry in judged.json] == [(True, 31, 31)] * 2
    assert cli("verify", "sealed", "--rubric").out.count("31 of 31 statements, no warnings") == 2


def test_a_second_run_finishes_what_the_first_left(pictures: Path, cli: Callable[..., Any]) -> None:
    (pictures / "c.png").write_bytes(b"not a picture")
    first = cli("seal", pictures, "--out", "sealed", "--json")
    assert first.status == 2
    assert [entry["state"] for entry in first.json] == ["sealed", "failed", "sealed"]
    assert first.json[1]["error"]["code"] == "invalid_image"
    (pictures / "c.png").write_bytes((pictures / "a.png").read_bytes())
    second = cli("seal", pictures, "--out", "sealed", "--json")
    assert second.status == 0
    assert [entry["state"] for entry in second.json] == ["kept", "sealed", "kept"]
    assert sorted(path.name for path in Path("sealed").rglob("*")) == ["a.png", "b.jpg", "c.png", "more"]


def test_a_sealed_picture_keeps_its_history_when_it_is_sealed_again(pictures: Path, cli: Callable[..., Any]) -> None:
    (first,) = cli("seal", pictures / "a.png", "--out", "once", "--json").json
    assert cli("seal", "once/a.png", "--out", "twice").status == 0
    (report,) = cli("verify", "twice/a.png", "--mode", "fast", "--strict", "--json").json
    manifest = report["manifest"]
    assert manifest["status"] == "trusted"
    assert manifest["ancestry"][0].startswith(f"{first['manifest_id']} (parentOf)")
    assert (manifest["integrity"], manifest["signature"], manifest["trust"]) == ("passed", "passed", "passed")
    assert manifest["lineage"] == "unknown"


@pytest.mark.parametrize("out", ["pictures", "pictures/../pictures"])
def test_nothing_is_sealed_in_place(
    out: str, pictures: Path, cli: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    before = (pictures / "a.png").read_bytes()
    one_line_error(cli("seal", pictures / "a.png", "--out", out), "invalid_option", 2)
    assert (pictures / "a.png").read_bytes() == before


def test_two_pictures_of_one_name_do_not_share_a_place(
    pictures: Path, cli: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    (pictures / "more" / "a.png").write_bytes((pictures / "a.png").read_bytes())
    result = cli("seal", pictures / "a.png", pictures / "more" / "a.png", "--out", "sealed")
    one_line_error(result, "invalid_option", 2)
    assert not Path("sealed").exists()


def test_keys_are_needed_and_not_made(
    pictures: Path, tmp_path: Path, cli: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    one_line_error(
        cli("seal", pictures, "--out", "sealed", "--home", tmp_path / "empty"),
        "key_unusable",
        6,
    )
    one_line_error(cli("seal", pictures, "--out", "sealed", "--chain", "chain.pem"), "invalid_option", 2)


def test_the_rubric_says_what_is_wrong_and_that_there_may_be_nothing(pictures: Path, cli: Callable[..., Any]) -> None:
    result = cli("verify", pictures / "a.png", "--rubric")
    assert result.status == 4
    assert "NO MANIFEST" in result.out


def test_sealing_does_not_launder_a_changed_picture(pictures: Path, cli: Callable[..., Any]) -> None:
    cli("seal", pictures / "more" / "b.jpg", "--out", "once")
    changed = bytearray(Path("once/b.jpg").read_bytes())
    changed[-30] ^= 1
    Path("once/b.jpg").write_bytes(changed)
    assert cli("seal", "once/b.jpg", "--out", "twice", "--json").json[0]["state"] == "sealed"
    result = cli("verify", "twice/b.jpg", "--mode", "fast", "--json")
    assert result.status == 4
    (report,) = result.json
    assert report["manifest"]["status"] == "bad_ancestor"
    assert (report["verdict"], "made from did not pass" in report["explanation"]) == ("suspected", True)
