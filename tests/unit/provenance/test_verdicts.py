"""The verdict on changed, stripped, odd and hostile files; labels follow from what was done to each file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.images import ManifestStatus
from guardrails.provenance import Signer, TrustStore, Verifier, backend

STORE_CHUNK = b"caBX"


def _store_span(png: bytes) -> tuple[int, int]:
    """Begin and end of the PNG chunk that holds the manifests."""
    begin = png.index(STORE_CHUNK) - 4
    return begin, begin + 12 + struct.unpack(">I", png[begin : begin + 4])[0]


def _with_store(png: bytes, store: bytes) -> bytes:
    begin, end = _store_span(png)
    body = STORE_CHUNK + store
    return png[:begin] + struct.pack(">I", len(store)) + body + struct.pack(">I", zlib.crc32(body)) + png[end:]


def _boxes(store: bytes) -> list[bytes]:
    """The boxes inside the outer JUMBF box: its description, then one per manifest."""
    found, offset = [], 8
    while offset < len(store):
        size = struct.unpack(">I", store[offset : offset + 4])[0]
        found.append(store[offset : offset + size])
        offset += size
    return found


def _join(boxes: list[bytes]) -> bytes:
    body = b"".join(boxes)
    return struct.pack(">I4s", 8 + len(body), b"jumb") + body


def test_without_anchors_the_file_is_valid_and_untrusted(sign, foreign_keys: Path) -> None:
    signed = sign()
    for trust in (TrustStore(), TrustStore.dev(foreign_keys)):
        verdict = Verifier(trust).verify(signed)
        assert verdict.status is ManifestStatus.VALID_UNTRUSTED
        assert verdict.codes[0] == "signingCredential.untrusted"
        assert "not on the trust list" in verdict.explanation


def test_trust_stores_add_up(sign, keys: Path, foreign_keys: Path) -> None:
    both = TrustStore() + TrustStore.dev(foreign_keys) + TrustStore.dev(keys)
    assert Verifier(both).verify(sign()).status is ManifestStatus.TRUSTED


def test_a_list_with_remarks_between_its_certificates_is_read(
    sign, keys: Path, foreign_keys: Path, tmp_path: Path
) -> None:
    path = tmp_path / "list.pem"
    path.write_bytes("# Müller & Söhne\n".encode() + TrustStore.dev(foreign_keys).anchors + b"\n# ours\n")
    path.write_bytes(path.read_bytes() + TrustStore.dev(keys).anchors)
    assert Verifier(TrustStore.pem(path)).verify(sign()).status is ManifestStatus.TRUSTED


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_one_changed_image_byte_is_tampering(
    format: str, signer: Signer, verifier: Verifier, make: SimpleNamespace
) -> None:
    plain = make.file(4, format)
    signed = bytearray(signer.sign(plain, f"image/{format.lower()}", make.spec(4)).data)
    # A run from the middle of the plain file's last bytes lies in the compressed pixels.
    position = bytes(signed).index(plain[-60:-40])
    signed[position] ^= 1
    verdict = verifier.verify(bytes(signed))
    assert verdict.status is ManifestStatus.TAMPERED
    assert verdict.codes[0] == "assertion.dataHash.mismatch"


def test_appended_bytes_are_tampering(sign, verifier: Verifier) -> None:
    assert verifier.verify(sign() + b"more").status is ManifestStatus.TAMPERED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"trainedAlgorithmicMedia", b"digitalCapture\0\0\0\0\0\0\0\0\0"),
        (b'"decision":"flag"', b'"decision":"pass"'),
        (b"DDIMS", b"DPMSo"),
    ],
)
def test_an_edited_assertion_is_tampering(before: bytes, after: bytes, sign, verifier: Verifier) -> None:
    signed = sign()
    assert signed.count(before) == 1
    verdict = verifier.verify(signed.replace(before, after))
    assert verdict.status is ManifestStatus.TAMPERED
    assert "assertion.hashedURI.mismatch" in verdict.codes


def test_a_foreign_manifest_on_our_picture_is_tampering(sign, verifier: Verifier) -> None:
    one, other = sign(1), sign(2)
    begin, end = _store_span(other)
    transplanted = _with_store(one, other[begin + 8 : end - 4])
    assert verifier.verify(transplanted).status is ManifestStatus.TAMPERED


def test_a_saved_copy_has_no_manifest_and_is_not_called_free_of_ai(sign, verifier: Verifier) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(sign())).save(buffer, "PNG")
    verdict = verifier.verify(buffer.getvalue())
    assert verdict.status is ManifestStatus.NO_MANIFEST
    assert verdict.manifest_id == ""
    assert "says nothing about its origin" in verdict.explanation
    assert "not AI" not in verdict.explanation


def test_a_manifest_that_nothing_refers_to_is_flagged(
    sign, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways: spliced into the bytes, and (data hash aside) as a signer would have to leave it."""
    one, other = sign(1), sign(2)
    begin, end = _store_span(one)
    description, own = _boxes(one[begin + 8 : end - 4])
    stray = _boxes(other[_store_span(other)[0] + 8 : _store_span(other)[1] - 4])[1]
    spliced = _with_store(one, _join([description, stray, own]))
    verdict = verifier.verify(spliced)
    assert verdict.status is ManifestStatus.TAMPERED
    assert "org.guardrails.manifest.unreferenced" in verdict.codes

    # A box that the hash does not cover by position (BMFF files) hides the splice from the data hash.
    original = backend.read(spliced, TrustStore().anchors)
    assert isinstance(original, backend.Store)
    clean = backend.read(one, TrustStore().anchors)
    assert isinstance(clean, backend.Store)
    hidden = backend.Store(
        active=clean.active,
        manifests=original.manifests,
        failures=(),
        changes=(),
        successes=("signingCredential.trusted",),
        confirmed=frozenset(),
        anchors=b"",
        reader=None,
    )
    monkeypatch.setattr(backend, "read", lambda data, anchors: hidden)
    verdict = verifier.verify(one)
    assert verdict.status is ManifestStatus.TAMPERED
    assert "nothing refers to" in verdict.explanation


@pytest.mark.parametrize("data", [b"", b"\0", b"no picture at all", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_file_is_unreadable(data: bytes, verifier: Verifier) -> None:
    verdict = verifier.verify(data)
    assert verdict.status is ManifestStatus.UNREADABLE
    assert "nothing was checked" in verdict.explanation


def test_an_exception_of_the_sdk_is_unreadable(sign, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    import c2pa

    def broken(self: object) -> str:
        raise KeyError("claim")

    monkeypatch.setattr(c2pa.Reader, "json", broken)
    verdict = verifier.verify(sign())
    assert verdict.status is ManifestStatus.UNREADABLE
    assert "KeyError" in verdict.explanation


def test_no_change_outside_the_manifest_goes_unnoticed(sign, verifier: Verifier) -> None:
    signed = sign(7)
    begin, end = _store_span(signed)
    positions = np.random.default_rng(0).permutation([*range(begin), *range(end, len(signed))])[:150]
    for position in map(int, positions):
        changed = bytearray(signed)
        changed[position] ^= 1 << (position % 8)
        status = verifier.verify(bytes(changed)).status
        assert status in (ManifestStatus.TAMPERED, ManifestStatus.UNREADABLE, ManifestStatus.NO_MANIFEST), position


def test_damaged_manifests_never_raise(sign, verifier: Verifier) -> None:
    signed = sign(8)
    begin, end = _store_span(signed)
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        changed = bytearray(signed)
        start = int(random.integers(begin, end))
        changed[start : start + int(random.integers(1, 6))] = random.bytes(int(random.integers(0, 6)))
        seen.add(verifier.verify(bytes(changed)).status)
    assert {ManifestStatus.TAMPERED, ManifestStatus.UNREADABLE} <= seen
