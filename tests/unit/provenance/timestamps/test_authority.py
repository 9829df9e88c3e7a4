"""The authority against the standard: OpenSSL as an independent reader, every kind of bad request, unfit keys."""

from __future__ import annotations

import hashlib
import random
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from guardrails.errors import KeyMaterialError, TimeStampError
from guardrails.provenance import create_dev_chain
from guardrails.provenance.certificates import load_dev_key
from guardrails.provenance.timestamps import TimeStampAuthority, create_authority_keys, verify_token
from guardrails.provenance.timestamps.authority import MAX_REQUEST_BYTES, POLICY
from guardrails.provenance.timestamps.keys import load_authority_key
from guardrails.provenance.timestamps.messages import Request, token_of

MESSAGE = b"seventeen quiet lanterns"


def _openssl(*words: object) -> str:
    done = subprocess.run(["openssl", "ts", *map(str, words)], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("options", [["-cert"], ["-cert", "-no_nonce"], ["-cert", "-tspolicy", POLICY]])
def test_openssl_accepts_the_answer_to_its_own_request(
    digest: str, options: list[str], authority: TimeStampAuthority, authority_folder: Path, tmp_path: Path
) -> None:
    message, query, reply = tmp_path / "message", tmp_path / "query", tmp_path / "reply"
    message.write_bytes(MESSAGE)
    _openssl("-query", "-data", message, f"-{digest}", *options, "-out", query)
    reply.write_bytes(authority.answer(query.read_bytes()))
    root = authority_folder / "tsa" / "root.pem"
    assert "Verification: OK" in _openssl("-verify", "-queryfile", query, "-in", reply, "-CAfile", root)
    text = _openssl("-reply", "-in", reply, "-text")
    assert "Status: Granted." in text
    assert f"Policy OID: {POLICY}" in text
    # Control: OpenSSL does object to an answer about something else.
    message.write_bytes(b"something else")
    assert "Verification: FAILED" in _openssl("-verify", "-data", message, "-in", reply, "-CAfile", root)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_reads_a_rejection(authority: TimeStampAuthority, tmp_path: Path) -> None:
    (tmp_path / "reply").write_bytes(authority.answer(b"no request"))
    text = _openssl("-reply", "-in", tmp_path / "reply", "-text")
    assert "Status: Rejected." in text
    assert "Failure info: the data submitted has the wrong format" in text


def _request(**changes: object) -> bytes:
    fields = {"algorithm": "sha256", "imprint": hashlib.sha256(MESSAGE).digest(), "nonce": 7} | changes
    return Request(**fields).to_der()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"", "bad_data_format"),
        (b"\x30\x80", "bad_data_format"),
        (_request() + b"\0", "bad_data_format"),
        (b"\0" * (MAX_REQUEST_BYTES + 1), "bad_data_format"),
        (_request(imprint=b"\1" * 31), "bad_data_format"),
        (_request(algorithm="sha1", imprint=b"\1" * 20), "bad_alg"),
        (_request(algorithm="md5", imprint=b"\1" * 16), "bad_alg"),
        (_request(policy="1.2.3.4"), "unaccepted_policy"),
    ],
    ids=["empty", "cut", "trailing", "long", "short imprint", "sha1", "md5", "policy"],
)
def test_a_bad_request_is_rejected_with_its_reason(request_: bytes, reason: str, authority: TimeStampAuthority) -> None:
    with pytest.raises(TimeStampError, match=f"rejection: {reason}"):
        token_of(authority.answer(request_))


def test_an_extension_is_refused(authority: TimeStampAuthority) -> None:
    from asn1crypto import tsp

    request = tsp.TimeStampReq.load(_request())
    request["extensions"] = [{"extn_id": "1.2.3", "critical": True, "extn_value": b""}]
    with pytest.raises(TimeStampError, match="unaccepted_extensions"):
        token_of(authority.answer(request.dump()))


def test_no_request_raises(authority: TimeStampAuthority) -> None:
    rng = random.Random(5)
    good = _request()
    answered = 0
    for _ in range(400):
        changed = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        cut = bytes(changed[: rng.randint(1, len(changed))]) if rng.random() < 0.3 else bytes(changed)
        try:
            token_of(authority.answer(cut))
            answered += 1
        except TimeStampError:
            pass
    # Another digest or nonce is as good a request as the first.
    assert answered > 20


def test_a_token_repeats_the_nonce_and_carries_the_certificate_only_when_asked(
    authority: TimeStampAuthority, anchors: bytes
) -> None:
    token = token_of(authority.answer(_request()))
    assert verify_token(token, MESSAGE, nonce=7, anchors=anchors).authority == "guardrails TSA"
    bare = token_of(authority.answer(_request(wants_certificate=False)))
    assert len(bare) < len(token) - 300
    with pytest.raises(TimeStampError, match="carries 0 certificates"):
        verify_token(bare, MESSAGE, anchors=anchors)


def test_the_time_is_the_clock_rounded_down_and_serial_numbers_differ(authority_folder: Path) -> None:
    moment = datetime.now(UTC).replace(microsecond=987_654)
    authority = TimeStampAuthority(load_authority_key(authority_folder), clock=lambda: moment)
    stamps = [verify_token(authority.stamp(MESSAGE), MESSAGE) for _ in range(20)]
    assert {stamp.time for stamp in stamps} == {moment.replace(microsecond=0)}
    assert len({stamp.serial for stamp in stamps}) == 20


@pytest.mark.parametrize("shift", [-timedelta(hours=1), timedelta(days=3651)], ids=["too early", "expired"])
def test_no_token_outside_the_certificates_validity(shift: timedelta, authority_folder: Path) -> None:
    authority = TimeStampAuthority(load_authority_key(authority_folder), clock=lambda: datetime.now(UTC) + shift)
    with pytest.raises(TimeStampError, match="does not cover"):
        authority.stamp(MESSAGE)
    with pytest.raises(TimeStampError, match="time_not_available"):
        token_of(authority.answer(_request()))


def test_the_certificate_is_for_time_stamping_alone(authority_folder: Path) -> None:
    leaf = load_authority_key(authority_folder).leaf
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    root = x509.load_pem_x509_certificate((authority_folder / "tsa" / "root.pem").read_bytes())
    leaf.verify_directly_issued_by(root)


def test_keys_are_made_once_and_are_for_their_owner_only(tmp_path: Path) -> None:
    assert create_authority_keys(tmp_path, now=datetime.now(UTC))
    before = {path.name: path.read_bytes() for path in (tmp_path / "tsa").iterdir()}
    assert not create_authority_keys(tmp_path, now=datetime.now(UTC))
    assert {path.name: path.read_bytes() for path in (tmp_path / "tsa").iterdir()} == before
    assert stat.S_IMODE((tmp_path / "tsa" / "tsa.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in before["root.pem"]
    (tmp_path / "tsa" / "root.pem").unlink()
    with pytest.raises(KeyMaterialError, match=r"lacks root\.pem"):
        create_authority_keys(tmp_path, now=datetime.now(UTC))


def test_a_key_that_signs_manifests_stamps_nothing(tmp_path: Path) -> None:
    create_dev_chain(tmp_path, now=datetime.now(UTC))
    with pytest.raises(KeyMaterialError, match="not for time-stamping alone"):
        TimeStampAuthority(load_dev_key(tmp_path))
    with pytest.raises(KeyMaterialError, match="does not exist") as caught:
        TimeStampAuthority.open(tmp_path)
    assert "guardrails tsa init" in caught.value.hint
