from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization


def test_keys_are_made_once_and_then_kept(tmp_path: Path, run: Callable[..., Any]) -> None:
    first = run("keys", "init", "--home", tmp_path, "--json")
    secret = (tmp_path / "keys" / "watermark.key").read_bytes()
    second = run("keys", "init", "--home", tmp_path, "--json")

    assert (first.status, second.status) == (0, 0)
    assert {part["state"] for part in first.json.values()} == {"created"}
    assert {part["state"] for part in second.json.values()} == {"kept"}
    assert (tmp_path / "keys" / "watermark.key").read_bytes() == secret


def test_the_doctor_passes_fresh_keys_rule_by_rule(home: Path, run: Callable[..., Any]) -> None:
    result = run("keys", "doctor", "--home", home, "--json")

    assert result.status == 0
    assert {"not expired", "key usage", "watermark key"} <= {rule["rule"] for rule in result.json}
    assert all(rule["passed"] for rule in result.json)


def test_the_doctor_without_keys_names_the_next_step(
    tmp_path: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    result = run("keys", "doctor", "--home", tmp_path)

    one_line_error(result, "key_unusable", 6)
    assert "guardrails keys init" in result.err
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_makes_no_watermark_key(home: Path, run: Callable[..., Any]) -> None:
    key = home / "keys" / "watermark.key"
    key.unlink()

    result = run("keys", "doctor", "--home", home)

    assert result.status == 6
    assert "FAIL" in result.out
    assert "run `guardrails keys init`" in result.out
    assert not key.exists()


def test_the_doctor_finds_a_damaged_watermark_key(home: Path, run: Callable[..., Any]) -> None:
    (home / "keys" / "watermark.key").write_bytes(b"short")

    result = run("keys", "doctor", "--home", home, "--json")

    assert result.status == 6
    assert [rule["rule"] for rule in result.json if not rule["passed"]] == ["watermark key"]


def test_the_doctor_finds_a_key_that_belongs_to_another_certificate(
    home: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    other = tmp_path / "other"
    run("keys", "init", "--home", other)
    chain, key = home / "keys" / "c2pa" / "signing.pem", other / "keys" / "c2pa" / "signing.pem"

    result = run("keys", "doctor", "--chain", chain, "--key", key, "--json")

    assert result.status == 6
    assert "key belongs to the leaf" in [rule["rule"] for rule in result.json if not rule["passed"]]


def test_half_a_key_pair_is_refused(home: Path, run: Callable[..., Any], one_line_error: Callable[..., None]) -> None:
    one_line_error(run("keys", "doctor", "--chain", home / "x.pem"), "invalid_option", 2)


def test_rotation_issues_another_certificate(home: Path, run: Callable[..., Any]) -> None:
    first = run("keys", "rotate", "--home", home, "--json").json["serial_number"]
    second = run("keys", "rotate", "--home", home, "--json").json["serial_number"]

    assert first != second
    assert run("keys", "doctor", "--home", home).status == 0


def test_rotation_without_an_intermediate_is_one_line(
    home: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    shutil.rmtree(home / "keys" / "c2pa")

    one_line_error(run("keys", "rotate", "--home", home), "key_unusable", 6)


def test_the_doctor_opens_an_encrypted_key_with_a_password_file(
    home: Path, tmp_path: Path, run: Callable[..., Any], one_line_error: Callable[..., None]
) -> None:
    signing = home / "keys" / "c2pa" / "signing.pem"
    private = serialization.load_pem_private_key(signing.read_bytes(), None)
    key = tmp_path / "key.pem"
    encryption = serialization.BestAvailableEncryption(b"a secret")
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    key.write_bytes(pem)
    key.chmod(0o600)
    (tmp_path / "password").write_text("a secret\nand a remark\n")
    words = ("keys", "doctor", "--chain", signing, "--key", key, "--home", home)

    result = run(*words, "--password-file", tmp_path / "password", "--json")
    assert result.status == 0
    assert all(rule["passed"] for rule in result.json)
    one_line_error(run(*words), "key_unusable", 6)
    one_line_error(run(*words, "--password-file", tmp_path / "none"), "key_unusable", 6)
