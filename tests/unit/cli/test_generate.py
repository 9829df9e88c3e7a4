from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.cli.generate import _checks
from guardrails.domain.findings import Check, CheckStatus, Component
from guardrails.domain.images import Match, MatchState, Rights
from guardrails.ledger import Ledger
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, fixed_screen

pytestmark = pytest.mark.usefixtures("shapes")

Generate = Callable[..., Any]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def generate(home: Path, out: Path, run: Callable[..., Any]) -> Generate:
    """`guardrails generate` into `out` with the keys and ledger of `home`."""

    def call(prompt: str, *options: object) -> Any:
        return run("generate", prompt, "--home", home, "--out", out, *options)

    return call


def records(home: Path) -> int:
    with Ledger.open(homes.ledger_folder(home), create=False) as ledger:
        return len(ledger)


def test_every_released_picture_is_described(generate: Generate, home: Path, out: Path) -> None:
    result = generate("a fox", "--count", 2, "--seed", 5, "--format", "webp", "--json")

    assert result.status == 0
    assert result.err == ""
    assert [picture["facts"]["seed"] for picture in result.json] == [5, 6]
    assert [picture["receipt"]["index"] for picture in result.json] == [0, 1]
    assert {Path(picture["path"]) for picture in result.json} == set(out.glob("*.webp"))
    assert all(picture["watermark"]["psnr"] > 30 for picture in result.json)
    assert all(picture["manifest"]["status"] == "trusted" for picture in result.json)
    assert records(home) == 2


def test_people_read_what_was_checked_and_what_the_file_carries(generate: Generate) -> None:
    result = generate("a fox", "--seed", 5)

    assert result.out.startswith("RELEASED  ")
    for words in ("seed ", "open-nsfw: ran nsfw 0.01", "clip-concepts: ran", "dB PSNR", "trusted: ", "record 0"):
        assert words in result.out


def test_a_refused_prompt_is_underlined_recorded_and_needs_no_model(
    generate: Generate, home: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: pytest.fail("loaded a model"))

    result = generate("a n4k3d woman on a balcony")

    lines = result.out.splitlines()
    assert result.status == 3
    assert lines[0] == "REFUSED  at prompt"
    assert lines[lines.index("    a n4k3d woman on a balcony") + 1] == "      ^^^^^"
    assert any(line.split() == ["ledger", "record", "0"] for line in lines)
    assert any(line.startswith("  digest") for line in lines)
    assert list(out.iterdir()) == []
    assert records(home) == 1


def test_a_refused_picture_shows_score_threshold_and_error_rate(
    generate: Generate, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screens = (fixed_screen("open-nsfw", nsfw=0.99), fixed_screen("clip-concepts", weapon=0.01))
    monkeypatch.setattr("guardrails.pipeline.guard.default_screens", lambda **_: screens)

    result = generate("a fox")

    assert result.status == 3
    assert result.out.startswith("REFUSED  at screening")
    assert "score 0.99, threshold " in result.out
    assert list(out.iterdir()) == []


def test_a_similar_work_is_credited(generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    rights = Rights(licence="CC-BY-4.0", licence_url="https://x.example", creator="Ada", source="set@1")
    match = Match(
        entry="set:fox",
        title="fox face",
        rights=rights,
        state=MatchState.CONFIRMED,
        distances={"phash64": 4, "pdq256": 18},
        sha256="00" * 32,
        grade=4,
    )
    monkeypatch.setattr("guardrails.pipeline.guard.shipped_index", lambda _: FixedIndex(matches=(match,)))

    result = generate("a fox")

    assert result.status == 0
    assert "fox face by Ada, CC-BY-4.0 (confirmed, grade 4; Hamming distance phash64 4, pdq256 18)" in result.out
    assert "RIGHTS-02 (copyright, flag)" in result.out


def test_a_fault_in_a_guard_is_no_refusal_by_rule(generate: Generate, out: Path) -> None:
    """64 pixels are too few for a watermark."""
    result = generate("a fox", "--width", 64, "--height", 64)

    assert result.status == 6
    assert "watermark_failed" in result.out
    assert list(out.iterdir()) == []


def test_a_bug_in_a_generator_releases_nothing(generate: Generate, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def draw(self, *_: object, **__: object) -> list[Any]:
            raise ZeroDivisionError("inside")

    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: Broken())

    result = generate("a fox", "--json")

    assert result.status == 1
    assert result.json[0]["outcome"] == "refused"
    assert list(out.iterdir()) == []


def test_an_interrupt_while_drawing_leaves_nothing(
    generate: Generate, home: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(ShapeGenerator):
        def draw(self, *_: object, **__: object) -> list[Any]:
            raise KeyboardInterrupt

    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: Interrupted())

    result = generate("a fox")

    assert result.status == 130
    assert result.out == ""
    assert list(out.iterdir()) == []
    assert records(home) == 0


def test_a_full_disk_leaves_nothing_half_written(
    generate: Generate, home: Path, out: Path, monkeypatch: pytest.MonkeyPatch, one_line_error: Callable[..., None]
) -> None:
    generate("a fox")
    before, files = records(home), sorted(out.iterdir())
    write = os.fsync

    def full(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent == out and os.fstat(descriptor).st_size > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor)

    monkeypatch.setattr(os, "fsync", full)

    result = generate("a fox")

    one_line_error(result, "storage_failed", 7)
    assert "No space left on device" in result.err
    assert sorted(out.iterdir()) == files
    assert records(home) == before


def test_a_file_in_the_place_of_the_folder_is_one_line(
    generate: Generate, out: Path, one_line_error: Callable[..., None]
) -> None:
    out.write_text("a file")

    one_line_error(generate("a fox"), "storage_failed", 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(generate: Generate, out: Path, one_line_error: Callable[..., None]) -> None:
    out.mkdir(mode=0o500)

    one_line_error(generate("a fox"), "storage_failed", 7)


def test_a_key_that_others_can_read_is_refused(
    generate: Generate, home: Path, out: Path, one_line_error: Callable[..., None]
) -> None:
    (home / "keys" / "c2pa" / "signing.pem").chmod(0o644)

    one_line_error(generate("a fox"), "key_unusable", 6)
    assert list(out.iterdir()) == []


def test_an_unknown_policy_is_told_before_anything_is_made(
    generate: Generate, out: Path, one_line_error: Callable[..., None]
) -> None:
    one_line_error(generate("a fox", "--policy", "defualt"), "invalid_policy", 2)
    assert not out.exists()


def test_a_check_that_could_say_nothing_does_not_read_as_one_that_ran() -> None:
    component = Component(name="faces", version="1")
    silent = Check(component=component, status=CheckStatus.RAN, abstained={"enrolled": "nobody is enrolled"})
    (line,) = _checks(SimpleNamespace(checks=[silent]))  # type: ignore[arg-type]
    assert line == ("check", "faces: abstained nobody is enrolled")
    partly = replace(silent, scores={"enrolled": 0.7})
    assert partly.outcome == "ran"
