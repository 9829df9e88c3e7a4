"""The command line with real models, and what each command costs to start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guardrails.cli import main
from guardrails.domain.images import MarkVerdict
from guardrails.testing.doubles import draw_shapes
from guardrails.testing.pipelines import tiny_pipeline

HEAVY = ("torch", "scipy", "pydantic", "transformers", "diffusers", "onnxruntime", "open_clip")
# Runs one command in a fresh process and prints which of the heavy modules it loaded.
PROBE = f"""
import sys
from guardrails.cli import main
status = main(sys.argv[1:])
print([name for name in {HEAVY!r} if name in sys.modules], status, file=sys.stderr)
"""


def heavy_modules(*words: object) -> str:
    """The last line that a fresh process wrote: the heavy modules, and the exit status."""
    command = [sys.executable, "-c", PROBE, *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a diffusers pipeline of random weights: it draws noise."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.png"
    Image.fromarray(draw_shapes(4)).save(path)
    return path


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    """Runs a command with --json in this process."""
    capsys.readouterr()
    status = main([*map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["generate", "--help"], ["policy", "check"], ["policy", "show"]],
)
def test_cheap_commands_load_nothing_heavy(words: list[str]) -> None:
    assert heavy_modules(*words) == "[] 0"


def test_deciding_a_prompt_loads_the_text_encoder_alone() -> None:
    assert heavy_modules("policy", "explain", "a red fox in deep snow") == "['onnxruntime'] 0"
    # Short words are left to the lists.
    assert heavy_modules("policy", "explain", "a fox") == "[] 0"


def test_verifying_loads_nothing_heavy(picture: Path, home: Path) -> None:
    assert heavy_modules("verify", picture, "--home", home) == "[] 4"


def test_a_misspelt_model_and_a_refused_prompt_load_no_model(home: Path, tmp_path: Path) -> None:
    where = ["--home", home, "--out", tmp_path / "out"]

    assert heavy_modules("generate", "a fox", "--model", "nosuchmodel", *where) == "[] 5"
    assert heavy_modules("generate", "a n4k3d woman", *where) == "['onnxruntime'] 3"
    assert list((tmp_path / "out").iterdir()) == []


def test_the_embedded_model_draws_seals_and_is_recovered_without_its_metadata(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt, where = "a red apple on a blue background", ["--home", home, "--out", tmp_path / "out"]
    status, [sealed] = call(capsys, "generate", prompt, "--seed", 7, "--steps", 8, *where)
    stripped = tmp_path / "stripped.jpg"
    with Image.open(sealed["path"]) as image:
        image.convert("RGB").save(stripped, quality=60)

    confirmed, [exact] = call(capsys, "verify", sealed["path"], "--home", home)
    recovered, [traced] = call(capsys, "verify", stripped, "--home", home)

    assert (status, confirmed, recovered) == (0, 0, 0)
    assert (sealed["facts"]["model"], sealed["facts"]["steps"]) == ("pocket", 8)
    assert (exact["verdict"], exact["exact"]) == ("confirmed", True)
    assert (traced["verdict"], traced["exact"]) == ("recovered", False)
    assert traced["mark"]["verdict"] == MarkVerdict.PRESENT.value
    assert traced["ledger"]["record_id"] == sealed["id"]


def test_a_picture_too_small_to_carry_the_mark_is_not_released(
    tiny_model: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    size = ["--width", 64, "--height", 64, "--steps", 2]
    where = ["--model", tiny_model, "--home", home, "--out", out]

    status, [refused] = call(capsys, "generate", "a quiet harbour", "--seed", 1, *size, *where)

    assert status == 6
    assert refused["refusal"]["fault"].startswith("watermark_failed: ")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--width", "256"], "invalid_option"),
        (["--width", "250", "--height", "250"], "invalid_option"),
        (["--steps", "5000"], "invalid_option"),
        (["--guidance-scale", "nan"], "invalid_option"),
        (["--guidance-scale", "1", "--negative-prompt", "fog"], "invalid_option"),
        (["--device", "abacus"], "invalid_option"),
    ],
)
def test_what_a_model_cannot_do_is_told_before_it_draws(
    options: list[str], code: str, tiny_model: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    status, document = call(
        capsys, "generate", "a quiet harbour", "--model", tiny_model, *options, "--home", home, "--out", out
    )

    assert (status, document["error"]["code"]) == (2, code)
    assert document["error"]["hint"]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("damage", ["empty folder", "cut weights"])
def test_a_damaged_model_folder_is_unavailable(
    damage: str, tiny_model: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    if damage == "cut weights":
        for source in tiny_model.rglob("*"):
            target = model / source.relative_to(tiny_model)
            target.mkdir() if source.is_dir() else target.write_bytes(source.read_bytes()[:5000])

    status, document = call(capsys, "generate", "a fox", "--model", model, "--home", home, "--out", tmp_path / "out")

    assert (status, document["error"]["code"]) == (5, "model_unavailable")
