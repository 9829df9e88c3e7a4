"""How every run ends: a release or a refusal that is durable in the ledger before anything leaves."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from guardrails.domain.canonical import to_plain
from guardrails.domain.findings import Action, Check, Finding, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.records import Receipt, Record, RecordKind, Refusal, Stage
from guardrails.domain.requests import PolicyRef
from guardrails.errors import GuardrailsError, InputError, LedgerError, StorageError
from guardrails.files import stage, write_atomically
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.ledger import Ledger, commit
from guardrails.pipeline.approval import picture_digest
from guardrails.pipeline.evidence import public_facts
from guardrails.pipeline.stages import Asked, Cleared, Draft, Sealed, Signed, Step, Watch
from guardrails.pipeline.timings import Timings
from guardrails.tracing import span

_Result = TypeVar("_Result")

# Up to here an input error is a mistake of the caller; behind the model it is a fault of a guard.
_CALLERS_STAGES = (Stage.PROMPT, Stage.GENERATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was kept for reviewers.

    Attributes:
        file: the picture that they are shown, or "".
        picture_sha256: of the pixels that they decide about; "" where there is no file.
    """

    file: str = ""
    picture_sha256: str = ""


NOTHING_KEPT = Kept()


class Recorder:
    """Writes down how runs end.

    Args:
        policy: that they run under.
        evidence: folder of pictures for reviewers, inside the installation.
    """

    def __init__(self, ledger: Ledger, policy: PolicyRef, evidence: Path) -> None:
        self._ledger = ledger
        self._policy = policy
        self._evidence = evidence

    def guarded(
        self, stage_: Stage, asked: Asked | Cleared, step: Callable[[], _Result], checks: tuple[Check, ...] = ()
    ) -> _Result | Refusal:
        """Run a step; whatever goes wrong inside becomes a recorded Refusal, never a release."""
        try:
            with span(f"guardrails.{stage_.value}"):
                return step()
        except LedgerError:
            # A refusal that cannot be recorded.
            raise
        except GuardrailsError as error:
            if isinstance(error, InputError) and stage_ in _CALLERS_STAGES:
                raise
            return self.refuse(stage_, asked, (), checks, fault=(error.code, error.message))
        except Exception as error:
            return self.refuse(stage_, asked, (), checks, fault=(type(error).__name__, str(error)))

    def refuse(
        self,
        stage_: Stage,
        asked: Asked | Cleared,
        findings: tuple[Finding, ...],
        checks: tuple[Check, ...] = (),
        draft: Draft | None = None,
        *,
        fault: tuple[str, str] = ("", ""),
        kept: Kept = NOTHING_KEPT,
        private: Mapping[str, Any] | None = None,
    ) -> Refusal:
        """Record a refusal; `private` is kept in place of what was asked."""
        code, message = fault
        digest, salt = commit("prompt", asked.request.prompt)
        record = Record(
            id=str(uuid.uuid4()),
            kind=RecordKind.REFUSAL,
            created_at=_now(),
            policy=self._policy,
            commitments={"prompt": digest},
            facts={
                "stage": stage_.value,
                "fault": code,
                **public_facts(
                    findings=findings,
                    checks=checks,
                    action=strongest(findings) if findings else Action.BLOCK,
                    generation=draft.facts if draft else None,
                ),
            },
        )
        # The message of a fault may quote the prompt.
        words = _private(asked, salt) if private is None else private
        payload = {**words, "fault": message, "evidence_file": kept.file}
        receipt = self._ledger.append(record, payload)
        return Refusal(
            id=record.id,
            stage=stage_,
            policy=self._policy,
            findings=findings,
            checks=checks,
            fault=f"{code}: {message}" if code else "",
            evidence_file=kept.file,
            picture_sha256=kept.picture_sha256,
            receipt=receipt,
        )

    def release(self, signed: Signed, out: Path | None, watch: Watch, timings: Timings) -> Sealed:
        """Record a picture, then give its file its name.

        Raises:
            LedgerError, StorageError: there is no record, and so there is no file.
        """
        marked = signed.marked
        draft = marked.screened.draft
        digest, salt = signed.prompt_commitment
        record = Record(
            id=str(draft.id),
            kind=RecordKind.GENERATION,
            created_at=_now(),
            policy=self._policy,
            mark_id=draft.id.mark_id,
            manifest_id=draft.id.urn,
            image_sha256=signed.sha256,
            commitments={"prompt": digest},
            facts=public_facts(
                findings=marked.all_findings,
                checks=marked.screened.checks,
                action=marked.action,
                generation=draft.facts,
                latent=draft.latent,
                embedding=marked.embedding,
                label=signed.label,
                fingerprint=signed.fingerprint,
                edges=signed.edges,
                approval=draft.cleared.approval,
                parent=draft.cleared.parent,
                timings=timings,
            ),
        )
        payload = _private(draft.cleared, salt)
        path = None if out is None else out / f"{draft.id}{signed.format.suffix}"
        receipt = self._record(record, payload, signed.data, path, watch)
        return Sealed(
            id=draft.id,
            data=signed.data,
            format=signed.format,
            sha256=signed.sha256,
            path=path,
            pixels=marked.pixels,
            facts=draft.facts,
            latent=draft.latent,
            decision=draft.cleared.decision,
            findings=marked.all_findings,
            checks=marked.screened.checks,
            matches=marked.screened.matches,
            embedding=marked.embedding,
            manifest=signed.manifest,
            receipt=receipt,
            timings=timings,
            label=signed.label,
        )

    def keep_for_review(self, image_id: ImageId, shown: Pixels, *picture: Pixels) -> Kept:
        """Keep what a reviewer needs to see; nothing where that cannot be written.

        Args:
            shown: what the reviewer sees.
            picture: what the decision is about; see `approval.picture_digest`.
        """
        path = self._evidence / f"{image_id}.png"
        try:
            write_atomically(path, encode(shown, ImageFormat.PNG), mode=0o600)
        except StorageError:
            # The rule has spoken; the refusal stands without its picture.
            return NOTHING_KEPT
        return Kept(file=str(path), picture_sha256=picture_digest(*picture))

    def keep_held(self, draft: Draft, findings: Iterable[Finding]) -> Kept:
        """Keep a draft that waits for a review; nothing of one that is refused for good."""
        held = strongest(findings) is Action.REVIEW
        return self.keep_for_review(draft.id, draft.pixels, draft.pixels) if held else NOTHING_KEPT

    def _record(self, record: Record, payload: dict[str, Any], data: bytes, path: Path | None, watch: Watch) -> Receipt:
        """Make the record durable, then give the file its name; without a record no file stays behind."""
        if path is None:
            return self._ledger.append(record, payload)
        staged = stage(path.parent, data)
        try:
            with span("guardrails.record"):
                receipt = self._ledger.append(record, payload, release=(staged, path))
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        watch(Step.RECORDED, record.id)
        with span("guardrails.release"):
            self._ledger.finish_release(record.id)
        return receipt


def _private(asked: Asked | Cleared, salt: str) -> dict[str, Any]:
    """What is private and erasable: the words, and the salt that ties them to the record."""
    return {"request": to_plain(asked.request), "decision": to_plain(asked.decision), "salts": {"prompt": salt}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
