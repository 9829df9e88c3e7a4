from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from guardrails.cli import main
from guardrails.watermark.hosts import scene

MARK_ID = "00000000feedbeef"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(scene(1, 256)).save(path)
    return path


def run(home: Path, *words: str) -> int:
    return main(["mark", *words, "--home", str(home)])


def test_a_mark_is_written_and_read(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, output = tmp_path / "home", tmp_path / "marked.jpg"
    assert run(home, "embed", str(picture), "-o", str(output), "--id", MARK_ID, "--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert written["embedding"]["mark_id"] == MARK_ID
    assert written["earlier_id"] == ""
    assert run(home, "read", str(output), "--json") == 0
    (read,) = json.loads(capsys.readouterr().out)
    assert (read["verdict"], read["reading"]["mark_id"]) == ("present", MARK_ID)
    assert run(home, "read", str(output)) == 0
    assert MARK_ID in capsys.readouterr().out


def test_an_unmarked_and_an_unreadable_file_are_told_apart(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, broken = tmp_path / "home", tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert run(home, "embed", str(picture), "-o", str(tmp_path / "marked.png")) == 0
    capsys.readouterr()
    assert run(home, "read", str(picture), str(broken), "--mode", "fast", "--json") == 4
    assert [entry["verdict"] for entry in json.loads(capsys.readouterr().out)] == ["not_detected", "error"]
    assert run(home, "read", str(picture), str(broken), "--mode", "fast") == 4
    assert "NOT DETECTED" in capsys.readouterr().out


def test_a_marked_picture_is_marked_again_only_when_asked(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, once, twice = tmp_path / "home", tmp_path / "once.png", tmp_path / "twice.png"
    assert run(home, "embed", str(picture), "-o", str(once), "--id", MARK_ID) == 0
    assert run(home, "embed", str(once), "-o", str(twice)) == 6
    assert not twice.exists()
    assert run(home, "embed", str(once), "-o", str(twice), "--again") == 0
    assert MARK_ID in capsys.readouterr().out


def test_reading_without_a_key_makes_none(picture: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "home", "read", str(picture)) == 6
    assert not (tmp_path / "home").exists()


def test_the_bench_writes_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardrails.watermark import benchmark

    monkeypatch.setattr(
        benchmark.measure, "__kwdefaults__", {**benchmark.measure.__kwdefaults__, "attacks": benchmark.ATTACKS[:2]}
    )
    output = tmp_path / "bench"
    assert main(["mark", "bench", "--output", str(output), "--limit", "1", "--size", "256"]) == 0
    assert "| ours | 64 |" in capsys.readouterr().out
    assert (output / "robustness.csv").exists()
