"""Time-stamped files: trusted after the certificate's end, no larger, and never half done."""

from __future__ import annotations

import dataclasses
import io
import shutil
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from PIL import Image

from guardrails.domain.images import ManifestStatus
from guardrails.errors import ImageError, SigningError, TimeStampError
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, backend, create_dev_chain
from guardrails.provenance.certificates import SigningKey, load_dev_key
from guardrails.provenance.placement import locate
from guardrails.provenance.private_keys import raw_signer
from guardrails.provenance.stamping import stamp_path
from guardrails.provenance.timestamps import TimeStampAuthority, TimeStampClient, create_authority_keys
from guardrails.provenance.timestamps.keys import load_authority_key

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"]


@pytest.fixture(scope="module")
def stamping_keys(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The development keys and an own authority beside them."""
    folder = Path(shutil.copytree(keys, tmp_path_factory.mktemp("stamping") / "keys"))
    create_authority_keys(folder, now=datetime.now(UTC))
    return folder


class Verbose:
    """An authority whose tokens need more room: they carry its root too, once or many times."""

    def __init__(self, folder: Path, roots: int = 1) -> None:
        key = load_authority_key(folder)
        root = (folder / "tsa" / "root.pem").read_bytes()
        self._authority = TimeStampAuthority(dataclasses.replace(key, chain_pem=key.chain_pem + roots * root))
        self.asked = 0

    def stamp(self, message: bytes) -> bytes:
        self.asked += 1
        return self._authority.stamp(message)


@pytest.mark.parametrize("format", FORMATS)
def test_a_stamped_file_is_trusted_and_no_larger(
    format: str, keys: Path, stamping_keys: Path, make: SimpleNamespace
) -> None:
    data, mime = make.file(1, format), f"image/{format.lower()}"
    plain = Signer.dev(keys).sign(data, mime, make.spec(1))
    stamped = Signer.dev(stamping_keys).sign(data, mime, make.spec(1))
    assert abs(len(stamped.data) - len(plain.data)) < 16
    verdict = Verifier(TrustStore.dev(stamping_keys)).verify(stamped.data)
    assert verdict.status is ManifestStatus.TRUSTED
    assert {"timeStamp.validated", "timeStamp.trusted"} <= set(verdict.codes)
    # The authority's time, not the one that the signer claims.
    assert abs(datetime.fromisoformat(verdict.signed_at) - datetime.now(UTC)) < timedelta(minutes=1)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stamped.data)) as after:
        assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")))


@pytest.mark.parametrize("format", FORMATS)
def test_a_larger_token_gets_more_room_and_only_the_first_costs_two_requests(
    format: str, stamping_keys: Path, make: SimpleNamespace
) -> None:
    stamper = Verbose(stamping_keys)
    signer = Signer.dev(stamping_keys).stamped_by(stamper)
    mime = f"image/{format.lower()}"
    for expected in (2, 3):
        signed = signer.sign(make.file(2, format), mime, make.spec(2))
        verdict = Verifier(TrustStore.dev(stamping_keys)).verify(signed.data)
        assert (verdict.status, stamper.asked) == (ManifestStatus.TRUSTED, expected)
        assert "timeStamp.trusted" in verdict.codes


def test_a_token_that_fits_nowhere_is_an_error(stamping_keys: Path, make: SimpleNamespace) -> None:
    signer = Signer.dev(stamping_keys).stamped_by(Verbose(stamping_keys, roots=40))
    with pytest.raises(TimeStampError, match="too large"):
        signer.sign(make.file(), "image/png", make.spec())


def test_a_store_in_several_jpeg_segments_is_stamped(
    stamping_keys: Path, make: SimpleNamespace, edit: Callable[..., bytes]
) -> None:
    """Ancestors make the store longer than the 64 kB that one segment holds."""
    spec, trust = make.spec(), TrustStore.dev(stamping_keys)
    note = {"label": "org.guardrails.note", "kind": "Json", "data": {"text": "x" * 150_000}}
    long = ManifestSpec(
        manifest_id=spec.manifest_id,
        definition={**spec.definition, "assertions": [*spec.definition["assertions"], note]},
    )
    signed = Signer.dev(stamping_keys).sign(make.file(3, "JPEG"), "image/jpeg", long)
    placement = locate(io.BytesIO(signed.data))
    assert placement is not None
    assert len(placement.pieces) == 3
    verdict = Verifier(trust).verify(signed.data)
    assert verdict.status is ManifestStatus.TRUSTED
    assert "timeStamp.trusted" in verdict.codes


@pytest.fixture(scope="module")
def expired(stamping_keys: Path, tmp_path_factory: pytest.TempPathFactory, make: SimpleNamespace) -> SimpleNamespace:
    """Two files of one certificate that ended a moment ago, seconds after it was first used; one is stamped."""

    def sign(folder: Path) -> SimpleNamespace:
        stamped = Signer.dev(folder).sign(make.file(), "image/png", make.spec()).data
        alone = Signer(load_dev_key(folder), TrustStore.dev(folder))
        unstamped = alone.sign(make.file(), "image/png", make.spec()).data
        verifier = Verifier(TrustStore.dev(folder))
        assert {verifier.verify(data).status for data in (stamped, unstamped)} == {ManifestStatus.TRUSTED}
        return SimpleNamespace(folder=folder, stamped=stamped, unstamped=unstamped)

    # The first time loads the SDK; the second one tells how long this machine needs.
    sign(stamping_keys)
    began = time.monotonic()
    sign(stamping_keys)
    seconds = 4 + 8 * (time.monotonic() - began)
    folder = tmp_path_factory.mktemp("expired")
    shutil.copytree(stamping_keys / "tsa", folder / "tsa")
    create_dev_chain(folder, now=datetime.now(UTC) - timedelta(days=365) + timedelta(seconds=seconds))
    made = sign(folder)
    end = load_dev_key(folder).leaf.not_valid_after_utc
    time.sleep(max((end - datetime.now(UTC)).total_seconds(), 0) + 1)
    return made


def test_after_the_certificate_ended_only_the_stamped_file_is_trusted(expired: SimpleNamespace) -> None:
    verifier = Verifier(TrustStore.dev(expired.folder))
    assert verifier.verify(expired.stamped).status is ManifestStatus.TRUSTED
    assert verifier.verify(expired.unstamped).status is ManifestStatus.EXPIRED


def test_an_authority_that_nobody_trusts_does_not_help(expired: SimpleNamespace, keys: Path) -> None:
    signer_alone = TrustStore.pem(expired.folder / "c2pa" / "root.pem")
    assert Verifier(signer_alone).verify(expired.stamped).status is ManifestStatus.EXPIRED


def test_a_stamp_after_the_end_does_not_help(expired: SimpleNamespace, tmp_path: Path) -> None:
    """Otherwise a stolen old key could sign for ever."""
    (tmp_path / "late.png").write_bytes(expired.unstamped)
    stamp_path(tmp_path / "late.png", tmp_path / "late.png", TimeStampAuthority.open(expired.folder))
    verdict = Verifier(TrustStore.dev(expired.folder)).verify((tmp_path / "late.png").read_bytes())
    assert verdict.status is ManifestStatus.EXPIRED


def test_the_token_of_another_file_does_not_help(expired: SimpleNamespace, make: SimpleNamespace) -> None:
    """A token is cut out of one file and put into another in the same place."""
    stamped, unstamped = bytearray(expired.stamped), bytearray(expired.unstamped)
    begin = stamped.index(b"\x67sigTst2") - 1
    # The whole map of unprotected headers, to the null of the detached payload.
    end = stamped.index(b"\xf6\x58\x40", begin)
    target = unstamped.index(b"\xa1\x63pad")
    unstamped[target : target + end - begin] = stamped[begin:end]
    with io.BytesIO(bytes(unstamped)) as file:
        from guardrails.provenance.placement import read_store, write_store

        placement = locate(file)
        assert placement is not None
        write_store(file, placement, read_store(file, placement))
        verdict = Verifier(TrustStore.dev(expired.folder)).verify(file.getvalue())
    assert verdict.status is ManifestStatus.EXPIRED


class NoAnswer:
    """An authority that is down."""

    def stamp(self, message: bytes) -> bytes:
        raise TimeStampError("nobody there")


class Liar:
    """Its token is over something else."""

    def __init__(self, folder: Path) -> None:
        self._authority = TimeStampAuthority.open(folder)

    def stamp(self, message: bytes) -> bytes:
        return self._authority.stamp(message + b"!")


def test_without_a_token_nothing_is_signed(keys: Path, stamping_keys: Path, make: SimpleNamespace) -> None:
    for stamper, why in ((NoAnswer(), "nobody there"), (Liar(stamping_keys), "does not verify in the signed file")):
        with pytest.raises(TimeStampError, match=why):
            Signer.dev(keys).stamped_by(stamper).sign(make.file(), "image/png", make.spec())


def test_the_configured_address_is_asked_once_and_nothing_else(
    stamping_keys: Path, keys: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    connect = socket.create_connection

    def noted(address: object, *rest: object, **options: object) -> socket.socket:
        opened.append(address)
        return connect(address, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_connection", noted)
    with pytest.raises(TimeStampError, match="no time-stamp from"):
        Signer.dev(keys).stamped_by(TimeStampClient("http://127.0.0.1:9/")).sign(make.file(), "image/png", make.spec())
    assert opened == [("127.0.0.1", 9)]
    opened.clear()
    signed = Signer.dev(stamping_keys).sign(make.file(), "image/png", make.spec())
    Verifier(TrustStore.dev(stamping_keys)).verify(signed.data)
    assert opened == []


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_file_signed_without_a_stamp_can_be_stamped_later_once(
    format: str, sign: Callable[..., bytes], keys: Path, stamping_keys: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    path, out = tmp_path / "signed", tmp_path / "out" / "stamped"
    path.write_bytes(Signer.dev(keys).sign(make.file(4, format), f"image/{format.lower()}", make.spec(4)).data)
    before, authority = path.read_bytes(), TimeStampAuthority.open(stamping_keys)
    proven = stamp_path(path, out, authority)
    assert path.read_bytes() == before
    assert len(out.read_bytes()) == len(before)
    verdict = Verifier(TrustStore.dev(stamping_keys)).verify(out.read_bytes())
    assert verdict.status is ManifestStatus.TRUSTED
    assert datetime.fromisoformat(verdict.signed_at) == proven.time
    with pytest.raises(SigningError, match="a time-stamp already"):
        stamp_path(out, out, authority)
    assert [entry.name for entry in out.parent.iterdir()] == ["stamped"]


def test_what_cannot_be_stamped_is_left_alone(
    sign: Callable[..., bytes], stamping_keys: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    authority = TimeStampAuthority.open(stamping_keys)
    signed, plain = tmp_path / "signed.png", tmp_path / "plain.png"
    signed.write_bytes(sign())
    plain.write_bytes(make.file())
    with pytest.raises(SigningError, match="no manifest"):
        stamp_path(plain, plain, authority)
    with pytest.raises(SigningError, match="too little room"):
        stamp_path(signed, signed, Verbose(stamping_keys))
    with pytest.raises(TimeStampError):
        stamp_path(signed, signed, NoAnswer())
    with pytest.raises(ImageError):
        stamp_path(tmp_path / "missing.png", signed, authority)
    assert plain.read_bytes() == make.file()
    assert "sigTst2" not in signed.read_bytes().decode("latin-1")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["plain.png", "signed.png"]


def test_mutated_stores_are_refused_with_our_own_error(
    sign: Callable[..., bytes], stamping_keys: Path, tmp_path: Path
) -> None:
    authority, good = TimeStampAuthority.open(stamping_keys), sign()
    begin = good.index(b"caBX")
    rng = np.random.default_rng(3)
    for _ in range(60):
        data = bytearray(good)
        for position in rng.integers(begin, begin + 5800, 6):
            data[position] = rng.integers(256)
        (tmp_path / "x.png").write_bytes(data)
        try:
            stamp_path(tmp_path / "x.png", tmp_path / "x.png", authority)
        except SigningError:
            assert (tmp_path / "x.png").read_bytes() == data


def test_raw_signatures_verify_with_the_public_key() -> None:
    keys: list[tuple[str, object]] = [
        ("es256", ec.generate_private_key(ec.SECP256R1())),
        ("es384", ec.generate_private_key(ec.SECP384R1())),
        ("es512", ec.generate_private_key(ec.SECP521R1())),
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
        ("ps256", rsa.generate_private_key(65537, 2048)),
    ]
    for name, key in keys:
        pem = key.private_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        sign = raw_signer(SigningKey(chain_pem=b"", key_pem=pem, algorithm=name, source="test"))
        signature, public = sign(b"data"), key.public_key()  # type: ignore[attr-defined]
        if isinstance(key, ec.EllipticCurvePrivateKey):
            half = len(signature) // 2
            assert half == (key.key_size + 7) // 8
            pair = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
            digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.key_size]
            public.verify(pair, b"data", ec.ECDSA(digest))
        elif name == "ps256":
            public.verify(signature, b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        else:
            public.verify(signature, b"data")


def test_room_for_a_token_of_any_size_costs_ten_kilobytes(keys: Path, make: SimpleNamespace) -> None:
    key, definition = load_dev_key(keys), make.spec().definition
    tight = backend.sign(make.file(), "image/png", definition, key)[1]
    spacious = backend.sign(make.file(), "image/png", make.spec().definition, key, spacious=True)[1]
    assert 8_000 < len(spacious) - len(tight) < 11_000
