"""What a file's manifest proves: bytes in, one verdict out, never a network access.

Four questions are answered apart: integrity, signature, trust, lineage. The status sums them up by these rules, in
order; the first that matches decides:

1. UNREADABLE: the file or its manifests cannot be read, for whatever reason.
2. NO_MANIFEST: there is none, or only an address of one, which is not fetched.
3. TAMPERED: the active manifest fails on integrity or signature; or an ancestor fails now that did not when the active
   manifest was signed; or the file holds a manifest that nothing refers to; or, in strict mode, something stands where
   signers leave nothing.
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

from guardrails.domain.canonical import Json
from guardrails.domain.images import CheckResult, ManifestStatus, ManifestVerdict
from guardrails.provenance import backend, codes, rubric, strict
from guardrails.provenance.ancestry import Ancestor, unreferenced, walk
from guardrails.provenance.declarations import Declarations, declarations
from guardrails.provenance.manifest import POLICY_DECISION
from guardrails.provenance.shapes import items, members
from guardrails.provenance.trust import TrustStore

# Each ancestor costs a validation of its own; a file with more is built to keep a verifier busy.
_MAX_ANCESTORS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """Everything that was found out about one file.

    Attributes:
        oddities: codes of our own: strays, and findings of the strict mode.
        objections: what is wrong with each ancestor, by label; nothing for those that are in order.
    """

    store: backend.Store
    ancestors: tuple[Ancestor, ...]
    oddities: tuple[str, ...]
    objections: Mapping[str, tuple[str, ...]]

    @property
    def live(self) -> tuple[str, ...]:
        """Failures of the active manifest, and those of ancestors that are new since it was signed."""
        return (*self.store.failures, *self.store.changes)

    @property
    def broken(self) -> tuple[str, ...]:
        return (*filter(codes.concerns_integrity, self.live), *self.oddities)


class Verifier:
    """Checks files against one trust store. Safe to share between threads, and to use after a fork.

    Args:
        strict: also look at bytes that no signature covers (padding, headers, checksums), see `strict`.
    """

    def __init__(self, trust: TrustStore, *, strict: bool = False) -> None:
        self._anchors, self._strict = trust.anchors, strict

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
                return _verify(store, strict.findings(data) if self._strict else ())

    def conformance(self, data: bytes) -> tuple[rubric.Statement, ...]:
        """The statements of the conformance rubric on a file's active manifest; none where no manifest can be read."""
        reading = backend.read(data, self._anchors)
        return rubric.check(reading.crjson()) if isinstance(reading, backend.Store) else ()

    def assertions(self, data: bytes) -> Mapping[str, Json]:
        """The assertions of a file's active manifest by label, with numbers as they were signed, verified or not.

        Byte strings read as `b64'...'` or lists of numbers. Empty where no manifest can be read.
        """
        reading = backend.read(data, self._anchors)
        return _assertions(reading) if isinstance(reading, backend.Store) else {}

    def verify_store(self, data: bytes) -> ManifestVerdict:
        """The verdict on a manifest store whose file is not at hand: everything but the tie to the file's bytes."""
        match backend.read(data, self._anchors, backend.STORE_FORMAT):
            case backend.Store() as store:
                failures = tuple(code for code in store.failures if not codes.concerns_file(code))
                verdict = _verify(replace(store, failures=failures))
                return replace(verdict, explanation=_explain_store(verdict))
            case _:
                return _unreadable("there is no readable manifest store")


def _verify(store: backend.Store, oddities: tuple[str, ...] = ()) -> ManifestVerdict:
    """The verdict on a readable store; `oddities` are what the strict mode found."""
    if store.active not in store.manifests:
        return _unreadable("the manifest that speaks for the file holds something that cannot be rendered")
    ancestors = walk(store.active, store.manifests)
    if len(ancestors) > _MAX_ANCESTORS:
        return _unreadable(f"it lists more than {_MAX_ANCESTORS} pictures that it was made from")
    strays = (codes.UNREFERENCED,) if unreferenced(store.active, store.manifests) else ()
    objections = _object_to_ancestors(store, ancestors)
    return _verdict(_Evidence(store=store, ancestors=ancestors, oddities=(*strays, *oddities), objections=objections))


def _verdict(evidence: _Evidence) -> ManifestVerdict:
    store = evidence.store
    status, found = _judge(evidence)
    declared = declarations(store.manifests.get(store.active))
    parents = (declarations(store.manifests.get(ancestor.label)) for ancestor in evidence.ancestors)
    return ManifestVerdict(
        status=status,
        explanation=_explain(status, found, declared, _is_trusted(store)),
        integrity=_integrity(evidence),
        signature=_signature(store),
        trust=CheckResult.PASSED if _is_trusted(store) else CheckResult.FAILED,
        lineage=_lineage(evidence),
        manifest_id=store.active,
        issuer=declared.issuer,
        signed_at=declared.signed_at,
        time_stamped=declared.time_stamped and codes.TIME_STAMP_TRUSTED in store.successes,
        model=declared.model,
        ai_generated=declared.ai_generated or any(parent.ai_generated for parent in parents),
        mark_id=declared.mark_id,
        label=declared.label,
        policy_digest=declared.policy_digest,
        policy_decision=members(_assertions(store).get(POLICY_DECISION)) if declared.policy_digest else {},
        codes=tuple(dict.fromkeys((*found, *store.successes))),
        ancestry=tuple(_describe(ancestor, evidence.objections) for ancestor in evidence.ancestors),
    )


def _judge(evidence: _Evidence) -> tuple[ManifestStatus, tuple[str, ...]]:
    """The status, and the codes that speak against the file, the deciding one first."""
    # Rule 3.
    if evidence.broken:
        return ManifestStatus.TAMPERED, (*evidence.broken, *evidence.live)
    # Rule 4.
    if codes.EXPIRED in evidence.store.failures:
        return ManifestStatus.EXPIRED, (codes.EXPIRED, *evidence.live)
    # Rule 5.
    if evidence.objections:
        objections = [code for found in evidence.objections.values() for code in found]
        return ManifestStatus.BAD_ANCESTOR, (*objections, *evidence.store.failures)
    # Rules 6 and 7.
    trusted = _is_trusted(evidence.store)
    return ManifestStatus.TRUSTED if trusted else ManifestStatus.VALID_UNTRUSTED, evidence.store.failures


def _integrity(evidence: _Evidence) -> CheckResult:
    broken = [code for code in evidence.broken if not codes.concerns_signature(code)]
    return CheckResult.FAILED if broken else CheckResult.PASSED


def _signature(store: backend.Store) -> CheckResult:
    if any(map(codes.concerns_signature, store.failures)):
        return CheckResult.FAILED
    return CheckResult.PASSED if codes.SIGNATURE_VALIDATED in store.successes else CheckResult.NOT_CHECKED


def _lineage(evidence: _Evidence) -> CheckResult:
    if evidence.objections:
        return CheckResult.FAILED
    is_known = all(ancestor.label for ancestor in evidence.ancestors)
    return CheckResult.PASSED if is_known else CheckResult.UNKNOWN


def _object_to_ancestors(store: backend.Store, ancestors: tuple[Ancestor, ...]) -> dict[str, tuple[str, ...]]:
    doubted = {ancestor.label for ancestor in ancestors if ancestor.label and _is_doubtful(store, ancestor)}
    readings = {label: store.recheck(label) for label in doubted}
    objections: dict[str, tuple[str, ...]] = {}
    for ancestor in ancestors:
        found = (*ancestor.broken, *objections.get(ancestor.label, ()))
        if ancestor.label in doubted:
            found = (*found, *_object(readings[ancestor.label], ancestor, judge_signer=_is_trusted(store)))
        if found:
            objections[ancestor.label] = tuple(dict.fromkeys(found))
    return objections


def _is_doubtful(store: backend.Store, ancestor: Ancestor) -> bool:
    """Whether an ancestor has to be validated by itself.

    The SDK validates ancestors and reports what is not on record. When it confirms one, and neither the record nor
    that report says anything against it, a validation of its own could only repeat that.
    """
    on_record = (*ancestor.broken, *ancestor.doubts)
    return bool(on_record or store.changes) or ancestor.label not in store.confirmed


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
    return codes.SIGNER_TRUSTED in store.successes and not any(map(codes.concerns_trust, store.failures))


def _assertions(store: backend.Store) -> Mapping[str, Json]:
    active = next(
        (m for m in map(members, items(store.crjson().get("manifests"))) if m.get("label") == store.active), {}
    )
    return members(active.get("assertions"))


def _describe(ancestor: Ancestor, objections: Mapping[str, tuple[str, ...]]) -> str:
    name = ancestor.label or "a picture without a manifest"
    in_order = "no objection" if ancestor.label else "its origin is unknown"
    return f"{name} ({ancestor.relationship}): {', '.join(objections.get(ancestor.label, ())) or in_order}"


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


def _explain(status: ManifestStatus, found: tuple[str, ...], declared: Declarations, trusted: bool) -> str:
    first = found[0] if found else "the SDK gave no reason"
    issuer = declared.issuer or "an unnamed signer"
    listed = "is on the trust list" if trusted else "is not on the trust list"
    match status:
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
