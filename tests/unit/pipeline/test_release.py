"""What leaves: marked, signed, recorded, and the same image to every layer."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guardrails.audit import verify_bytes
from guardrails.audit.report import FileVerdict
from guardrails.domain.images import ManifestStatus, MarkVerdict
from guardrails.domain.records import RecordKind
from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError, PromptError, StorageError
from guardrails.imaging.decoding import decode
from guardrails.imaging.metadata import read_xmp
from guardrails.ledger import opens
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import TrustStore, Verifier
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

PROMPT = "seventeen quiet lanterns above a heron"


def test_manifest_watermark_xmp_and_ledger_name_the_same_image(guard: Guard, home: Path, out: Path) -> None:
    sealed = guard.generate(PROMPT, seed=5, out=out)
    assert isinstance(sealed, Sealed)
    assert sealed.path == out / f"{sealed.id}.png"
    data = sealed.path.read_bytes()
    assert data == sealed.data
    assert hashlib.sha256(data).hexdigest() == sealed.sha256

    manifest = Verifier(TrustStore.dev(home / "keys")).verify(data)
    assert (manifest.status, manifest.manifest_id) == (ManifestStatus.TRUSTED, sealed.id.urn)
    assert manifest.mark_id == sealed.id.mark_id
    reading = PixelMark(Keyring.load_or_create(home / "keys")).detect(decode(data).pixels)
    assert (reading.verdict, reading.mark_id) == (MarkVerdict.PRESENT, sealed.id.mark_id)
    assert sealed.id.urn.encode() in (read_xmp(data) or b"")
    logged = guard.ledger.find_by_image(sealed.sha256)
    assert logged is not None
    record = logged.record
    assert (record.kind, record.id) == (RecordKind.GENERATION, str(sealed.id))
    assert (record.mark_id, record.manifest_id) == (sealed.id.mark_id, sealed.id.urn)
    assert record.facts["generation"]["seed"] == 5
    guard.ledger.verify_record(logged)


@pytest.mark.parametrize(
    ("name", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp"), ("avif", ".avif"), ("tiff", ".tif")]
)
def test_every_format_is_read_back_as_confirmed(guard: Guard, home: Path, out: Path, name: str, suffix: str) -> None:
    for seed in range(3):
        sealed = guard.generate(PROMPT, seed=seed, format=name, out=out)
        assert isinstance(sealed, Sealed), sealed
        assert sealed.path is not None
        assert sealed.path.suffix == suffix
        report = verify_bytes(sealed.path.read_bytes(), home=home)
        assert (report.verdict, report.exact) == (FileVerdict.CONFIRMED, True)


def test_the_time_of_the_guards_stands_beside_that_of_the_drawing(guard: Guard) -> None:
    started = time.perf_counter()
    pictures = guard.generate_all(PromptRequest(prompt=PROMPT, count=2))
    total = (time.perf_counter() - started) * 1e3
    for sealed in pictures:
        assert isinstance(sealed, Sealed)
        stages = sealed.timings.stages
        assert list(stages) == ["prompt", "generation", "screening", "label", "watermark", "provenance"]
        assert all(spent > 0 for spent in stages.values())
        assert sealed.timings.guard == pytest.approx(sum(stages.values()) - stages["generation"])
        assert 0 < sealed.timings.share < 1
        assert stages["screening"] >= sum(check.milliseconds for check in sealed.checks)
        logged = guard.ledger.find_by_id(str(sealed.id))
        assert logged is not None
        assert logged.record.facts["timings"] == sealed.timings.to_json()
        assert set(sealed.timings.to_json()) == {"stages_ms", "guard_ms", "guard_share"}
    # The drawing is shared out, not counted for each.
    assert sum(sum(sealed.timings.stages.values()) for sealed in pictures if isinstance(sealed, Sealed)) < 1.05 * total


def test_without_a_folder_the_bytes_are_returned_and_recorded(guard: Guard, home: Path) -> None:
    sealed = guard.generate(PROMPT)
    assert isinstance(sealed, Sealed)
    assert sealed.path is None
    assert verify_bytes(sealed.data, home=home).verdict is FileVerdict.CONFIRMED


def test_the_prompt_is_bound_but_not_in_the_permanent_part(
    guard: Guard, home: Path, entries: Callable[[], list[str]]
) -> None:
    sealed = guard.generate(PROMPT)
    assert isinstance(sealed, Sealed)
    logged = guard.ledger.find_by_id(str(sealed.id))
    assert logged is not None
    payload = guard.ledger.payload(str(sealed.id))
    assert payload is not None
    assert payload["request"]["prompt"] == PROMPT
    assert opens("prompt", PROMPT, payload["salts"]["prompt"], logged.record.commitments["prompt"])
    assert all(word not in entry for entry in entries() for word in PROMPT.split() if len(word) > 4)
    assert not any(word.encode() in sealed.data for word in PROMPT.split() if len(word) > 4)
    in_the_clear = [
        path for path in (home / "ledger").iterdir() if path.is_file() and PROMPT.encode() in path.read_bytes()
    ]
    assert in_the_clear == []

    guard.ledger.erase([str(sealed.id)], ground="the person asked")
    assert guard.ledger.fsck() == 2
    assert guard.ledger.payload(str(sealed.id)) is None
    guard.ledger.verify_record(logged)


def test_several_pictures_have_ids_and_seeds_of_their_own(guard: Guard, out: Path) -> None:
    outcomes = guard.generate_all(PromptRequest(prompt=PROMPT, seed=10, count=3), out=out)
    sealed = [outcome for outcome in outcomes if isinstance(outcome, Sealed)]
    assert [each.facts.seed for each in sealed] == [10, 11, 12]
    assert len({each.id for each in sealed}) == len(list(out.iterdir())) == 3


def test_progress_reaches_the_generator(guard: Guard) -> None:
    seen: list[tuple[int, int]] = []
    guard.generate(PROMPT, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


@pytest.mark.parametrize("prompt", ["", "   ", "a\x00b", "x" * 20_000, "\ud800"], ids=repr)
def test_an_unusable_prompt_is_the_callers_mistake_and_leaves_no_trace(guard: Guard, prompt: str) -> None:
    with pytest.raises(PromptError):
        guard.generate(prompt)
    assert len(guard.ledger) == 0


@pytest.mark.parametrize(
    "request_",
    [
        PromptRequest(prompt=PROMPT, guidance_scale=float("nan")),
        PromptRequest(prompt=PROMPT, seed=2**60),
        PromptRequest(prompt=PROMPT, count=0),
    ],
)
def test_a_request_that_no_record_can_hold_is_refused_up_front(guard: Guard, request_: PromptRequest) -> None:
    with pytest.raises(OptionError):
        guard.generate_all(request_)
    assert len(guard.ledger) == 0


@pytest.mark.parametrize("name", ["bmp", "txt"])
def test_a_format_that_cannot_be_written_is_refused_up_front(guard: Guard, name: str) -> None:
    with pytest.raises(OptionError):
        guard.generate(PROMPT, format=name)
    assert len(guard.ledger) == 0


def test_an_unusable_folder_is_told_before_anything_is_drawn(guard: Guard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError):
        guard.generate(PROMPT, out=tmp_path / "file")
    assert len(guard.ledger) == 0


def test_staged_files_of_dead_processes_are_removed_and_young_ones_kept(guard: Guard, out: Path) -> None:
    out.mkdir()
    old, young = out / ".staged-old", out / ".staged-young"
    old.write_bytes(b"an image that was never recorded")
    young.write_bytes(b"of a process that is still at work")
    os.utime(old, (time.time() - 7200,) * 2)
    guard.generate(PROMPT, out=out)
    assert not old.exists()
    assert young.exists()


def test_a_recorded_image_that_waits_for_its_name_is_kept_and_published_on_the_next_start(
    guard: Guard, guard_in: Callable[..., Guard], home: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard.ledger, "finish_release", lambda record_id: None)
    sealed = guard.generate(PROMPT, out=out)
    assert isinstance(sealed, Sealed)
    assert sealed.path is not None
    (staged,) = out.iterdir()
    os.utime(staged, (time.time() - 7200,) * 2)
    guard.generate(PROMPT)
    guard.generate(PROMPT, out=out)
    assert staged.exists()
    assert not sealed.path.exists()
    guard_in(home)
    assert sealed.path.read_bytes() == sealed.data
    assert not list(out.glob(".*"))


def test_facts_are_canonical_json(guard: Guard, entries: Callable[[], list[str]]) -> None:
    guard.generate(PROMPT)
    facts = json.loads(entries()[0])["facts"]
    assert {"action", "checks", "findings", "generation", "watermark", "fingerprint"} <= set(facts)
    assert [check["component"]["name"] for check in facts["checks"]] == [
        "open-nsfw",
        "clip-concepts",
        "visible-marks",
        "similarity",
    ]
