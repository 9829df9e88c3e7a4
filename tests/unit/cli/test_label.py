"""Visible labels on the command line: drawn on a file, asked for with a picture, told by verify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.imaging.labels import draw_label
from guardrails.imaging.metadata import ai_generated_xmp, read_xmp
from guardrails.policy.labelling import label_profiles
from guardrails.testing.doubles import draw_shapes

Cli = Callable[..., Any]
OneLineError = Callable[..., None]
PROMPT = "a red apple on a blue background"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(encode(draw_shapes(3), ImageFormat.PNG, xmp=ai_generated_xmp("urn:x", "elsewhere", "a model")))
    return path


def test_a_file_is_labelled_and_keeps_its_xmp(cli: Cli, picture: Path, tmp_path: Path) -> None:
    run = cli("label", picture, "-o", "labelled.png", "--jurisdiction", "CN", "--label", "eu", "--json")
    assert (run.status, run.err) == (0, "")
    assert (run.json["text"], set(run.json["label"]["profiles"])) == ("AI生成 AI GENERATED", {"cn", "eu"})
    assert run.json["label"]["contrast"] > 15
    written = (tmp_path / "labelled.png").read_bytes()
    expected, _ = draw_label(draw_shapes(3), [label_profiles()["cn"], label_profiles()["eu"]])
    np.testing.assert_array_equal(decode(written).pixels, expected)
    assert read_xmp(written) == read_xmp(picture.read_bytes())
    told = cli("label", picture, "-o", "labelled.jpg", "--label", "eu", "--edited").out
    assert "LABELLED" in told
    assert "AI MODIFIED" in told


@pytest.mark.usefixtures("shapes")
def test_generate_draws_what_is_asked_for_and_verify_says_it(cli: Cli) -> None:
    run = cli("generate", PROMPT, "--jurisdiction", "CN", "--label", "us", "--json")
    (released,) = run.json
    assert run.status == 0
    assert [line["text"] for line in released["label"]["lines"]] == ["AI生成", "AI GENERATED"]
    (report,) = cli("verify", "out", "--json").json
    assert report["manifest"]["label"] == "AI生成 AI GENERATED"
    assert "the manifest says that the picture reads AI生成 AI GENERATED" in cli("verify", "out").out.replace("\n", " ")
    assert "AI GENERATED (us)" in cli("generate", PROMPT, "--label", "us").out


@pytest.mark.usefixtures("shapes")
def test_a_signed_file_is_not_labelled_behind_its_manifest(
    cli: Cli, one_line_error: OneLineError, tmp_path: Path
) -> None:
    (released,) = cli("generate", PROMPT, "--json").json
    run = cli("label", released["path"], "-o", "labelled.png", "--label", "eu")
    one_line_error(run, "invalid_image", 2)
    assert not (tmp_path / "labelled.png").exists()


@pytest.mark.parametrize(
    "options", [(), ("--jurisdiction", "DE"), ("--label", "atlantis"), ("--jurisdiction", "cn")], ids=str
)
def test_what_asks_for_no_label_is_a_mistake(
    cli: Cli, one_line_error: OneLineError, picture: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    one_line_error(cli("label", picture, "-o", "labelled.png", *options), "invalid_option", 2)
    assert not (tmp_path / "labelled.png").exists()


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize("options", [("--label", "atlantis"), ("--jurisdiction", "China")], ids=str)
def test_a_slip_is_told_before_the_model_is_loaded(
    cli: Cli, one_line_error: OneLineError, options: tuple[str, ...]
) -> None:
    one_line_error(cli("generate", PROMPT, *options), "invalid_option", 2)
