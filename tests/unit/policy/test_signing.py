"""A signature is of these rules, by this key, or it is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from guardrails.errors import KeyMaterialError, PolicyError
from guardrails.policy import load_policy
from guardrails.policy.signing import (
    check_signature,
    load_private_key,
    load_public_key,
    sign_policy,
    signature_path,
)


@pytest.fixture
def path(pack: str, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(pack)
    return path


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_a_signature_is_found_beside_the_pack_and_carried_by_its_reference(path: Path, key: Ed25519PrivateKey) -> None:
    assert load_policy(path).signature == ""
    signature = sign_policy(path, load_policy(path).ref, key)
    policy = load_policy(path)
    assert policy.signature == policy.ref.signature == signature
    assert check_signature(policy.ref, signature, trusted=key.public_key())
    # Signing does not change what is signed.
    assert policy.digest == dataclasses.replace(policy, signature="").digest


def test_changed_rules_are_not_signed(path: Path, pack: str, key: Ed25519PrivateKey) -> None:
    signature = sign_policy(path, load_policy(path).ref, key)
    path.write_text(pack.replace("gore,", "gory,"))
    assert load_policy(path).signature == ""
    with pytest.raises(PolicyError, match="the signature is not of"):
        check_signature(load_policy(path).ref, signature)


def test_another_key_is_not_trusted(path: Path, key: Ed25519PrivateKey) -> None:
    signature = sign_policy(path, load_policy(path).ref, key)
    with pytest.raises(PolicyError, match="another key"):
        check_signature(load_policy(path).ref, signature, trusted=Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize("damage", ["", "ed25519::", "rsa:AAAA:AAAA", "ed25519:!!:!!", "ed25519:AAAA:AAAA"])
def test_what_is_no_signature_is_refused(path: Path, damage: str) -> None:
    with pytest.raises(PolicyError):
        check_signature(load_policy(path).ref, damage)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"not json", b'{"signature": 5}'])
def test_a_damaged_signature_file_is_no_signature(path: Path, content: bytes) -> None:
    signature_path(path).write_bytes(content)
    assert load_policy(path).signature == ""


def test_keys_are_read_from_pem(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "k.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert load_private_key(private).private_bytes_raw() == key.private_bytes_raw()
    assert load_public_key(public).public_bytes_raw() == key.public_key().public_bytes_raw()
    with pytest.raises(KeyMaterialError):
        load_private_key(public)
    with pytest.raises(KeyMaterialError):
        load_public_key(tmp_path / "none")
