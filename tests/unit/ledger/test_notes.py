"""Signed notes and checkpoints: known answers, round trips, forgeries."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guardrails.errors import KeyMaterialError, LedgerCorrupt
from guardrails.ledger.commitments import commit, opens
from guardrails.ledger.notes import Checkpoint, LogKey, NoteVerifier

# The example of the note format's first implementation: private key, verifier key, text and signature are public.
EXAMPLE_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
EXAMPLE_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
EXAMPLE_BODY = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
EXAMPLE_NOTE = (
    f"{EXAMPLE_BODY}\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def key(name: str = "example.org/log") -> LogKey:
    return LogKey(name, Ed25519PrivateKey.generate())


def test_the_published_example_is_signed_and_verified_byte_for_byte() -> None:
    signer = LogKey("PeterNeumann", Ed25519PrivateKey.from_private_bytes(EXAMPLE_SEED))
    assert signer.verifier.vkey == EXAMPLE_VKEY
    assert signer.sign(EXAMPLE_BODY) == EXAMPLE_NOTE
    assert NoteVerifier.from_vkey(EXAMPLE_VKEY).verify(EXAMPLE_NOTE) == EXAMPLE_BODY


def test_a_body_with_empty_lines_keeps_them() -> None:
    signer = key()
    body = "first\n\nsecond\n"
    assert signer.verifier.verify(signer.sign(body)) == body
    with pytest.raises(ValueError, match="newline"):
        signer.sign("no end of line")


@pytest.mark.parametrize(
    "tampered",
    [
        EXAMPLE_NOTE.replace("answer", "Answer"),
        EXAMPLE_NOTE.replace("x08go/Z", "x08go/a"),
        EXAMPLE_NOTE.replace("PeterNeumann", "PeterNewmann"),
        EXAMPLE_NOTE.replace("\u2014", "-"),
        EXAMPLE_NOTE.replace("nAM=", "nAN="),
        EXAMPLE_NOTE.removesuffix("\n"),
        EXAMPLE_BODY,
        EXAMPLE_BODY + "\n",
        "",
    ],
)
def test_every_change_to_a_note_is_refused(tampered: str) -> None:
    with pytest.raises(LedgerCorrupt):
        NoteVerifier.from_vkey(EXAMPLE_VKEY).verify(tampered)


def test_signatures_of_strangers_are_skipped_and_a_wrong_known_one_is_fatal() -> None:
    ours, witness = key(), key("witness.example")
    body = "text\n"
    ours_line, witness_line = (signer.sign(body).split("\n\n")[1] for signer in (ours, witness))
    both = f"{body}\n{witness_line}{ours_line}"
    assert ours.verifier.verify(both) == body
    assert witness.verifier.verify(both) == body
    wrong_line = ours.sign("other\n").split("\n\n")[1]
    with pytest.raises(LedgerCorrupt, match="wrong"):
        ours.verifier.verify(f"{body}\n{ours_line}{wrong_line}")
    with pytest.raises(LedgerCorrupt, match="not signed by"):
        ours.verifier.verify(f"{body}\n{witness_line}")


def test_a_checkpoint_has_three_lines_and_reads_back() -> None:
    checkpoint = Checkpoint(origin="example.org/log", size=20852163, root=bytes(range(32)))
    assert checkpoint.body == "example.org/log\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert Checkpoint.parse(checkpoint.body) == checkpoint


@pytest.mark.parametrize(
    "body",
    [
        "log\n1\n",
        "log\n01\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "log\n-1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "log\n\u0661\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "log\n1\nAAEC\n",
        "log\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nextension\n",
        "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "log\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n",
    ],
)
def test_malformed_checkpoints_are_refused(body: str) -> None:
    with pytest.raises(LedgerCorrupt):
        Checkpoint.parse(body)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        EXAMPLE_VKEY.replace("c74f20a3", "c74f20a4"),
        EXAMPLE_VKEY.replace("PeterNeumann", "Peter Neumann"),
        EXAMPLE_VKEY.replace("+ARpc", "+BBpc"),
        EXAMPLE_VKEY[:-4],
    ],
)
def test_malformed_verifier_keys_are_refused(vkey: str) -> None:
    with pytest.raises(KeyMaterialError):
        NoteVerifier.from_vkey(vkey)


def test_the_key_is_made_once_private_and_kept(tmp_path: Path) -> None:
    first = LogKey.load_or_create(tmp_path, "example.org/log")
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600
    assert LogKey.load_or_create(tmp_path, "example.org/log").verifier.vkey == first.verifier.vkey
    assert (tmp_path / "log.vkey").read_text().strip() == first.verifier.vkey
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.key", "log.vkey"]


def test_a_key_that_is_gone_exchanged_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    LogKey.load_or_create(tmp_path, "example.org/log")
    with pytest.raises(KeyMaterialError, match="does not belong"):
        LogKey.load_or_create(tmp_path, "other.example/log")
    private = tmp_path / "log.key"
    private.unlink()
    with pytest.raises(KeyMaterialError, match="missing"):
        LogKey.load_or_create(tmp_path, "example.org/log")
    private.write_bytes(b"no key")
    with pytest.raises(KeyMaterialError, match="cannot load"):
        LogKey.load_or_create(tmp_path, "example.org/log")
    private.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(KeyMaterialError, match="not an Ed25519"):
        LogKey.load_or_create(tmp_path, "example.org/log")


def test_a_commitment_opens_with_its_value_salt_and_field_only() -> None:
    digest, salt = commit("prompt", "a red fox")
    assert opens("prompt", "a red fox", salt, digest)
    assert not opens("prompt", "a red fix", salt, digest)
    assert not opens("negative_prompt", "a red fox", salt, digest)
    assert not opens("prompt", "a red fox", "00" * 32, digest)
    assert (len(digest), len(salt)) == (64, 64)


def test_equal_values_have_different_commitments() -> None:
    assert commit("prompt", "a red fox") != commit("prompt", "a red fox")
