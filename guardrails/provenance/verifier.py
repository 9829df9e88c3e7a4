"""What a file's manifest proves: bytes in, one verdict out, never a network access.

The rules, in order; the first that matches decides:

1. UNREADABLE: the file or its manifests cannot be read, for whatever reason.
2. NO_MANIFEST: there is none, or only an address of one, which is not fetched.
3. TAMPERED: the active manifest fails on integrity; or an ancestor fails now that did not when the active manifest was
   signed; or the file holds a manifest that nothing refers to.
4. EXPIRED: what was signed is intact, but the certificate has expired and no trusted time-stamp covers the signature.
5. BAD_ANCESTOR: the active manifest is intact, but a picture it was made from is not: its integrity failed when it was
   used (its pixels are not at hand any more, so the record of that counts), its manifest fails now, or its signer is
   not trusted where that of the active manifest is.
6. VALID_UNTRUSTED: all is intact, but the signer is not on the trust list.
7. TRUSTED: nothing is left to object to, and the SDK found the signer among the trust anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from guardrails.domain.images import ManifestStatus, ManifestVerdict
from guardrails.provenance import backend, codes
from guardrails.provenance.ancestry import Ancestor, unreferenced, walk
from guardrails.provenance.declarations import declarations
from guardrails.provenance.trust import TrustStore

_SIGNER_TRUSTED = "signingCredential.trusted"
# Each ancestor costs a validation of its own; a file with more is built to keep a verifier busy.
_MAX_ANCESTORS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    status: ManifestStatus
    codes: tuple[str, ...]
    ancestry: tuple[str, ...]


class Verifier:
    """Checks files against one trust store. Safe to share between threads, and to use after a fork."""

    def __init__(self, trust: TrustStore) -> None:
        self._anchors = trust.anchors

    def verify(self, data: bytes) -> ManifestVerdict:
        """The verdict on one file of any kind; never raises because of what is in it.

        The verdict repeats what the manifest declares (model, policy, watermark id) whatever the status is: below
        TRUSTED these are claims of somebody, not facts.
        """
        match backend.read(data, self._anchors):
            case backend.Unreadable(reason=reason):
                return _unreadable(reason)
            case backend.NoStore(remote=remote):
                return ManifestVerdict(status=ManifestStatus.NO_MANIFEST, explanation=_explain_absence(remote))
            case backend.Store() as store:
                return _verify(store)

    def verify_store(self, data: bytes) -> ManifestVerdict:
        """The verdict on a manifest store whose file is not at hand: everything but the tie to the file's bytes."""
        match backend.read(data, self._anchors, backend.STORE_FORMAT):
            case backend.Store() as store:
                failures = tuple(code for code in store.failures if not codes.concerns_file(code))
                verdict = _verify(replace(store, failures=failures))
                return replace(verdict, explanation=_explain_store(verdict))
            case _:
                return _unreadable("there is no readable manifest store")


def _verify(store: backend.Store) -> ManifestVerdict:
    ancestors = walk(store.active, store.manifests)
    if len(ancestors) > _MAX_ANCESTORS:
        return _unreadable(f"it lists more than {_MAX_ANCESTORS} pictures that it was made from")
    judgement = _judge(store, ancestors)
    declared = declarations(store.manifests.get(store.active))
    family = [store.active, *(ancestor.label for ancestor in ancestors)]
    return ManifestVerdict(
        status=judgement.status,
        explanation=_explain(judgement, declared.issuer or "an unnamed signer", _is_trusted(store)),
        manifest_id=store.active,
        issuer=declared.issuer,
        signed_at=declared.signed_at,
        model=declared.model,
        ai_generated=any(declarations(store.manifests.get(label)).ai_generated for label in family),
        mark_id=declared.mark_id,
        policy_digest=declared.policy_digest,
        codes=judgement.codes,
        ancestry=judgement.ancestry,
    )


def _judge(store: backend.Store, ancestors: tuple[Ancestor, ...]) -> _Judgement:
    strays = unreferenced(store.active, store.manifests)
    # Rule 3.
    live = (*store.failures, *store.changes)
    broken = [code for code in live if codes.concerns_integrity(code)]
    if broken or strays:
        found = (*live, codes.UNREFERENCED) if strays else live
        return _judgement(ManifestStatus.TAMPERED, found, store, ancestors, None)
    # Rule 4.
    if codes.EXPIRED in store.failures:
        return _judgement(ManifestStatus.EXPIRED, live, store, ancestors, None)
    # Rule 5.
    objections = _object_to_ancestors(store, ancestors)
    if objections:
        found = (*store.failures, *(code for listed in objections.values() for code in listed))
        return _judgement(ManifestStatus.BAD_ANCESTOR, found, store, ancestors, objections)
    # Rules 6 and 7.
    status = ManifestStatus.TRUSTED if _is_trusted(store) else ManifestStatus.VALID_UNTRUSTED
    return _judgement(status, store.failures, store, ancestors, {})


def _object_to_ancestors(store: backend.Store, ancestors: tuple[Ancestor, ...]) -> dict[str, tuple[str, ...]]:
    """What is wrong with each ancestor, by label; nothing for those that are in order or have no manifest."""
    readings = {ancestor.label: store.recheck(ancestor.label) for ancestor in ancestors if ancestor.label}
    objections: dict[str, tuple[str, ...]] = {}
    for ancestor in ancestors:
        found = (*ancestor.broken, *objections.get(ancestor.label, ()))
        if ancestor.label:
            found = (*found, *_object(readings[ancestor.label], ancestor, judge_signer=_is_trusted(store)))
        if found:
            objections[ancestor.label] = tuple(dict.fromkeys(found))
    return objections


def _object(reading: backend.Reading, ancestor: Ancestor, *, judge_signer: bool) -> tuple[str, ...]:
    if not isinstance(reading, backend.Store):
        return (codes.ANCESTOR_UNREADABLE,)
    failures = [code for code in reading.failures if not codes.concerns_file(code)]
    broken = [code for code in failures if codes.concerns_integrity(code)]
    if not judge_signer:
        return tuple(broken)
    # A certificate that was good when the ancestor was used may expire later; the record of that time decides then.
    doubts = ancestor.doubts if codes.EXPIRED in failures else filter(codes.concerns_trust, failures)
    return (*broken, *doubts)


def _is_trusted(store: backend.Store) -> bool:
    return _SIGNER_TRUSTED in store.successes and not any(codes.concerns_trust(code) for code in store.failures)


def _judgement(
    status: ManifestStatus,
    found: tuple[str, ...],
    store: backend.Store,
    ancestors: tuple[Ancestor, ...],
    objections: Mapping[str, tuple[str, ...]] | None,
) -> _Judgement:
    """Put a verdict together; `objections` is None where the ancestors were not checked."""
    lines = tuple(_describe(ancestor, objections) for ancestor in ancestors)
    return _Judgement(status=status, codes=tuple(dict.fromkeys((*found, *store.successes))), ancestry=lines)


def _describe(ancestor: Ancestor, objections: Mapping[str, tuple[str, ...]] | None) -> str:
    name = ancestor.label or "a picture without a manifest"
    if objections is None:
        finding = ", ".join(ancestor.broken) or "not checked"
    else:
        in_order = "no objection" if ancestor.label else "its origin is unknown"
        finding = ", ".join(objections.get(ancestor.label, ())) or in_order
    return f"{name} ({ancestor.relationship}): {finding}"


def _unreadable(reason: str) -> ManifestVerdict:
    return ManifestVerdict(
        status=ManifestStatus.UNREADABLE,
        explanation=f"The file or its manifest cannot be read, so nothing was checked: {reason}.",
    )


def _explain_absence(remote: bool) -> str:
    found = (
        "The file only names an address where a manifest may be; it was not fetched."
        if remote
        else "The file carries no manifest."
    )
    return f"{found} That says nothing about its origin: manifests are lost whenever a file is saved anew."


def _explain_store(verdict: ManifestVerdict) -> str:
    issuer = verdict.issuer or "an unnamed signer"
    match verdict.status:
        case ManifestStatus.TRUSTED:
            found = f"it is intact, and its signer ({issuer}) is on the trust list"
        case ManifestStatus.VALID_UNTRUSTED:
            found = f"it is intact, but its signer ({issuer}) is not on the trust list"
        case ManifestStatus.EXPIRED:
            found = f"it is intact, but the certificate of {issuer} has expired"
        case ManifestStatus.BAD_ANCESTOR:
            found = f"it is intact and signed by {issuer}, but a manifest that it refers to is not in order"
        case _:
            found = "it was changed after it was signed"
    return f"The manifest was checked without its file: {found}."


def _explain(judgement: _Judgement, issuer: str, trusted: bool) -> str:
    first = judgement.codes[0] if judgement.codes else "the SDK gave no reason"
    listed = "is on the trust list" if trusted else "is not on the trust list"
    match judgement.status:
        case ManifestStatus.TRUSTED:
            return f"Check passed: the file is exactly as {issuer} signed it, and this signer {listed}."
        case ManifestStatus.VALID_UNTRUSTED:
            return f"The file is exactly as it was signed, but the signer ({issuer}) {listed} ({first})."
        case ManifestStatus.TAMPERED if first == codes.UNREFERENCED:
            return "Check failed: the file holds a manifest that nothing refers to; it does not come from one signer."
        case ManifestStatus.TAMPERED:
            return f"Check failed: the file or its manifest was changed after it was signed ({first})."
        case ManifestStatus.EXPIRED:
            return (
                f"The file is exactly as it was signed, but the certificate of {issuer} has expired and no trusted "
                "time-stamp shows that the signature is older."
            )
        case _:
            return (
                f"The file itself is exactly as {issuer} signed it (this signer {listed}), but a picture that it was "
                "made from did not pass: see the ancestry."
            )
