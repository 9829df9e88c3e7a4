"""A worker: claims a job, makes its pictures, and writes down what became of them.

It may die at any point. The ids of a job's pictures are chosen when it arrives, so the next worker looks in the ledger
first: a picture that is recorded there is not made again, and one whose file was not yet in place gets it from the
ledger's own list of unfinished releases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind, Refusal
from guardrails.domain.records import Stage as RefusedAt
from guardrails.domain.requests import PromptRequest
from guardrails.errors import GuardrailsError
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat
from guardrails.ledger import commit
from guardrails.pipeline import Approval, Guard, Original, Step
from service.access.secrets import Secrets
from service.jobs.guards import Guards
from service.jobs.model import Job, Stage, Status
from service.jobs.outcomes import describe_refusal, describe_release, is_held
from service.jobs.table import JobTable, Lease, LeaseLost
from service.jobs.webhooks import enqueue
from service.policies import Policies, split
from service.stores import Transaction

_log = logging.getLogger(__name__)

_STAGES: Mapping[Step, Stage] = {
    Step.CLEARED: Stage.SCREENED,
    Step.DRAWN: Stage.GENERATED,
    Step.SCREENED: Stage.CHECKED,
    Step.MARKED: Stage.MARKED,
    Step.SIGNED: Stage.SELF_VERIFIED,
    Step.RECORDED: Stage.RECORDED,
}
_IDLE_SECONDS = 0.02
# Every step of a fast model would be one more write to the disk.
_PROGRESS_SECONDS = 0.5

Reached = Callable[[str], None]


class Worker:
    """Runs jobs one after the other.

    Args:
        reached: told the name of every stage when it is durable; crash tests die in it.
    """

    def __init__(
        self,
        table: JobTable,
        guards: Guards,
        policies: Policies,
        secrets: Secrets,
        *,
        assets: Path,
        uploads: Path,
        lease_seconds: float,
        reached: Reached | None = None,
    ) -> None:
        self._table = table
        self._guards = guards
        self._policies = policies
        self._secrets = secrets
        self._assets = assets
        self._uploads = uploads
        self._lease_seconds = lease_seconds
        self._reached = reached or (lambda stage: None)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; a job that runs by then is finished first."""
        while not stopping.is_set():
            if not self.run_one():
                stopping.wait(_IDLE_SECONDS)

    def run_one(self) -> bool:
        """Run one job, if there is one; False when none waits."""
        lease = self._table.claim(self.name, self._record_quarantine)
        if lease is None:
            return False
        started = time.time()
        with contextlib.suppress(LeaseLost), self._beating(lease):
            self._reached(Stage.CLAIMED)
            images, blocked, error = self._made(lease)
            result = {"images": images, "blocked": blocked, "error": error}
            self._finish(lease, result, started)
        return True

    def _made(self, lease: Lease) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any] | None]:
        """Released pictures, refusals, and the error that ended the job."""
        try:
            name, digest = split(lease.job.policy)
            guard = self._guards(self._policies.get(name, digest))
            guard.ledger.recover()
            blocked = self._generate(lease, guard)
            return self._released(lease.job, guard), blocked, None
        except LeaseLost:
            raise
        except GuardrailsError as error:
            _log.warning("job %s ended with %s", lease.job.id, error.code)
            message = error.message if error.http_status < 500 else "The service could not finish this request."
            failure = {"code": error.code, "message": message, "hint": error.hint, "status": error.http_status}
            return [], [], failure
        except Exception as error:
            # The worker must live on; the traceback may quote the prompt, so only its place is logged.
            _log.error("job %s ended with %s", lease.job.id, type(error).__name__)
            return [], [], {"code": "error", "message": "The service failed.", "hint": "", "status": 500}

    def _generate(self, lease: Lease, guard: Guard) -> list[dict[str, Any]]:
        job, request = lease.job, lease.job.request
        missing = [number for number, id in enumerate(job.ids) if guard.ledger.record(id) is None]
        if not missing:
            return []
        first = len(missing) == len(job.ids)
        # After a crash the rest is drawn one by one: each picture has its own seed.
        groups = [missing] if first else [[number] for number in missing]
        blocked: list[dict[str, Any]] = []
        for numbers in groups:
            outcomes = guard.generate_all(
                _prompt_request(request, numbers),
                format=ImageFormat.parse(request["format"]),
                out=self._assets,
                progress=self._progress(lease),
                ids=[ImageId.parse(job.ids[number]) for number in numbers],
                approval=_approval(request),
                original=self._original(request),
                watch=self._watch(lease),
            )
            whole = len(outcomes) != len(numbers)
            for number, outcome in zip(numbers, outcomes, strict=False):
                if isinstance(outcome, Refusal):
                    entry = describe_refusal(outcome, None if whole and first else number)
                    blocked.append(entry | _seen(guard, outcome))
        return blocked

    def _original(self, request: Mapping[str, Any]) -> Original | None:
        if "inputs" not in request:
            return None
        picture, *masks = [(self._uploads / name).read_bytes() for name in request["inputs"]]
        return Original.read(picture, strength=request["strength"], mask=masks[0] if masks else None)

    def _released(self, job: Job, guard: Guard) -> list[dict[str, Any]]:
        suffix = ImageFormat.parse(job.request["format"]).suffix
        images = []
        for number, id in enumerate(job.ids):
            record = guard.ledger.record(id)
            if record is not None and (self._assets / f"{id}{suffix}").exists():
                images.append(describe_release(guard.ledger, record, number, f"{id}{suffix}"))
        return images

    def _watch(self, lease: Lease) -> Callable[[Step, str], None]:
        def watch(step: Step, image_id: str) -> None:
            stage = _STAGES[step]
            self._table.advance(lease, stage, {"image": lease.job.ids.index(image_id)} if image_id else {})
            self._reached(stage)

        return watch

    def _progress(self, lease: Lease) -> Callable[[int, int], None]:
        last = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _PROGRESS_SECONDS:
                last = time.monotonic()
                self._table.advance(lease, "progress", {"done": done, "total": total})

        return progress

    def _finish(self, lease: Lease, result: Mapping[str, Any], started: float) -> None:
        status = _status(result, lease.job)
        if lease.job.cancelled or self._is_cancelled(lease):
            status = Status.CANCELLED

        def also(transaction: Transaction) -> None:
            self._note_decisions(transaction, lease.job, result, (time.time() - started) * 1000)
            if status is Status.HELD:
                _queue_reviews(transaction, lease.job, result)
            else:
                # The ledger keeps the prompt, erasable; this table has no further use for it.
                _forget_prompt(transaction, lease.job)
            enqueue(transaction, lease.job, status, result)

        self._reached("finishing")
        self._table.finish(lease, status, result, also)
        self._reached(Stage.RELEASED)
        if status is not Status.HELD:
            for name in lease.job.request.get("inputs", ()):
                (self._uploads / name).unlink(missing_ok=True)

    def _is_cancelled(self, lease: Lease) -> bool:
        return self._table.get(lease.job.id).cancelled

    def _note_decisions(
        self, transaction: Transaction, job: Job, result: Mapping[str, Any], milliseconds: float
    ) -> None:
        """What the search and the dashboard read: no words, a keyed digest of the prompt."""
        mac = self._secrets.mac("prompt", job.request["prompt"])
        for image in result["images"]:
            told = image["guardrails"]
            findings = told["findings"]
            row = (image["id"], "generation", "", told["action"], findings, told["policy"], image["sha256"], "")
            _add_decision(transaction, job, row, mac, milliseconds)
        for entry in result["blocked"]:
            findings = [{"category": category, "rule": ""} for category in entry["categories"]] + [
                {"category": "", "rule": rule} for rule in entry["rules"]
            ]
            row = (
                entry["decision_id"], "refusal", entry["step"], entry["action"], findings, entry["policy"], "",
                entry["fault"],
            )  # fmt: skip
            _add_decision(transaction, job, row, mac, milliseconds)

    def _record_quarantine(self, transaction: Transaction, job: Job) -> None:
        """A request that killed its workers leaves a record too; nothing of it was released unrecorded."""
        name, digest = split(job.policy)
        guard = self._guards(self._policies.get(name, digest))
        commitment, salt = commit("prompt", job.request["prompt"])
        record = Record(
            id=str(uuid.uuid5(uuid.UUID(job.ids[0]), "quarantine")),
            kind=RecordKind.REFUSAL,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            policy=guard.policy.ref,
            commitments={"prompt": commitment},
            facts={"stage": "generation", "fault": "quarantined", "attempts": job.attempts, "action": "block"},
        )
        if guard.ledger.record(record.id) is None:
            guard.ledger.append(record, {"request": {"prompt": job.request["prompt"]}, "salts": {"prompt": salt}})
        _forget_prompt(transaction, job)
        enqueue(transaction, job, Status.QUARANTINED, {"images": [], "blocked": []})

    @contextlib.contextmanager
    def _beating(self, lease: Lease) -> Iterator[None]:
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._lease_seconds / 3):
                try:
                    self._table.heartbeat(lease)
                except LeaseLost:
                    # The job is over, or another worker's; the next step will tell.
                    return
                except GuardrailsError as error:
                    _log.warning("no heartbeat for job %s: %s", lease.job.id, error.code)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _status(result: Mapping[str, Any], job: Job) -> Status:
    if result["error"] is not None:
        return Status.FAILED
    if result["images"]:
        return Status.SUCCEEDED
    # Reviewers see one picture; several of one request would be released unseen.
    drawn = any(entry["index"] is not None for entry in result["blocked"])
    if is_held(result["blocked"]) and (len(job.ids) == 1 or not drawn):
        return Status.HELD
    faulty = any(entry["fault"] for entry in result["blocked"])
    return Status.FAILED if faulty or not result["blocked"] else Status.REFUSED


def _prompt_request(request: Mapping[str, Any], numbers: list[int]) -> PromptRequest:
    names = {field.name for field in dataclasses.fields(PromptRequest)}
    values = {name: value for name, value in request.items() if name in names}
    if values.get("seed") is not None:
        values["seed"] += numbers[0]
    return PromptRequest(**{**values, "count": len(numbers)})


def _approval(request: Mapping[str, Any]) -> Approval | None:
    given = request.get("approval")
    if given is None:
        return None
    seen = {name: given[name] for name in ("seed", "pixels_sha256") if name in given}
    return Approval(review=given["review"], rules=frozenset(given["rules"]), **seen)


def _seen(guard: Guard, refusal: Refusal) -> dict[str, Any]:
    """What ties a release to the very picture that reviewers will see."""
    logged = guard.ledger.find_by_id(refusal.id)
    seed = None if logged is None else logged.record.facts.get("generation", {}).get("seed")
    if seed is None or refusal.stage is not RefusedAt.SCREENING or not refusal.evidence_file:
        return {} if seed is None else {"seed": seed}
    pixels = decode(Path(refusal.evidence_file).read_bytes()).pixels
    return {"seed": seed, "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}


def _queue_reviews(transaction: Transaction, job: Job, result: Mapping[str, Any]) -> None:
    """One review for the whole job: its refusals fall or stand together."""
    first = result["blocked"][0]
    transaction.run(
        "INSERT INTO reviews (id, tenant, job, image, created_at, status, stage, findings, evidence, prompt,"
        " claimed_by, claimed_until, decided_at) VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, '', 0, NULL)",
        first["decision_id"],
        job.tenant,
        job.id,
        job.ids[first["index"] or 0],
        time.time(),
        first["step"],
        json.dumps(result["blocked"]),
        first["evidence"],
        job.request["prompt"],
    )


def _forget_prompt(transaction: Transaction, job: Job) -> None:
    kept = {name: value for name, value in job.request.items() if name not in ("prompt", "negative_prompt")}
    transaction.run("UPDATE jobs SET request = ? WHERE id = ?", json.dumps(kept), job.id)


def _add_decision(
    transaction: Transaction, job: Job, row: tuple[Any, ...], prompt_mac: str, milliseconds: float
) -> None:
    id, kind, stage, action, findings, policy, sha256, fault = row
    transaction.run(
        "INSERT INTO decisions (id, tenant, job, at, kind, stage, action, categories, rules, policy, prompt_mac,"
        " image_sha256, milliseconds, fault) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        id,
        job.tenant,
        job.id,
        time.time(),
        kind,
        stage,
        action,
        ",".join(sorted({finding["category"] for finding in findings} - {""})),
        ",".join(sorted({finding["rule"] for finding in findings} - {""})),
        policy,
        prompt_mac,
        sha256,
        milliseconds,
        fault,
    )
