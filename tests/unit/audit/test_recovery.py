"""Files that lost their manifest, in every way that they can, and pictures that only look or sound like ours."""

from __future__ import annotations

import io
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.audit import FileVerdict, verify_bytes
from guardrails.audit.recovery import BOTH_ISCC, BOTH_PDQ, SAME_ISCC, SAME_PDQ, Appearance, is_near
from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus, RecoveryLevel
from guardrails.domain.requests import PromptRequest
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, image_code
from guardrails.provenance.placement import locate
from guardrails.provenance.repository import Repository
from guardrails.testing.doubles import draw_shapes
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

FORMATS = ["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An installation and its images, by format."""

    home: Path
    images: dict[str, Sealed]


@pytest.fixture(scope="module")
def made(keyed_home: Path, tmp_path_factory: pytest.TempPathFactory, guard_in: Callable[..., Guard]) -> Made:
    home = Path(shutil.copytree(keyed_home, tmp_path_factory.mktemp("recovery") / "home"))
    guard = guard_in(home)
    images = {}
    for seed, name in enumerate(FORMATS, start=1):
        # The id is the mark's payload; about one random id in sixty does not survive JPEG 50 in this picture.
        id = ImageId(uuid.UUID(int=random.Random(seed).getrandbits(128), version=4))
        (outcome,) = guard.generate_all(PromptRequest(prompt="a red apple", seed=seed), format=name, ids=[id])
        assert isinstance(outcome, Sealed)
        images[name] = outcome
    return Made(home=home, images=images)


def strip(data: bytes) -> bytes:
    placement = locate(io.BytesIO(data))
    assert placement is not None
    rest = data[: placement.start] + data[placement.start + placement.length :]
    return rest[:4] + (len(rest) - 8).to_bytes(4, "little") + rest[8:] if rest.startswith(b"RIFF") else rest


def jpeg(pixels: Pixels, quality: int = 80) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_a_cleanly_stripped_file_is_recovered_bit_for_bit(made: Made, name: str) -> None:
    sealed = made.images[name]
    report = verify_bytes(strip(sealed.data), home=made.home)
    assert report.manifest.status is ManifestStatus.RECOVERED
    assert report.verdict is FileVerdict.RECOVERED
    recovery = report.recovery
    assert recovery is not None
    assert (recovery.level, recovery.found_by) == (RecoveryLevel.BIT_IDENTICAL, "digest")
    # The facts of both: the file's own verdict, and that of the manifest it had.
    assert (recovery.manifest.status, recovery.manifest.manifest_id) == (ManifestStatus.TRUSTED, sealed.id.urn)
    assert (recovery.manifest.mark_id, recovery.manifest.model) == (sealed.id.mark_id, "shapes")
    assert report.manifest.manifest_id == ""
    assert sealed.id.urn in report.manifest.explanation


def test_a_file_that_carries_its_manifest_recovers_nothing(made: Made) -> None:
    report = verify_bytes(made.images["png"].data, home=made.home)
    assert report.verdict is FileVerdict.CONFIRMED
    assert report.recovery is None


@pytest.mark.parametrize(
    "change",
    [
        lambda p: jpeg(p, 50),
        lambda p: jpeg(np.asarray(Image.fromarray(p).resize((384, 384), Image.Resampling.BICUBIC)), 85),
        lambda p: encode(p[6:-7, 5:-8], ImageFormat.PNG),
        lambda p: encode(np.ascontiguousarray(np.rot90(p)), ImageFormat.PNG),
        lambda p: encode(np.ascontiguousarray(p[:, ::-1]), ImageFormat.PNG),
    ],
    ids=["jpeg 50", "enlarged", "cropped 5 %", "quarter turn", "mirrored"],
)
def test_a_changed_copy_is_recovered_for_certain(made: Made, change: Callable[[Pixels], bytes]) -> None:
    sealed = made.images["png"]
    report = verify_bytes(change(sealed.pixels), home=made.home)
    assert report.manifest.status is ManifestStatus.RECOVERED
    recovery = report.recovery
    assert recovery is not None
    assert (recovery.level, recovery.found_by) == (RecoveryLevel.CERTAIN, "watermark")
    assert (recovery.manifest.status, recovery.manifest.manifest_id) == (ManifestStatus.TRUSTED, sealed.id.urn)
    assert "checked without its file" in recovery.manifest.explanation
    assert "1e-6" in recovery.error_rate


def test_a_transplanted_mark_is_a_candidate_at_most(made: Made) -> None:
    sealed = made.images["png"]
    mark = PixelMark(Keyring.load_or_create(made.home / "keys"))
    other = mark.embed(draw_shapes(41), sealed.id.mark_id).pixels
    report = verify_bytes(encode(other, ImageFormat.PNG), home=made.home)
    assert report.recovery is not None
    assert (report.recovery.level, report.recovery.found_by) == (RecoveryLevel.CANDIDATE, "watermark")
    assert not is_near(report.recovery.iscc_bits, report.recovery.pdq_bits)
    assert report.verdict is FileVerdict.SUSPECTED


@pytest.mark.parametrize(
    "turn", [lambda p: p, lambda p: np.rot90(p, 3), lambda p: p[::-1]], ids=["", "turned", "flipped"]
)
def test_a_picture_without_its_mark_is_a_candidate(made: Made, turn: Callable[[Pixels], Pixels]) -> None:
    """The same drawing before it was marked: the likeness is all there is."""
    unmarked = encode(np.ascontiguousarray(turn(draw_shapes(1))), ImageFormat.PNG)
    report = verify_bytes(unmarked, home=made.home)
    assert report.recovery is not None
    assert (report.recovery.level, report.recovery.found_by) == (RecoveryLevel.CANDIDATE, "fingerprint")
    assert report.recovery.manifest.manifest_id == made.images["png"].id.urn
    assert report.manifest.status is ManifestStatus.RECOVERED
    assert "look at both" in report.manifest.explanation
    assert report.verdict is FileVerdict.SUSPECTED


def test_an_unrelated_picture_recovers_nothing(made: Made) -> None:
    for seed in range(80, 90):
        report = verify_bytes(encode(draw_shapes(seed), ImageFormat.PNG), home=made.home, mode="fast")
        assert report.recovery is None
        assert report.manifest.status is ManifestStatus.NO_MANIFEST
        assert report.verdict is FileVerdict.NOT_FOUND


def _signed_by_another(made: Made, folder: Path, pixels: Pixels) -> bytes:
    sealed = made.images["png"]
    spec = ManifestSpec.generated(
        image_id=ImageId.new(),
        facts=sealed.facts,
        policy=sealed.decision.policy,
        decision=sealed.decision.action,
        findings=(),
        mark=sealed.embedding,
        fingerprint=image_code(pixels),
        prompt_digest="00" * 32,
        similar=(),
        version="0",
    )
    return Signer.dev(folder).sign(encode(pixels, ImageFormat.PNG), "image/png", spec).data


def test_a_substituted_manifest_is_shown_beside_the_one_that_was_kept(made: Made, tmp_path: Path) -> None:
    """Someone puts his own manifest in the place of ours; the watermark still names ours."""
    sealed = made.images["png"]
    report = verify_bytes(_signed_by_another(made, tmp_path / "stranger", sealed.pixels), home=made.home)
    assert report.manifest.status is ManifestStatus.VALID_UNTRUSTED
    assert report.recovery is not None
    assert report.recovery.level is RecoveryLevel.CERTAIN
    assert report.recovery.manifest.manifest_id == sealed.id.urn != report.manifest.manifest_id
    assert report.verdict is FileVerdict.CONFLICT


def test_without_a_repository_nothing_is_recovered_and_none_is_made(made: Made, tmp_path: Path) -> None:
    home = Path(shutil.copytree(made.home, tmp_path / "home"))
    shutil.rmtree(home / "manifests")
    report = verify_bytes(strip(made.images["png"].data), home=home)
    assert report.recovery is None
    assert report.manifest.status is ManifestStatus.NO_MANIFEST
    assert not (home / "manifests").exists()


def test_a_kept_manifest_of_an_untrusted_signer_recovers_no_more_than_it_proves(made: Made, tmp_path: Path) -> None:
    """The installation's root is gone: the manifest is found, and says nothing that counts."""
    home = Path(shutil.copytree(made.home, tmp_path / "home"))
    shutil.rmtree(home / "keys" / "c2pa")
    shutil.rmtree(home / "ledger")
    report = verify_bytes(strip(made.images["png"].data), home=home)
    assert report.recovery is not None
    assert report.recovery.level is RecoveryLevel.BIT_IDENTICAL
    assert report.recovery.manifest.status is ManifestStatus.VALID_UNTRUSTED
    assert report.verdict is FileVerdict.SUSPECTED


def test_a_changed_store_in_the_repository_is_seen(made: Made, tmp_path: Path) -> None:
    import sqlite3

    home = Path(shutil.copytree(made.home, tmp_path / "home"))
    with sqlite3.connect(home / "manifests" / "manifests.db") as connection:
        for number, container in connection.execute("SELECT number, container FROM manifests").fetchall():
            changed = container.replace(b"trainedAlgorithmicMedia", b"trainedAlgorithmicMedio")
            assert changed != container
            connection.execute("UPDATE manifests SET container = ? WHERE number = ?", (changed, number))
    sealed = made.images["png"]
    for data in (strip(sealed.data), jpeg(sealed.pixels)):
        report = verify_bytes(data, home=home)
        assert report.recovery is not None
        assert report.recovery.level is RecoveryLevel.CERTAIN
        assert report.recovery.manifest.status is ManifestStatus.TAMPERED
        assert "was changed" in report.recovery.manifest.explanation


def test_a_damaged_repository_does_not_keep_the_other_layers_from_speaking(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3

    home = Path(shutil.copytree(made.home, tmp_path / "home"))
    with sqlite3.connect(home / "manifests" / "manifests.db") as connection:
        connection.execute("UPDATE manifests SET pieces = 'x'")
    report = verify_bytes(strip(made.images["png"].data), home=home)
    assert report.recovery is None
    assert report.verdict is FileVerdict.RECOVERED
    assert report.ledger.found_by == "watermark"
    assert "no kept manifest was looked for" in caplog.text


def test_recovering_opens_no_socket(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    sealed = made.images["png"]
    for data in (strip(sealed.data), jpeg(sealed.pixels), sealed.data):
        assert verify_bytes(data, home=made.home).verdict in (FileVerdict.RECOVERED, FileVerdict.CONFIRMED)


def test_a_failing_repository_refuses_the_picture(
    keyed_home: Path, tmp_path: Path, guard_in: Callable[..., Guard]
) -> None:
    """Nothing leaves whose manifest could not be kept."""
    home = Path(shutil.copytree(keyed_home, tmp_path / "home"))
    manifests = Repository(home / "manifests")
    guard = guard_in(home, manifests=manifests)
    manifests.close()
    outcome = guard.generate("a red apple", seed=1, out=tmp_path / "out")
    assert not isinstance(outcome, Sealed)
    assert outcome.fault.startswith("repository_failed")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_own_picture_is_near_itself_and_another_is_not() -> None:
    one, other = Appearance.of(draw_shapes(1)), Appearance.of(draw_shapes(2))
    assert one.distances(one.upright, turned=False) == (0, 0)
    iscc, pdq = one.distances(other.upright, turned=False)
    assert not is_near(iscc, pdq)
    flat = Appearance.of(np.full((256, 256, 3), 200, np.uint8))
    # Too little detail: its PDQ would be that of every flat picture.
    assert flat.pdq == ()
    assert flat.distances(one.upright, turned=True)[1] is None


@pytest.mark.parametrize(
    ("iscc", "pdq", "near"),
    [
        (None, None, False),
        (SAME_ISCC, None, True),
        (SAME_ISCC + 1, None, False),
        (None, SAME_PDQ, True),
        (None, SAME_PDQ + 1, False),
        (SAME_ISCC, 256, True),
        (64, SAME_PDQ, True),
        (BOTH_ISCC, BOTH_PDQ, True),
        (BOTH_ISCC + 1, BOTH_PDQ, False),
        (BOTH_ISCC, BOTH_PDQ + 1, False),
        (BOTH_ISCC, None, False),
    ],
)
def test_what_is_near(iscc: int | None, pdq: int | None, near: bool) -> None:
    assert is_near(iscc, pdq) is near


def test_a_store_alone_is_judged_without_its_file(made: Made, tmp_path: Path) -> None:
    verifier = Verifier(TrustStore.dev(made.home / "keys"))
    with Repository(made.home / "manifests", create=False) as repository:
        store = repository.newest(1)[0].store
    assert verifier.verify_store(store).status is ManifestStatus.TRUSTED
    assert Verifier(TrustStore()).verify_store(store).status is ManifestStatus.VALID_UNTRUSTED
    assert verifier.verify_store(store[:-1]).status is ManifestStatus.UNREADABLE
    assert verifier.verify_store(b"").status is ManifestStatus.UNREADABLE
    broken = bytearray(store)
    broken[-10] ^= 1
    assert verifier.verify_store(bytes(broken)).status is ManifestStatus.TAMPERED
