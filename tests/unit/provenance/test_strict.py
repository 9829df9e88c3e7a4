"""Strict mode: what no signature covers must be as signers leave it; files of every format pass unless touched."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cbor2
import pytest

from guardrails.domain.images import CheckResult, ManifestStatus
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.provenance import Signer, TrustStore, Verifier, containers, strict

FORMATS = [format for format in ImageFormat if format.writable]


@pytest.fixture(scope="module")
def exact(keys: Path) -> Verifier:
    return Verifier(TrustStore.dev(keys), strict=True)


@pytest.fixture(scope="module")
def files(signer: Signer, make: SimpleNamespace) -> dict[ImageFormat, bytes]:
    return {f: signer.sign(encode(make.pixels(1), f), f.mime, make.spec(1)).data for f in FORMATS}


def _flip(data: bytes, position: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def _repair_crc(png: bytes) -> bytes:
    """The file with the checksum of its manifest chunk made right again."""
    begin = png.index(b"caBX")
    end = begin + 4 + struct.unpack(">I", png[begin - 4 : begin])[0]
    return png[:end] + struct.pack(">I", zlib.crc32(png[begin:end])) + png[end + 4 :]


def _pad(data: bytes) -> int:
    """Position of the zeros: the CBOR text "pad", then the head of a long byte string."""
    return data.index(b"cpadY") + 7


@pytest.mark.parametrize("format", FORMATS)
def test_untouched_files_give_no_finding_and_the_store_of_the_signer(
    format: ImageFormat, signer: Signer, make: SimpleNamespace
) -> None:
    signed = signer.sign(encode(make.pixels(2), format), format.mime, make.spec(2))
    assert strict.findings(signed.data) == ()
    assert containers.store_of(signed.data) == signed.manifest


@pytest.mark.parametrize("format", FORMATS)
def test_a_filled_padding_passes_the_sdk_and_not_the_strict_mode(
    format: ImageFormat, files: dict[ImageFormat, bytes], verifier: Verifier, exact: Verifier
) -> None:
    changed = _flip(files[format], _pad(files[format]) + 100)
    changed = _repair_crc(changed) if format is ImageFormat.PNG else changed
    assert verifier.verify(changed).status is ManifestStatus.TRUSTED
    verdict = exact.verify(changed)
    assert verdict.status is ManifestStatus.TAMPERED
    assert verdict.codes[0].startswith("org.guardrails.strict.signature: the padding")
    assert (verdict.integrity, verdict.signature) == (CheckResult.FAILED, CheckResult.PASSED)


CHANGES: dict[str, tuple[ImageFormat, Callable[[bytes], bytes], str]] = {
    "chunk checksum": (ImageFormat.PNG, lambda d: _flip(d, d.index(b"IDAT") - 5), "checksum"),
    "box label": (ImageFormat.WEBP, lambda d: _flip(d, d.rindex(b"c2pa.signature") + 6), "unexpected label"),
    "box content type": (ImageFormat.WEBP, lambda d: _flip(d, d.index(b"cbor\x00\x11") + 1), "unknown content type"),
    "box toggles": (ImageFormat.JPEG, lambda d: _flip(d, d.rindex(b"c2pa.signature") - 1, 3), "toggles"),
    "brand": (ImageFormat.AVIF, lambda d: _flip(d, 8), "unknown brand"),
    "purpose": (ImageFormat.AVIF, lambda d: _flip(d, d.index(b"manifest\0") - 2), "flags or purpose"),
    "packet number": (ImageFormat.JPEG, lambda d: _flip(d, d.index(b"\xff\xeb") + 11, 1), "not in sequence"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_place_that_nothing_covers_is_looked_at(
    name: str, files: dict[ImageFormat, bytes], exact: Verifier
) -> None:
    format, change, expected = CHANGES[name]
    changed = change(files[format])
    assert any(expected in finding for finding in strict.findings(changed))
    assert exact.verify(changed).status is not ManifestStatus.TRUSTED


def test_an_unknown_header_beside_the_signature_is_found(files: dict[ImageFormat, bytes], exact: Verifier) -> None:
    """It takes its room from the padding, so that every box keeps its size."""
    png = files[ImageFormat.PNG]
    begin = _pad(png) - 7
    size = struct.unpack(">H", png[begin + 5 : begin + 7])[0]
    headers = cbor2.dumps({"pad": bytes(size - 7), "note": "x"})
    changed = _repair_crc(png[: begin - 1] + headers + png[begin - 1 + len(headers) :])
    assert strict.findings(changed) == ("org.guardrails.strict.signature: unknown unprotected header 'note'",)
    assert exact.verify(changed).status is ManifestStatus.TAMPERED


def test_nearly_every_flip_outside_the_hashes_is_flagged(files: dict[ImageFormat, bytes], exact: Verifier) -> None:
    """The store's own bytes, 60 a format; the number that JPEG gives a box instance is free (2 bytes of each file)."""
    for format, data in files.items():
        begin = data.rindex(b"c2pa.signature")
        places = range(begin, min(begin + 2300, len(data)), 38)
        missed = [p for p in places if exact.verify(_flip(data, p, p % 8)).status is ManifestStatus.TRUSTED]
        assert missed == [], format


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF\0\0\0\0WEBP",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\xff\xd8\xff\xeb",
        b"\0\0\0\x10ftyp",
        b"II*\0\xff\xff\xff\xff",
        b"%PDF-1.7",
    ],
)
def test_broken_containers_are_findings(data: bytes) -> None:
    assert strict.findings(data)[0].startswith(strict.CONTAINER)
