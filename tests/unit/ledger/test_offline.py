"""The auditor's verifier: alone, against `cryptography`, and against every changed bit."""

from __future__ import annotations

import ast
import io
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from guardrails.domain.records import Record, RecordKind
from guardrails.domain.requests import PolicyRef
from guardrails.errors import LedgerCorrupt, LedgerError
from guardrails.ledger import Ledger, export_bundle, offline
from guardrails.ledger.entries import encode_entry
from guardrails.ledger.offline import Auditor, Invalid, ed25519_verify

# RFC 8032 section 7.1, TEST 1 to TEST 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
        "4655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302ae"
        "eb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28"
        "dc027beceea1ec40a",
    ),
]


def record(number: int) -> Record:
    return Record(
        id=f"00000000-0000-4000-8000-{number:012d}",
        kind=RecordKind.GENERATION,
        created_at="2026-01-01T00:00:00.000Z",
        policy=PolicyRef(id="default", version="1", digest="00" * 32),
        mark_id=f"{number:016x}",
        facts={"note": 'quotes " and \\ and \u00e9\U0001f98a'},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of 21 records, a bundle of records 3 to 9 with growth since 6, a proof and a receipt."""
    folder = tmp_path_factory.mktemp("offline")
    with Ledger.open(folder / "ledger") as ledger:
        for number in range(20):
            ledger.append(record(number), {"prompt": "a red fox"})
            if number == 5:
                earlier = ledger.checkpoint()
        receipt = ledger.append(record(20))
        assert export_bundle(ledger, folder / "bundle.zip", 3, 10, earlier=earlier) == 7
        assert export_bundle(ledger, folder / "all.zip", 0, 1 << 40) == 21
        (folder / "one.tlog-proof").write_text(ledger.tlog_proof(12))
        (folder / "receipt.txt").write_text(receipt.note)
        (folder / "vkey").write_text(ledger.vkey)
        (folder / "checkpoint").write_text(earlier)
    return folder


@pytest.fixture(scope="module")
def auditor(folder: Path) -> Auditor:
    return Auditor((folder / "vkey").read_text())


FILES = {
    "bundle.zip": "7 records of the 21 that guardrails.local/log signed, grown from 6",
    "all.zip": "21 records of the 21 that guardrails.local/log signed",
    "one.tlog-proof": "record 00000000-0000-4000-8000-000000000012 is leaf 12 of the 21",
    "receipt.txt": "record 00000000-0000-4000-8000-000000000020",
    "checkpoint": "guardrails.local/log signed a tree of 6",
}


@pytest.mark.parametrize(("name", "shows"), FILES.items())
def test_what_the_log_hands_out_is_checked(folder: Path, auditor: Auditor, name: str, shows: str) -> None:
    assert shows in auditor.file(folder / name)


def test_the_file_runs_alone_with_the_standard_library(folder: Path, tmp_path: Path) -> None:
    shutil.copy(offline.__file__, tmp_path / "verify.py")
    names = [str(folder / name) for name in FILES]
    command = [sys.executable, "-I", "-S", str(tmp_path / "verify.py"), "--vkey", str(folder / "vkey")]
    result = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.count("OK ")) == (0, len(FILES)), result
    (tmp_path / "bad").write_bytes((folder / "one.tlog-proof").read_bytes().replace(b"index 12", b"index 13"))
    result = subprocess.run([*command, names[0], str(tmp_path / "bad")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.count("OK "), result.stdout.count("INVALID ")) == (1, 1, 1)
    result = subprocess.run([*command[:-1], "nonsense", names[0]], capture_output=True, text=True, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    imports = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(Path(offline.__file__).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert imports <= sys.stdlib_module_names


def test_the_verifier_in_the_bundle_is_this_one(folder: Path) -> None:
    with zipfile.ZipFile(folder / "bundle.zip") as archive:
        assert archive.read("verify.py") == Path(offline.__file__).read_bytes()
        assert b"red fox" not in b"".join(archive.read(name) for name in archive.namelist())


def test_exports_of_one_state_are_equal_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    with Ledger.open(folder / "ledger", create=False) as ledger:
        export_bundle(ledger, tmp_path / "again.zip", 0, 21)
        with pytest.raises(LedgerError, match="no records"):
            export_bundle(ledger, tmp_path / "none.zip", 21, 30)
        with pytest.raises(LedgerCorrupt):
            export_bundle(ledger, tmp_path / "none.zip", 0, 5, earlier="no checkpoint")
    assert (tmp_path / "again.zip").read_bytes() == (folder / "all.zip").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.zip"]


def rebuilt(bundle: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive, zipfile.ZipFile(copy, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, change(name, archive.read(name)))
    return copy.getvalue()


CHECKED = ("records.jsonl", "checkpoint", "earlier-checkpoint", "consistency.json")


def test_every_changed_bit_of_a_bundle_is_noticed(folder: Path, auditor: Auditor, tmp_path: Path) -> None:
    bundle = (folder / "bundle.zip").read_bytes()
    chance = random.Random(7)
    assert auditor.file(folder / "bundle.zip")
    for number in range(200):
        target = CHECKED[number % len(CHECKED)]

        def flip(name: str, data: bytes, target: str = target) -> bytes:
            if name != target:
                return data
            position = chance.randrange(len(data) * 8)
            changed = bytearray(data)
            changed[position // 8] ^= 1 << position % 8
            return bytes(changed)

        path = tmp_path / "changed.zip"
        path.write_bytes(rebuilt(bundle, flip))
        with pytest.raises(Invalid):
            auditor.file(path)


def test_every_changed_bit_of_a_proof_and_a_receipt_is_noticed(folder: Path, auditor: Auditor, tmp_path: Path) -> None:
    chance = random.Random(8)
    for name in ("one.tlog-proof", "receipt.txt", "checkpoint"):
        data = (folder / name).read_bytes()
        for _ in range(100):
            position = chance.randrange(len(data) * 8)
            changed = bytearray(data)
            changed[position // 8] ^= 1 << position % 8
            (tmp_path / name).write_bytes(changed)
            with pytest.raises(Invalid):
                auditor.file(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines, lines[0]],
        lambda lines: [lines[0].replace(b'"index":3', b'"index":true'), *lines[1:]],
        lambda lines: [lines[0].replace(b'"index":3', b'"index":3.0'), *lines[1:]],
        lambda lines: [lines[0].replace(b'"index":3', b'"index":-1'), *lines[1:]],
        lambda lines: [lines[0].replace(b'"path":["', b'"path":["AAAA","'), *lines[1:]],
        lambda lines: [b"[]", *lines],
        lambda lines: [b"{}", *lines],
    ],
)
def test_malformed_and_doubled_records_are_refused(
    folder: Path, auditor: Auditor, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    def apply(name: str, data: bytes) -> bytes:
        return b"\n".join(change(data.splitlines())) + b"\n" if name == "records.jsonl" else data

    path = tmp_path / "changed.zip"
    path.write_bytes(rebuilt((folder / "bundle.zip").read_bytes(), apply))
    with pytest.raises(Invalid):
        auditor.file(path)


def test_a_proof_without_its_record_needs_the_record(folder: Path, auditor: Auditor) -> None:
    text = (folder / "one.tlog-proof").read_text()
    lines = text.split("\n")
    bare = "\n".join([lines[0], *lines[2:]])
    with pytest.raises(Invalid, match="does not carry its record"):
        auditor.proof(bare)
    with Ledger.open(folder / "ledger", create=False) as ledger:
        logged = ledger.find_by_index(12)
    assert logged is not None
    entry = encode_entry(logged.record, logged.payload_sha256)
    assert "leaf 12" in auditor.proof(bare, entry)
    with pytest.raises(Invalid, match="is not leaf 12"):
        auditor.proof(text, entry.replace(b"note", b"nota"))


def test_another_logs_key_verifies_nothing(folder: Path) -> None:
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    name = "guardrails.local/log"
    vkey = f"{name}+{offline.key_id(name, raw).hex()}+{offline.to_base64(offline.ED25519 + raw)}"
    for file in FILES:
        with pytest.raises(Invalid, match="not signed by"):
            Auditor(vkey).file(folder / file)


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_the_vectors_of_rfc_8032_verify(public: str, message: str, signature: str) -> None:
    key, text, signed = (bytes.fromhex(value) for value in (public, message, signature))
    assert ed25519_verify(key, text, signed)
    assert not ed25519_verify(key, text + b"\x00", signed)
    # The malleable twin: s + L is refused (RFC 8032 section 5.1.7, step 1).
    twin = int.from_bytes(signed[32:], "little") + offline._L
    assert not ed25519_verify(key, text, signed[:32] + twin.to_bytes(32, "little"))
    assert not ed25519_verify(key[:31], text, signed)
    assert not ed25519_verify(key, text, signed[:63])


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=60), st.integers(0, 96 * 8 - 1), st.booleans())
def test_pure_python_and_the_library_agree(seed: bytes, message: bytes, position: int, changed: bool) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    both = bytearray(private.public_key().public_bytes_raw() + private.sign(message))
    if changed:
        both[position // 8] ^= 1 << position % 8
    public, signature = bytes(both[:32]), bytes(both[32:])
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        expected = True
    except (InvalidSignature, ValueError):
        expected = False
    assert ed25519_verify(public, message, signature) is expected
