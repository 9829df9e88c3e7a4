"""Edited pictures: the state of what they were made from must reach the verdict, where the SDK says "trusted"."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrails.domain.images import CheckResult, ManifestStatus
from guardrails.provenance import Signer, TrustStore, Verifier
from guardrails.provenance.ancestry import unreferenced, walk


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
