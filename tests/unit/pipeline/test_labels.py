"""The visible label in a guard: behind the screens, under the mark, in manifest, XMP, record and file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from guardrails.domain.images import ManifestStatus, MarkVerdict
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import OptionError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.labels import LEAST_CONTRAST, label_contrast
from guardrails.imaging.metadata import COMPOSITE_WITH_TRAINED, read_xmp
from guardrails.pipeline import Guard, Original, Sealed
from guardrails.provenance import TrustStore, Verifier, backend, rubric
from guardrails.screens.protocol import Reading
from guardrails.similarity.search import SearchResult
from guardrails.testing.doubles import FixedIndex, FixedScreen, ShapeGenerator, draw_shapes, passing_screens
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

AIGC = ".//{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"


def asked(jurisdiction: str = "", *labels: str, **options: Any) -> PromptRequest:
    return PromptRequest(prompt="a red apple", seed=4, jurisdiction=jurisdiction, labels=labels, **options)


def made(guard: Guard, request: PromptRequest, **options: Any) -> Sealed:
    (outcome,) = guard.generate_all(request, **options)
    assert isinstance(outcome, Sealed), outcome
    return outcome


def actions(sealed: Sealed) -> list[dict[str, Any]]:
    reading = backend.read(sealed.data, TrustStore().anchors)
    assert isinstance(reading, backend.Store)
    manifest = reading.crjson()["manifests"][0]
    found: list[dict[str, Any]] = manifest["assertions"]["c2pa.actions.v2"]["actions"]
    return found


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "avif", "tiff"])
def test_label_and_mark_are_both_read_back_from_the_file(guard: Guard, home: Path, out: Path, name: str) -> None:
    sealed = made(guard, asked("CN", "eu"), format=name, out=out)
    assert sealed.path is not None
    final = decode(sealed.path.read_bytes()).pixels
    assert sealed.label is not None
    assert sealed.label.text == "AI生成 AI GENERATED"
    assert sealed.label.contrast == round(label_contrast(final, sealed.label), 1) >= LEAST_CONTRAST
    reading = PixelMark(Keyring.load_or_create(home / "keys")).detect(final)
    assert (reading.verdict, reading.mark_id) == (MarkVerdict.PRESENT, sealed.id.mark_id)


def test_manifest_record_and_verdict_name_the_label(guard: Guard, home: Path, facts: Callable[[], Any]) -> None:
    sealed = made(guard, asked("CN"))
    label = sealed.label
    assert label is not None
    verdict = Verifier(TrustStore.dev(home / "keys")).verify(sealed.data)
    assert (verdict.status, verdict.label) == (ManifestStatus.TRUSTED, "AI生成")
    created, added, marked = actions(sealed)
    assert [created["action"], added["action"], marked["action"]] == [
        "c2pa.created",
        "c2pa.addedText",
        "c2pa.watermarked.bound",
    ]
    shape = added["changes"][0]["region"][0]["shape"]
    left, top, right, bottom = label.box
    assert (shape["origin"], shape["width"], shape["height"]) == ({"x": left, "y": top}, right - left, bottom - top)
    recorded = facts()["label"]
    assert (recorded["text"], recorded["box"], recorded["contrast"]) == ("AI生成", list(label.box), label.contrast)
    assert set(recorded["profiles"]) == {"cn"}


def test_the_manifest_of_a_labelled_picture_meets_the_rubric(guard: Guard) -> None:
    for sealed in (
        made(guard, asked("CN")),
        made(guard, asked("CN"), original=Original.read(made(guard, asked()).data)),
    ):
        reading = backend.read(sealed.data, TrustStore().anchors)
        assert isinstance(reading, backend.Store)
        failed = [each for each in rubric.check(reading.crjson()) if not each.passed]
        assert failed == []


def test_chinas_label_stands_in_the_metadata_once(guard: Guard) -> None:
    sealed = made(guard, asked("CN", "eu"))
    tree = ElementTree.fromstring(read_xmp(sealed.data))
    (written,) = tree.findall(AIGC)
    told = json.loads(written.text)
    assert list(told) == [
        "Label",
        "ContentProducer",
        "ProduceID",
        "ReservedCode1",
        "ContentPropagator",
        "PropagateID",
        "ReservedCode2",
    ]
    # The name that the certificate bears, and the id that manifest and record have.
    assert (told["Label"], told["ContentProducer"], told["ProduceID"]) == ("1", sealed.manifest.issuer, sealed.id.urn)


def test_the_short_form_takes_labels_too(guard: Guard) -> None:
    sealed = guard.generate("a red apple", seed=4, jurisdiction="CN", labels=["eu"])
    assert isinstance(sealed, Sealed)
    assert sealed.manifest.label == "AI生成 AI GENERATED"


@pytest.mark.parametrize("jurisdiction", ["", "DE", "US"])
def test_nothing_is_drawn_or_declared_where_nobody_wants_a_label(
    guard: Guard, facts: Callable[[], Any], jurisdiction: str
) -> None:
    sealed = made(guard, asked(jurisdiction))
    assert sealed.label is None
    assert sealed.manifest.label == ""
    assert "label" not in facts()
    assert "c2pa.addedText" not in [action["action"] for action in actions(sealed)]
    assert b"TC260" not in (read_xmp(sealed.data) or b"")


def test_the_label_lies_beside_the_picture_that_was_screened(home: Path, guard_in: Callable[..., Guard]) -> None:
    seen: list[Pixels] = []

    class Looks(FixedScreen):
        def score(self, pixels: Pixels) -> Reading:
            seen.append(pixels.copy())
            return super().score(pixels)

    class Searches(FixedIndex):
        def find(self, pixels: Pixels) -> SearchResult:
            seen.append(pixels.copy())
            return super().find(pixels)

    first, *others = passing_screens()
    screens = (Looks(component=first.component, scores=first.scores), *others)
    made(guard_in(home, screens=screens, index=Searches()), asked("CN", "eu", "us"))
    assert len(seen) == 2
    for pixels in seen:
        np.testing.assert_array_equal(pixels, draw_shapes(4))


def test_a_changed_picture_says_so(guard: Guard) -> None:
    original = Original.read(made(guard, asked()).data, strength=0.5)
    sealed = made(guard, asked("CN", "eu"), original=original)
    assert sealed.manifest.label == "AI合成 AI MODIFIED"
    assert COMPOSITE_WITH_TRAINED.encode() in (read_xmp(sealed.data) or b"")


@pytest.mark.parametrize("request_", [asked("cn"), asked("", "atlantis")])
def test_a_slip_is_told_before_anything_is_drawn(guard: Guard, request_: PromptRequest) -> None:
    with pytest.raises(OptionError):
        guard.generate_all(request_)
    assert len(guard.ledger) == 0


def test_a_picture_without_room_is_refused_and_recorded(
    home: Path, guard_in: Callable[..., Guard], facts: Callable[[], Any]
) -> None:
    (outcome,) = guard_in(home).generate_all(asked("", "eu", width=40))
    assert isinstance(outcome, Refusal)
    assert (outcome.stage, outcome.fault.partition(":")[0]) == (Stage.LABEL, "label_failed")
    assert facts()["stage"] == "label"
    assert isinstance(guard_in(home).generate_all(asked("", "eu"))[0], Sealed)


def test_a_label_that_something_wiped_out_is_not_released(
    home: Path, guard_in: Callable[..., Guard], out: Path, left: Callable[[], list[str]]
) -> None:
    class Wipes(PixelMark):
        """A mark that takes the label with it."""

        def embed(self, pixels: Pixels, mark_id: str, **options: Any) -> Any:
            wiped = pixels.copy()
            wiped[: pixels.shape[0] // 4] = 200
            return super().embed(wiped, mark_id, **options)

    guard = guard_in(home, mark=Wipes(Keyring.load_or_create(home / "keys")))
    assert isinstance(guard.generate_all(asked(), out=out)[0], Sealed)
    released = left()
    (outcome,) = guard.generate_all(asked("CN"), out=out)
    assert isinstance(outcome, Refusal)
    assert (outcome.stage, outcome.fault.partition(":")[0]) == (Stage.PROVENANCE, "label_failed")
    assert left() == released


def test_the_pixels_that_reviewers_see_are_those_of_the_model(home: Path, guard_in: Callable[..., Guard]) -> None:
    """What binds a release to a review is taken before the label, which would differ by jurisdiction."""
    import hashlib

    from guardrails.pipeline import Approval

    seen = hashlib.sha256(draw_shapes(4).tobytes()).hexdigest()
    approval = Approval(review="r1", rules=frozenset({"any"}), seed=4, pictures=frozenset({seen}))
    assert made(guard_in(home, ShapeGenerator()), asked("CN"), approval=approval).label is not None
