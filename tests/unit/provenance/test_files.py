"""From file to file: the target appears whole or not at all, large files pass through piece by piece."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus
from guardrails.errors import ImageError, LaunderingError, SigningError
from guardrails.provenance import ManifestSpec, Signer, Source, Verifier


@pytest.fixture
def picture(tmp_path: Path, make: SimpleNamespace) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(make.file())
    return path


def test_file_to_file_is_as_bytes_to_bytes(
    picture: Path, signer: Signer, verifier: Verifier, make: SimpleNamespace, tmp_path: Path
) -> None:
    target, spec = tmp_path / "deep" / "signed.png", make.spec()
    manifest = signer.sign_file(picture, target, "image/png", spec)
    verdict = verifier.verify(target.read_bytes())
    assert (verdict.status, verdict.manifest_id) == (ManifestStatus.TRUSTED, spec.manifest_id)
    assert manifest in target.read_bytes()
    assert picture.read_bytes() == make.file()


@pytest.mark.parametrize("mime", ["image/jpeg", "text/x-nothing"])
def test_a_failure_leaves_nothing_behind(mime: str, picture: Path, signer: Signer, make, tmp_path: Path) -> None:
    target = tmp_path / "signed.png"
    with pytest.raises(SigningError):
        signer.sign_file(picture, target, mime, make.spec())
    target.write_bytes(b"older")
    with pytest.raises(SigningError):
        signer.sign_file(picture, target, mime, make.spec())
    assert target.read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png", "signed.png"]


def test_a_file_is_never_signed_in_place(picture: Path, signer: Signer, make: SimpleNamespace, tmp_path: Path) -> None:
    alias = tmp_path / "alias.png"
    alias.symlink_to(picture)
    for target in (picture, alias):
        with pytest.raises(SigningError, match="in place"):
            signer.sign_file(picture, target, "image/png", make.spec())
    assert picture.read_bytes() == make.file()


def test_history_is_kept_or_refused(
    picture: Path, signer: Signer, verifier: Verifier, make: SimpleNamespace, tmp_path: Path
) -> None:
    once, twice = tmp_path / "once.png", tmp_path / "twice.png"
    signer.sign_file(picture, once, "image/png", make.spec())
    with pytest.raises(LaunderingError):
        signer.sign_file(once, twice, "image/png", make.spec())
    assert not twice.exists()
    spec = ManifestSpec.handed_on(
        image_id=ImageId.new(), original=Source(path=once, mime="image/png"), fingerprint="", version="1"
    )
    signer.sign_file(once, twice, "image/png", spec)
    assert verifier.verify(twice.read_bytes()).ancestry[0].startswith(verifier.verify(once.read_bytes()).manifest_id)


def test_a_missing_file_is_an_image_error(signer: Signer, make: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot read"):
        signer.sign_file(tmp_path / "none.png", tmp_path / "signed.png", "image/png", make.spec())
    assert list(tmp_path.iterdir()) == []


def test_python_holds_no_large_file_in_memory(picture: Path, signer: Signer, make: SimpleNamespace) -> None:
    """A private PNG chunk of 32 MB makes the file large."""
    data = picture.read_bytes()
    body = b"prVt" + bytes(32_000_000)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    picture.write_bytes(data[:33] + chunk + data[33:])
    del data, body, chunk
    spec = make.spec()
    tracemalloc.start()
    try:
        signer.sign_file(picture, picture.with_name("signed.png"), "image/png", spec)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert picture.with_name("signed.png").stat().st_size > 32_000_000
    assert peak < 8_000_000
