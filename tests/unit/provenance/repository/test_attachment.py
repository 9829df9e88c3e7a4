"""Back into the file, bit for bit; and not into any other file."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrails.domain.images import ManifestStatus
from guardrails.errors import RepositoryError
from guardrails.provenance import Signer, Verifier
from guardrails.provenance.placement import locate
from guardrails.provenance.repository import Fingerprints, attach, rest_digest, to_entry

FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_stripped_file_becomes_the_signed_one_again(
    format: str, kept: SimpleNamespace, verifier: Verifier, make: SimpleNamespace
) -> None:
    signed, entry = kept.signed(format)
    rest = kept.stripped(signed)
    # What was cut down is what had been signed: nothing else was added.
    assert len(rest) == len(make.file(1, format))
    assert verifier.verify(rest).status is ManifestStatus.NO_MANIFEST
    assert rest_digest(io.BytesIO(rest)) == entry.rest_sha256
    target = io.BytesIO()
    attach(io.BytesIO(rest), entry, target)
    assert target.getvalue() == signed
    assert verifier.verify(target.getvalue()).status is ManifestStatus.TRUSTED


def test_a_store_at_the_very_beginning_of_a_jpeg_is_put_back(
    kept: SimpleNamespace, signer: Signer, verifier: Verifier, make: SimpleNamespace
) -> None:
    """Without a JFIF header the store is the first segment."""
    data = make.file(1, "JPEG")
    assert data[2:4] == b"\xff\xe0"
    bare = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    signed = signer.sign(bare, "image/jpeg", make.spec(1))
    entry = to_entry(io.BytesIO(signed.data), manifest_id=signed.manifest_id, mark_id="", fingerprints=Fingerprints())
    assert entry.start == 2
    rest = kept.stripped(signed.data)
    assert (rest, rest_digest(io.BytesIO(rest))) == (bare, entry.rest_sha256)
    target = io.BytesIO()
    attach(io.BytesIO(rest), entry, target)
    assert target.getvalue() == signed.data


@pytest.mark.parametrize("format", FORMATS)
def test_another_file_is_refused(format: str, kept: SimpleNamespace) -> None:
    signed, entry = kept.signed(format)
    rest = bytearray(kept.stripped(signed))
    rest[-20] ^= 1
    assert rest_digest(io.BytesIO(rest)) != entry.rest_sha256
    for data in (bytes(rest), kept.stripped(kept.signed(format, 2)[0]), b"", b"RIFF"):
        with pytest.raises(RepositoryError, match="not the one"):
            attach(io.BytesIO(data), entry, io.BytesIO())


def test_formats_whose_containers_are_not_known_keep_the_store_alone(signer: Signer, make: SimpleNamespace) -> None:
    done = signer.sign(make.file(1, "TIFF"), "image/tiff", make.spec(1))
    known = {"manifest_id": done.manifest_id, "mark_id": "", "fingerprints": Fingerprints()}
    entry = to_entry(io.BytesIO(done.data), **known, store=done.manifest)
    assert (entry.store, entry.start, entry.rest_sha256) == (done.manifest, None, b"")
    with pytest.raises(RepositoryError, match="where in the file"):
        attach(io.BytesIO(done.data), entry, io.BytesIO())
    with pytest.raises(RepositoryError, match="no manifest store"):
        to_entry(io.BytesIO(done.data), **known)


def test_the_active_manifest_can_be_taken_alone(kept: SimpleNamespace, verifier: Verifier) -> None:
    _, entry = kept.signed("PNG")
    # There are no ancestors here: alone it is what it was together.
    assert entry.active_store == entry.store
    damaged = dataclasses.replace(entry, container=entry.container[:400], pieces=((8, 392),))
    with pytest.raises(RepositoryError, match="damaged"):
        _ = damaged.active_store


def test_ancestors_are_left_out_of_the_active_manifest(edit, sign, verifier: Verifier) -> None:
    child = edit(sign())
    known = {"manifest_id": verifier.verify(child).manifest_id, "mark_id": "", "fingerprints": Fingerprints()}
    entry = to_entry(io.BytesIO(child), **known)
    assert len(entry.active_store) < len(entry.store) - 3000
    assert verifier.verify_store(entry.store).status is ManifestStatus.TRUSTED
    assert known["manifest_id"].encode() in entry.active_store


def test_a_large_file_is_never_in_memory_as_a_whole(
    kept: SimpleNamespace, signer: Signer, make: SimpleNamespace, tmp_path: Path
) -> None:
    """Forty megabytes of pixels behind the store, and a few in memory."""
    size = 40_000_000
    small = make.file(1)
    chunk = b"zzZz" + bytes(size)
    at = len(small) - 12
    large = small[:at] + size.to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + small[at:]
    signed = signer.sign(large, "image/png", make.spec(1))
    (tmp_path / "signed.png").write_bytes(signed.data)
    (tmp_path / "stripped.png").write_bytes(kept.stripped(signed.data))
    del large, chunk
    tracemalloc.start()
    with (tmp_path / "signed.png").open("rb") as file:
        entry = to_entry(file, manifest_id=signed.manifest_id, mark_id="", fingerprints=Fingerprints())
    with (tmp_path / "stripped.png").open("rb") as file, (tmp_path / "again.png").open("wb") as target:
        assert locate(file) is None
        assert rest_digest(file) == entry.rest_sha256
        attach(file, entry, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000
    assert (tmp_path / "again.png").read_bytes() == signed.data
