"""What the evidence in a file adds up to, from the exact bytes to transplants and damaged ledgers."""

from __future__ import annotations

import io
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.audit import Auditor, FileReport, verify_bytes
from guardrails.audit.report import FileVerdict, LedgerStatus
from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus, MarkVerdict
from guardrails.errors import ImageError, LedgerCorrupt
from guardrails.files import write_atomically
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.ledger import Ledger
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import ManifestSpec, Signer, TrustStore, backend, image_code
from guardrails.provenance.certificates import load_dev_key
from guardrails.provenance.lineage import Ingredient, Source
from guardrails.testing.doubles import draw_shapes

Made = tuple[Path, Sealed]


@pytest.fixture(scope="module")
def made(keyed_home: Path, tmp_path_factory: pytest.TempPathFactory, guard_in: Callable[..., Guard]) -> Made:
    """An installation with two records, and the first image; not to be changed."""
    root = tmp_path_factory.mktemp("made") / "home"
    shutil.copytree(keyed_home, root)
    guard = guard_in(root)
    sealed = guard.generate("a red apple", seed=1)
    assert isinstance(sealed, Sealed)
    assert isinstance(guard.generate("a blue boat", seed=2), Sealed)
    return root, sealed


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, guard_in: Callable[..., Guard]) -> Made:
    """Another installation, with keys of its own, and an image of it."""
    root = tmp_path_factory.mktemp("stranger")
    sealed = guard_in(root).generate("a green pear", seed=3)
    assert isinstance(sealed, Sealed)
    return root, sealed


@pytest.fixture
def changed(made: Made, tmp_path: Path) -> Path:
    """A copy of the installation, to be damaged."""
    return Path(shutil.copytree(made[0], tmp_path / "home"))


def jpeg(pixels: Pixels, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def sign(root: Path, pixels: Pixels, sealed: Sealed, image_id: ImageId) -> bytes:
    """These pixels under a manifest that names `image_id`, with the keys of `root`."""
    spec = ManifestSpec.generated(
        image_id=image_id,
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
    return Signer.dev(root / "keys").sign(encode(pixels, ImageFormat.PNG), "image/png", spec).data


def test_the_released_bytes_are_confirmed(made: Made) -> None:
    root, sealed = made
    report = verify_bytes(sealed.data, home=root)
    assert report.verdict is FileVerdict.CONFIRMED
    assert report.exact
    assert set(report.ids) == {"manifest", "watermark", "ledger"}
    assert set(report.ids.values()) == {sealed.id.mark_id}
    assert report.ledger.proof is not None
    assert (report.ledger.found_by, report.ledger.proof.index, report.ledger.proof.size) == ("image", 0, 2)


def test_a_stripped_and_recompressed_copy_is_recovered_by_its_watermark(made: Made) -> None:
    root, sealed = made
    report = verify_bytes(jpeg(sealed.pixels, 60), home=root)
    assert report.verdict is FileVerdict.RECOVERED
    assert not report.exact
    assert report.manifest.status is ManifestStatus.RECOVERED
    assert (report.ledger.found_by, report.ledger.record_id) == ("watermark", str(sealed.id))
    assert report.ids == {"watermark": sealed.id.mark_id, "ledger": sealed.id.mark_id}


def test_a_foreign_picture_is_not_found_which_says_nothing_about_ai(made: Made) -> None:
    report = verify_bytes(encode(draw_shapes(99), ImageFormat.PNG), home=made[0])
    assert report.verdict is FileVerdict.NOT_FOUND
    assert "does not mean" in report.explanation
    assert report.mark is not None
    assert report.mark.verdict is MarkVerdict.NOT_DETECTED
    assert report.ledger.status is LedgerStatus.NO_RECORD


def test_changed_pixels_under_the_old_manifest_are_tampering(made: Made) -> None:
    root, sealed = made
    at = sealed.data.index(b"IDAT") + 60
    data = sealed.data[:at] + bytes([sealed.data[at] ^ 0xFF]) + sealed.data[at + 1 :]
    report = verify_bytes(data, home=root)
    assert report.verdict in (FileVerdict.TAMPERED, FileVerdict.UNREADABLE)
    assert report.manifest.status is ManifestStatus.TAMPERED
    assert not report.exact


def test_other_pixels_under_a_stolen_manifest_are_tampering(made: Made) -> None:
    """A metadata chunk is added: pixels decode, nothing but the signature notices."""
    root, sealed = made
    end = sealed.data.rindex(b"IEND") - 4
    chunk = bytes.fromhex("0000000474455874") + b"a\x00bc"
    import zlib

    data = sealed.data[:end] + chunk + zlib.crc32(chunk[4:]).to_bytes(4, "big") + sealed.data[end:]
    report = verify_bytes(data, home=root)
    assert report.verdict is FileVerdict.TAMPERED
    assert report.mark is not None
    assert report.mark.mark_id == sealed.id.mark_id


def test_the_watermark_of_one_image_under_the_manifest_of_another_is_a_conflict(made: Made) -> None:
    root, sealed = made
    with Ledger.open(root / "ledger", create=False) as ledger:
        other = ledger.find_by_index(1)
    assert other is not None
    for image_id in (ImageId.parse(other.record.id), ImageId.new()):
        report = verify_bytes(sign(root, sealed.pixels, sealed, image_id), home=root)
        assert report.manifest.status is ManifestStatus.TRUSTED
        assert report.verdict is FileVerdict.CONFLICT
        assert report.ids["watermark"] == report.ids["ledger"] == sealed.id.mark_id
        assert report.ids["manifest"] == image_id.mark_id


def test_an_edit_that_names_our_image_as_its_origin_is_no_transplant(made: Made, stranger: Made) -> None:
    root, sealed = made
    actions = [
        {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}},
        {"action": "c2pa.edited", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/humanEdits"},
    ]
    definition = {
        "claim_version": 2,
        "label": ImageId.new().urn,
        "title": "image",
        "claim_generator_info": [{"name": "an editor", "version": "1"}],
        "assertions": [
            {"label": "c2pa.actions.v2", "created": True, "data": {"allActionsIncluded": True, "actions": actions}}
        ],
    }
    anchors = (TrustStore.dev(root / "keys") + TrustStore.dev(stranger[0] / "keys")).anchors
    brighter = np.clip(sealed.pixels.astype(np.int16) + 8, 0, 255).astype(np.uint8)
    data, _ = backend.sign(
        encode(brighter, ImageFormat.PNG),
        "image/png",
        definition,
        load_dev_key(stranger[0] / "keys"),
        anchors=anchors,
        ingredients=[
            Ingredient(id="parent", relationship="parentOf", source=Source(data=sealed.data, mime="image/png"))
        ],
    )
    for trust in (None, TrustStore.dev(stranger[0] / "keys")):
        report = Auditor.open(root, trust=trust).verify(data)
        assert report.verdict is FileVerdict.RECOVERED
        assert report.ids == {"watermark": sealed.id.mark_id, "ledger": sealed.id.mark_id}


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"<svg/>"], ids=repr)
def test_bytes_without_pixels_are_unreadable(made: Made, data: bytes) -> None:
    report = verify_bytes(data, home=made[0])
    assert report.verdict is FileVerdict.UNREADABLE
    assert report.mark is None
    assert report.problem


def test_a_file_cut_short_is_never_confirmed(made: Made) -> None:
    root, sealed = made
    for share in (0.3, 0.6, 0.9, 0.99):
        report = verify_bytes(sealed.data[: int(len(sealed.data) * share)], home=root)
        assert report.verdict in (FileVerdict.UNREADABLE, FileVerdict.TAMPERED)


def test_another_installations_manifest_is_signed_once_its_root_is_trusted(made: Made, stranger: Made) -> None:
    theirs, sealed = stranger
    trusting = Auditor.open(made[0], trust=TrustStore.dev(theirs / "keys")).verify(sealed.data)
    assert trusting.verdict is FileVerdict.SIGNED
    assert trusting.ids == {"manifest": sealed.id.mark_id}
    doubting = verify_bytes(sealed.data, home=made[0])
    assert doubting.manifest.status is ManifestStatus.VALID_UNTRUSTED
    assert doubting.verdict is FileVerdict.SUSPECTED
    assert "claim" in doubting.explanation


def test_a_self_made_manifest_with_a_recorded_id_proves_nothing(made: Made, stranger: Made) -> None:
    """Anyone can sign a picture of his own under the id of ours."""
    root, sealed = made
    forged = sign(stranger[0], draw_shapes(50), sealed, sealed.id)
    report = verify_bytes(forged, home=root)
    assert report.verdict is FileVerdict.SUSPECTED
    assert report.ledger.found_by == "manifest"
    assert not report.exact


def test_our_manifest_around_pixels_without_the_mark_is_signed_not_confirmed(made: Made) -> None:
    root, sealed = made
    report = verify_bytes(sign(root, draw_shapes(51), sealed, sealed.id), home=root)
    assert report.verdict is FileVerdict.SIGNED


def damage(root: Path, change: Callable[[bytes], bytes]) -> None:
    with sqlite3.connect(root / "ledger" / "ledger.db") as connection:
        (entry,) = connection.execute("SELECT entry FROM records WHERE seq = 1").fetchone()
        connection.execute("UPDATE records SET entry = ? WHERE seq = 1", (change(entry),))


@pytest.mark.parametrize(
    "change",
    [lambda entry: entry.replace(b'"seed":1,', b'"seed":7,'), lambda entry: b"\xff" + entry[1:]],
    ids=["another seed", "no JSON"],
)
def test_a_changed_ledger_entry_is_a_conflict(changed: Path, made: Made, change: Callable[[bytes], bytes]) -> None:
    damage(changed, change)
    report = verify_bytes(made[1].data, home=changed)
    assert report.ledger.status is LedgerStatus.CORRUPT
    assert report.ledger.proof is None
    assert report.verdict is FileVerdict.CONFLICT


def test_every_single_flipped_byte_of_an_entry_is_noticed(changed: Path, made: Made) -> None:
    data = jpeg(made[1].pixels, 80)
    with sqlite3.connect(changed / "ledger" / "ledger.db") as connection:
        (entry,) = connection.execute("SELECT entry FROM records WHERE seq = 1").fetchone()
    for position in range(0, len(entry), len(entry) // 12):
        flipped = entry[:position] + bytes([entry[position] ^ 1]) + entry[position + 1 :]
        damage(changed, lambda _, flipped=flipped: flipped)
        assert verify_bytes(data, home=changed, mode="fast").verdict is FileVerdict.CONFLICT


def test_a_ledger_that_lost_records_is_not_opened(changed: Path, made: Made) -> None:
    with sqlite3.connect(changed / "ledger" / "ledger.db") as connection:
        connection.execute("DELETE FROM leaves WHERE idx = 1")
    with pytest.raises(LedgerCorrupt):
        verify_bytes(made[1].data, home=changed)


def test_a_lost_ledger_leaves_what_the_keys_prove(changed: Path, made: Made) -> None:
    shutil.rmtree(changed / "ledger")
    report = verify_bytes(made[1].data, home=changed)
    assert (report.verdict, report.ledger.status) == (FileVerdict.SIGNED, LedgerStatus.UNAVAILABLE)
    # The kept manifest is signed: it stands where the ledger is lost.
    stripped = jpeg(made[1].pixels, 80)
    assert verify_bytes(stripped, home=changed).verdict is FileVerdict.RECOVERED
    shutil.rmtree(changed / "manifests")
    assert verify_bytes(stripped, home=changed).verdict is FileVerdict.SUSPECTED


def test_nothing_is_created_where_there_is_no_installation(made: Made, tmp_path: Path) -> None:
    empty = tmp_path / "none"
    report = verify_bytes(jpeg(made[1].pixels, 80), home=empty)
    assert report.verdict is FileVerdict.NOT_FOUND
    assert "could not be looked for" in report.explanation
    assert report.problem == "no watermark key in this installation"
    assert not empty.exists()


def test_a_picture_too_small_for_a_mark_says_so(made: Made) -> None:
    report = verify_bytes(encode(draw_shapes(60, side=64), ImageFormat.PNG), home=made[0])
    assert report.mark is not None
    assert report.mark.verdict is MarkVerdict.ERROR
    assert report.problem
    assert report.verdict is FileVerdict.NOT_FOUND


def test_verifying_writes_nothing(made: Made, tmp_path: Path) -> None:
    def state() -> dict[str, bytes]:
        kept = [path for path in made[0].rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]
        return {str(path): path.read_bytes() for path in kept}

    before = state()
    write_atomically(tmp_path / "a.png", made[1].data)
    report: FileReport = Auditor.open(made[0]).verify_file(tmp_path / "a.png", mode="deep")
    assert report.verdict is FileVerdict.CONFIRMED
    assert state() == before


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_a_file_that_cannot_be_read_is_an_image_error(made: Made, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError):
        Auditor.open(made[0]).verify_file(tmp_path / name)


def test_marked_pixels_decode_alike_in_every_format(made: Made) -> None:
    pixels = made[1].pixels
    assert np.array_equal(decode(encode(pixels, ImageFormat.PNG)).pixels, pixels)
    for file_format in (ImageFormat.JPEG, ImageFormat.WEBP):
        report = verify_bytes(encode(pixels, file_format), home=made[0])
        assert report.verdict is FileVerdict.RECOVERED
