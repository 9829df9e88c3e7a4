"""Development keys and keys from files: what is made, and what is refused with which words."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from guardrails.errors import KeyMaterialError, StorageError
from guardrails.provenance import Signer, TrustStore, create_dev_chain, doctor, rotate_dev_leaf
from guardrails.provenance.certificates import load_dev_key

NOW = datetime.now(UTC)


def _write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def _files(folder: Path, keys: Path, *, key_mode: int = 0o600) -> tuple[Path, Path]:
    """The development key as a certificate authority would deliver it: two files."""
    key = load_dev_key(keys)
    return _write(folder / "chain.pem", key.chain_pem), _write(folder / "key.pem", key.key_pem, key_mode)


def test_development_chain_keeps_every_rule_and_says_dev(keys: Path) -> None:
    key = load_dev_key(keys)
    assert [d for d in doctor(key.chain_pem, key.key_pem) if not d.passed] == []
    chain = x509.load_pem_x509_certificates(key.chain_pem)
    root = x509.load_pem_x509_certificate((keys / "c2pa/root.pem").read_bytes())
    chain[0].verify_directly_issued_by(chain[1])
    chain[1].verify_directly_issued_by(root)
    names = [c.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for c in (*chain, root)]
    assert all("DEV" in name for name in names)
    lengths = [c.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length for c in (*chain, root)]
    assert lengths == [None, 0, 1]


def test_key_files_are_for_their_owner_only_and_never_shown(keys: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (keys / "c2pa").iterdir()}
    assert modes == {"root.pem": 0o644, "intermediate.pem": 0o600, "signing.pem": 0o600}
    assert "PRIVATE" not in repr(load_dev_key(keys))


def test_existing_keys_are_kept(keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in (keys / "c2pa").iterdir()}
    create_dev_chain(keys, now=NOW)
    Signer.dev(keys)
    assert {path.name: path.read_bytes() for path in (keys / "c2pa").iterdir()} == before


def test_processes_that_start_together_agree_on_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: create_dev_chain(tmp_path, now=NOW), range(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["c2pa"]
    Signer.dev(tmp_path)


def test_rotation_gives_a_new_leaf_under_the_same_root(tmp_path: Path) -> None:
    create_dev_chain(tmp_path, now=NOW - timedelta(days=400))
    with pytest.raises(KeyMaterialError, match=r"signing\.pem cannot sign: expired on") as caught:
        Signer.dev(tmp_path)
    assert "guardrails keys rotate" in caught.value.hint
    root = TrustStore.dev(tmp_path)
    old = load_dev_key(tmp_path)
    rotate_dev_leaf(tmp_path, now=NOW)
    Signer.dev(tmp_path)
    assert load_dev_key(tmp_path).key_pem != old.key_pem
    assert TrustStore.dev(tmp_path) == root


def test_an_intermediate_near_its_end_issues_no_leaf(tmp_path: Path) -> None:
    create_dev_chain(tmp_path, now=NOW - timedelta(days=4 * 365 + 10))
    with pytest.raises(KeyMaterialError, match=r"intermediate\.pem can issue no leaf"):
        rotate_dev_leaf(tmp_path, now=NOW)


@pytest.mark.parametrize("encrypted", [False, True])
def test_sec1_and_encrypted_keys_are_converted(tmp_path: Path, keys: Path, encrypted: bool) -> None:
    chain, key = _files(tmp_path, keys)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(b"pass") if encrypted else serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    _write(key, loaded.private_bytes(serialization.Encoding.PEM, form, protection))
    Signer.from_pem(chain, key, b"pass" if encrypted else None)
    if encrypted:
        with pytest.raises(KeyMaterialError, match=r"cannot load the private key in .*key\.pem"):
            Signer.from_pem(chain, key, b"wrong")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660])
def test_keys_open_to_others_are_refused(tmp_path: Path, keys: Path, mode: int) -> None:
    with pytest.raises(KeyMaterialError, match=rf"key\.pem is open to other accounts \(mode {mode:04o}\)") as caught:
        Signer.from_pem(*_files(tmp_path, keys, key_mode=mode))
    assert "chmod 600" in caught.value.hint


def test_keys_that_a_group_may_read_are_accepted(tmp_path: Path, keys: Path) -> None:
    Signer.from_pem(*_files(tmp_path, keys, key_mode=0o440))


def test_broken_and_missing_files_are_named_with_the_next_step(tmp_path: Path, keys: Path) -> None:
    chain, key = _files(tmp_path, keys)
    broken = _write(tmp_path / "broken.pem", chain.read_bytes()[:200])
    missing = tmp_path / "missing.pem"
    cases = [(broken, key, "broken.pem"), (chain, broken, "broken.pem"), (missing, key, "missing.pem")]
    for chain_path, key_path, name in cases:
        with pytest.raises(KeyMaterialError, match=name) as caught:
            Signer.from_pem(chain_path, key_path)
        assert "guardrails keys init" in caught.value.hint


def test_lost_signing_key_is_not_replaced_silently(tmp_path: Path) -> None:
    create_dev_chain(tmp_path, now=NOW)
    (tmp_path / "c2pa/signing.pem").unlink()
    with pytest.raises(KeyMaterialError, match=r"c2pa lacks signing\.pem"):
        Signer.dev(tmp_path)
    rotate_dev_leaf(tmp_path, now=NOW)
    Signer.dev(tmp_path)


def test_a_trust_store_needs_certificates(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="holds no readable certificate"):
        TrustStore.pem(_write(tmp_path / "roots.pem", b"-----BEGIN NOTHING-----"))
    with pytest.raises(KeyMaterialError, match=r"root\.pem does not exist"):
        TrustStore.dev(tmp_path)


def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    _write(tmp_path / "keys", b"")
    with pytest.raises(StorageError, match="cannot create keys in"):
        Signer.dev(tmp_path / "keys")
