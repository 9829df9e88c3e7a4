"""Edited pictures: the state of what they were made from must reach the verdict, where the SDK says "trusted"."""

from __future__ import annotations

import struct
import zlib
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from guardrails.domain.images import CheckResult, ManifestStatus
from guardrails.provenance import Signer, TrustStore, Verifier
from guardrails.provenance.ancestry import unreferenced, walk
from guardrails.provenance.certificates import load_dev_key


def _tamper(png: bytes) -> bytes:
    changed = bytearray(png)
    changed[-40] ^= 1
    return bytes(changed)


def test_intact_parents_do_not_disturb(sign, edit, verifier: Verifier) -> None:
    parent = sign()
    verdict = verifier.verify(edit(edit(parent)))
    assert verdict.status is ManifestStatus.TRUSTED
    assert len(verdict.ancestry) == 2
    assert all(line.endswith("(parentOf): no objection") for line in verdict.ancestry)
    assert verdict.ancestry[1].startswith(verifier.verify(parent).manifest_id)
    # The child was edited by hand, but its grandparent came out of a model.
    assert verdict.ai_generated


def test_a_parent_without_manifest_is_of_unknown_origin_and_not_bad(edit, verifier: Verifier, make) -> None:
    verdict = verifier.verify(edit(make.file()))
    assert verdict.status is ManifestStatus.TRUSTED
    assert verdict.ancestry == ("a picture without a manifest (parentOf): its origin is unknown",)


@pytest.mark.parametrize("generations", [1, 2, 3])
def test_a_tampered_ancestor_is_reported_at_any_depth(generations: int, sign, edit, verifier: Verifier) -> None:
    picture = _tamper(sign())
    assert verifier.verify(picture).status is ManifestStatus.TAMPERED
    for _ in range(generations):
        picture = edit(picture)
    verdict = verifier.verify(picture)
    assert verdict.status is ManifestStatus.BAD_ANCESTOR
    assert verdict.codes[0] == "assertion.dataHash.mismatch"
    assert verdict.ancestry[-1].endswith("assertion.dataHash.mismatch")
    assert "is on the trust list" in verdict.explanation


def test_the_same_ancestor_is_bad_for_readers_who_trust_nobody(sign, edit) -> None:
    verdict = Verifier(TrustStore()).verify(edit(_tamper(sign())))
    assert verdict.status is ManifestStatus.BAD_ANCESTOR
    assert "is not on the trust list" in verdict.explanation


@pytest.mark.parametrize("generations", [1, 2])
def test_an_untrusted_ancestor_counts_only_against_a_trusted_child(
    generations: int, edit, foreign_keys: Path, keys: Path, make: SimpleNamespace
) -> None:
    picture = Signer.dev(foreign_keys).sign(make.file(), "image/png", make.spec()).data
    for _ in range(generations):
        picture = edit(picture)
    ours = Verifier(TrustStore.dev(keys)).verify(picture)
    assert ours.status is ManifestStatus.BAD_ANCESTOR
    assert "signingCredential.untrusted" in ours.codes
    both = Verifier(TrustStore.dev(keys) + TrustStore.dev(foreign_keys)).verify(picture)
    assert both.status is ManifestStatus.TRUSTED
    assert Verifier(TrustStore()).verify(picture).status is ManifestStatus.VALID_UNTRUSTED


def test_an_ancestor_changed_inside_the_signed_file_is_tampering(sign, edit, verifier: Verifier) -> None:
    child = edit(sign())
    assert child.count(b"DDIMScheduler") == 1
    verdict = verifier.verify(child.replace(b"DDIMScheduler", b"DPMSScheduler"))
    assert verdict.status is ManifestStatus.TAMPERED
    assert verdict.ancestry[0].endswith("assertion.hashedURI.mismatch")
    assert (verdict.integrity, verdict.signature) == (CheckResult.FAILED, CheckResult.PASSED)
    assert (verdict.trust, verdict.lineage) == (CheckResult.PASSED, CheckResult.FAILED)


def test_an_ancestor_that_expired_after_it_was_used_is_in_order(expiring: SimpleNamespace, keys: Path) -> None:
    trust = TrustStore.dev(keys) + TrustStore.dev(expiring.folder)
    assert Verifier(trust).verify(expiring.signed).status is ManifestStatus.EXPIRED
    assert Verifier(trust).verify(expiring.child).status is ManifestStatus.TRUSTED


def test_an_ancestor_that_had_expired_when_it_was_used_is_bad(expiring: SimpleNamespace, keys: Path, edit) -> None:
    trust = TrustStore.dev(keys) + TrustStore.dev(expiring.folder)
    verdict = Verifier(trust).verify(edit(expiring.signed, trust))
    assert verdict.status is ManifestStatus.BAD_ANCESTOR
    assert "signingCredential.expired" in verdict.codes


def test_walk_survives_cycles_and_odd_shapes() -> None:
    manifests = {
        "a": {"ingredients": [{"active_manifest": "b", "relationship": "parentOf"}, "text", {"active_manifest": 7}]},
        "b": {"ingredients": [{"active_manifest": "a", "validation_status": [{"code": "claimSignature.mismatch"}]}]},
        "c": {"ingredients": "none"},
        "d": [],
    }
    found = walk("a", manifests)
    assert [ancestor.label for ancestor in found] == ["b", "", "", "a"]
    assert found[-1].broken == ("claimSignature.mismatch",)
    assert unreferenced("a", manifests) == ("c", "d")


def _box(store: bytes, *labels: str) -> slice:
    """The superbox at a path of labels, with its header."""
    begin, end = 0, len(store)
    for label in labels:
        offset = begin
        while offset < end:
            size = struct.unpack_from(">I", store, offset)[0]
            description = struct.unpack_from(">I", store, offset + 8)[0] if offset + 8 < end else 0
            name = store[offset + 33 : offset + 8 + description].partition(b"\0")[0]
            if store[offset + 4 : offset + 8] == b"jumb" and name == label.encode():
                found, begin, end = slice(offset, offset + size), offset + 8 + description, offset + size
                break
            offset += size
        else:
            raise LookupError(label)
    return found


def _falsify(png: bytes, label: str, key: ec.EllipticCurvePrivateKey, true: bytes, false: bytes) -> bytes:
    """Change what a signer recorded about an ingredient, and sign that."""
    begin = png.index(b"caBX")
    end = begin + 4 + struct.unpack(">I", png[begin - 4 : begin])[0]
    store = png[begin + 4 : end]
    places = [_box(store, "c2pa", label, "c2pa.assertions", name) for name in ("c2pa.ingredient.v3", "c2pa.actions.v2")]
    # The hash of an assertion is over its superbox without the header; the actions repeat that of an ingredient.
    hashes = [sha256(store[place][8:]).digest() for place in places]
    store = store[: places[0].start] + store[places[0]].replace(true, false) + store[places[0].stop :]
    for place, old in zip(places, hashes, strict=True):
        store = store.replace(old, sha256(store[place][8:]).digest())
    claim = store[_box(store, "c2pa", label, "c2pa.claim.v2")]
    claim = claim[claim.index(b"cbor", 40) + 4 :]
    box = store[_box(store, "c2pa", label, "c2pa.signature")]
    protected, _, _, signature = cbor2.loads(box[box.index(b"cbor", 40) + 4 :]).value
    der = key.sign(cbor2.dumps(["Signature1", protected, b"", claim]), ec.ECDSA(SHA256()))
    raw = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
    body = b"caBX" + store.replace(signature, raw)
    return png[:begin] + body + struct.pack(">I", zlib.crc32(body)) + png[end + 4 :]


def _with_broken_signature(png: bytes) -> bytes:
    begin = png.index(b"caBX")
    end = begin + 4 + struct.unpack(">I", png[begin - 4 : begin])[0]
    body = png[begin : end - 1] + bytes([png[end - 1] ^ 1])
    return png[:begin] + body + struct.pack(">I", zlib.crc32(body)) + png[end + 4 :]


def test_a_trusted_signer_who_lies_about_an_ancestor_is_found_out(sign, edit, verifier: Verifier, keys: Path) -> None:
    """The record says nothing against the parent any more; the parent's own signature does."""
    broken = _with_broken_signature(sign())
    assert verifier.verify(broken).signature is CheckResult.FAILED
    child = edit(broken)
    assert verifier.verify(child).status is ManifestStatus.BAD_ANCESTOR
    key = serialization.load_pem_private_key(load_dev_key(keys).key_pem, None)
    # Codes of identity assertions change no verdict, so this one hides the failure from who only reads the record.
    lie = (b"claimSignature.mismatch", b"cawg.ignored.everywhere")
    verdict = verifier.verify(_falsify(child, verifier.verify(child).manifest_id, key, *lie))
    assert (verdict.status, verdict.lineage) == (ManifestStatus.TAMPERED, CheckResult.FAILED)
    assert verdict.codes[0] == "claimSignature.mismatch"
    assert verdict.signature is CheckResult.PASSED
