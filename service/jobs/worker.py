"""A worker: claims jobs, makes their pictures, and writes down what became of them.

Jobs of one form are drawn in one call of the model; everything else each of them goes through by itself.

It may die at any point. The ids of a job's pictures are chosen when it arrives, so the next worker looks in the ledger
first: a picture that is recorded there is not made again, and one whose file was not yet in place gets it from the
ledger's own list of unfinished releases.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardrails.domain.identity import ImageId
from guardrails.domain.records import Record, RecordKind, Refusal
from guardrails.errors import GuardrailsError, OptionError
from guardrails.imaging.encoding import ImageFormat
from guardrails.ledger import commit
from guardrails.pipeline import Approval, Guard, Order, Original, Outcome, Step, draw_together
from guardrails.pipeline.stages import Begun, Pictures
from service.access.secrets import Secrets
from service.jobs.guards import Guards
from service.jobs.held import link_inputs, queue_review, set_aside
from service.jobs.model import Job, Stage, Status, prompt_request
from service.jobs.outcomes import describe_refusal, describe_release, is_held, is_listed
from service.jobs.table import JobTable, Lease, LeaseLost
from service.jobs.webhooks import enqueue
from service.policies import Policies, split
from service.stores import Transaction
from service.tracing import JobTrace, shared

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
_GATHERING_SECONDS = 0.005
# Every step of a fast model would be one more write to the disk.
_PROGRESS_SECONDS = 0.5

Reached = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One claimed job on its way.

    Attributes:
        begun: its order, once the prompt is cleared; None while it is not, and for a job that is tried again.
        error: that ended the job.
    """

    lease: Lease
    started: float
    trace: JobTrace
    guard: Guard | None = None
    begun: Begun | None = None
    blocked: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    is_over: bool = False


class Worker:
    """Runs jobs, those that can be drawn in one call together.

    Args:
        batch_pictures: that one call of the model draws at most, of one job or of several.
        batch_seconds: how long a job waits for others of its form while there is room.
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
        batch_pictures: int = 1,
        batch_seconds: float = 0.0,
        reached: Reached | None = None,
    ) -> None:
        self._table = table
        self._guards = guards
        self._policies = policies
        self._secrets = secrets
        self._assets = assets
        self._uploads = uploads
        self._lease_seconds = lease_seconds
        self._batch_pictures = batch_pictures
        self._batch_seconds = batch_seconds
        self._stopping = threading.Event()
        self._reached = reached or (lambda stage: None)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; the jobs at hand are finished first."""
        self._stopping = stopping
        while not stopping.is_set():
            if not self.run_one():
                stopping.wait(_IDLE_SECONDS)

    def run_one(self) -> bool:
        """Run the oldest job, and others that can be drawn with it; False when none waits."""
        lease = self._table.claim(self.name, self._record_quarantine)
        if lease is None:
            return False
        started = time.time()
        runs = [_Run(lease=one, started=started, trace=JobTrace(one.job)) for one in self._gathered(lease)]
        with self._beating([run.lease for run in runs]):
            for run in runs:
                self._reached(Stage.CLAIMED)
                with run.trace.inside():
                    self._begin(run)
                    if run.is_over:
                        self._end(run)
            going = [run for run in runs if not run.is_over]
            for run, pictures in zip(going, self._drawn(going), strict=True):
                with run.trace.inside():
                    self._complete(run, pictures)
                    self._end(run)
        return True

    def _gathered(self, first: Lease) -> list[Lease]:
        """The claimed job, and others of its form that wait already or come in time."""
        leases, until = [first], time.monotonic() + self._batch_seconds
        while (room := self._batch_pictures - sum(len(lease.job.ids) for lease in leases)) > 0 and first.job.form:
            leases += self._table.claim_alike(first, room)
            if time.monotonic() >= until or self._stopping.wait(_GATHERING_SECONDS):
                break
        return leases

    def _begin(self, run: _Run) -> None:
        """Clear the prompt. A job that was tried before is left to `_complete`: some of its pictures may be there."""
        job = run.lease.job
        with self._ending(run):
            run.guard = self._guard(job)
            run.guard.ledger.recover()
            if not any(run.guard.ledger.holds(id) for id in job.ids):
                begun = run.guard.begin(self._order(run.lease, range(len(job.ids))))
                if isinstance(begun, Refusal):
                    self._note_refusals(run, [begun], [0 if len(job.ids) == 1 else None], "input")
                    run.is_over = True
                else:
                    run.begun = begun

    @staticmethod
    def _drawn(runs: Sequence[_Run]) -> list[Pictures | None]:
        """What one call of the model drew for each run; None where it is to be drawn by itself."""
        ready = [(run.guard, run.begun) for run in runs if run.guard is not None and run.begun is not None]
        if len(ready) < 2:
            return [None] * len(runs)
        with shared("guardrails.generation", [run.trace for run in runs if run.begun is not None]):
            pictures = iter(draw_together(ready))
        return [None if run.begun is None else next(pictures) for run in runs]

    def _complete(self, run: _Run, pictures: Pictures | None) -> None:
        """Make what is missing of a job's pictures."""
        guard, job = run.guard, run.lease.job
        assert guard is not None
        with self._ending(run):
            if run.begun is not None:
                outcomes = guard.complete(run.begun, pictures)
                whole = len(outcomes) < len(job.ids)
                self._note_refusals(run, outcomes, [None] if whole else range(len(job.ids)))
                return
            # After a crash the rest is drawn one by one: each picture has its own seed.
            for number, id in enumerate(job.ids):
                if not guard.ledger.holds(id):
                    begun = guard.begin(self._order(run.lease, [number]))
                    if isinstance(begun, Refusal):
                        self._note_refusals(run, [begun], [number], "input")
                    else:
                        self._note_refusals(run, guard.complete(begun), [number])

    def _end(self, run: _Run) -> None:
        """Write down what became of a job, unless it is another worker's by now."""
        images: list[dict[str, Any]] = []
        with self._ending(run):
            # Also of a job that failed: what is recorded as released must be found.
            if run.guard is not None:
                images = self._released(run.lease.job, run.guard)
        blocked = [] if run.error is not None else run.blocked
        try:
            result = {"images": images, "blocked": blocked, "error": run.error}
            run.trace.end(self._finish(run.lease, result, run.started).value)
        except LeaseLost:
            run.trace.end("lost")
        except GuardrailsError as error:
            run.trace.end("lost")
            # Its lease runs out, and the next worker finds in the ledger what was released.
            _log.error("the end of job %s could not be written: %s", run.lease.job.id, error.code)

    @contextlib.contextmanager
    def _ending(self, run: _Run) -> Iterator[None]:
        """What goes wrong here ends this job and no other."""
        id = run.lease.job.id
        try:
            yield
            return
        except LeaseLost:
            # Cancelled, or another worker's: `_end` finds out which.
            pass
        except GuardrailsError as error:
            _log.warning("job %s ended with %s", id, error.code)
            message = error.message if error.http_status < 500 else "The service could not finish this request."
            run.error = {"code": error.code, "message": message, "hint": error.hint, "status": error.http_status}
        except Exception as error:
            # The worker must live on; the traceback may quote the prompt, so only its place is logged.
            _log.error("job %s ended with %s", id, type(error).__name__)
            run.error = {"code": "error", "message": "The service failed.", "hint": "", "status": 500}
        run.begun, run.is_over = None, True

    @staticmethod
    def _note_refusals(
        run: _Run, outcomes: Sequence[Outcome], numbers: Sequence[int | None], stage: str = "output"
    ) -> None:
        """What was refused, by the number of the picture; None for the request as a whole."""
        assert run.guard is not None
        for outcome, number in zip(outcomes, numbers, strict=True):
            if isinstance(outcome, Refusal):
                run.blocked.append(describe_refusal(outcome, number, stage) | _seen(run.guard, outcome))

    def _guard(self, job: Job) -> Guard:
        name, digest = split(job.policy)
        return self._guards(self._policies.get(name, digest))

    def _order(self, lease: Lease, numbers: Sequence[int]) -> Order:
        job, request = lease.job, lease.job.request
        return Order(
            request=prompt_request(request, numbers),
            format=ImageFormat.parse(request["format"]),
            quality=request.get("file_quality"),
            out=self._assets,
            progress=self._progress(lease),
            ids=[ImageId.parse(job.ids[number]) for number in numbers],
            approval=_approval(request),
            original=self._original(request),
            watch=self._watch(lease),
        )

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

    def _finish(self, lease: Lease, result: Mapping[str, Any], started: float) -> Status:
        status = _status(result, lease.job)
        if lease.job.cancelled or self._is_cancelled(lease):
            status = Status.CANCELLED
        aside = [] if status in (Status.HELD, Status.CANCELLED) else set_aside(lease.job, result)

        def also(transaction: Transaction) -> None:
            self._note_decisions(transaction, lease.job, result, (time.time() - started) * 1000)
            for entry in filter(is_listed, result["blocked"]):
                queue_review(transaction, lease.job, [entry], listed=True)
            if status is Status.HELD:
                queue_review(transaction, lease.job, result["blocked"])
            else:
                # The ledger keeps the prompt, erasable; this table has no further use for it.
                _forget_prompt(transaction, lease.job)
            for job in aside:
                # Not before it is sure that the job is still this worker's: another one removes its files at its end.
                link_inputs(lease.job, job, self._uploads)
                self._table.set_aside(transaction, job)
                result_aside = job.result or {}
                queue_review(transaction, job, result_aside["blocked"])
                enqueue(transaction, job, job.status, result_aside)
            enqueue(transaction, lease.job, status, result)

        self._reached("finishing")
        self._table.finish(lease, status, result, also)
        self._reached(Stage.RELEASED)
        if status is not Status.HELD:
            for name in lease.job.request.get("inputs", ()):
                (self._uploads / name).unlink(missing_ok=True)
        return status

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
        try:
            guard = self._guard(job)
        except OptionError:
            # Its pack has changed since; this is no pack's decision.
            guard = self._guards(self._policies.get())
        commitment, salt = commit("prompt", job.request["prompt"])
        record = Record(
            id=job.quarantine_id,
            kind=RecordKind.REFUSAL,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            policy=guard.policy.ref,
            commitments={"prompt": commitment},
            facts={"stage": "generation", "fault": "quarantined", "attempts": job.attempts, "action": "block"},
        )
        if not guard.ledger.holds(record.id):
            guard.ledger.append(record, {"request": {"prompt": job.request["prompt"]}, "salts": {"prompt": salt}})
        policy = f"{record.policy.id}@sha256:{record.policy.digest}"
        mac = self._secrets.mac("prompt", job.request["prompt"])
        _add_decision(
            transaction, job, (record.id, "refusal", "generation", "block", [], policy, "", "quarantined"), mac, 0.0
        )
        _forget_prompt(transaction, job)
        enqueue(transaction, job, Status.QUARANTINED, {"images": [], "blocked": []})

    @contextlib.contextmanager
    def _beating(self, leases: Sequence[Lease]) -> Iterator[None]:
        done = threading.Event()

        def beat() -> None:
            beating = list(leases)
            while not done.wait(self._lease_seconds / 3):
                beating = [lease for lease in beating if self._beat(lease)]

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, lease: Lease) -> bool:
        """Whether it is worth while to go on."""
        try:
            self._table.heartbeat(lease)
        except LeaseLost:
            # The job is over, or another worker's; the next step will tell.
            return False
        except GuardrailsError as error:
            _log.warning("no heartbeat for job %s: %s", lease.job.id, error.code)
        return True


def _status(result: Mapping[str, Any], job: Job) -> Status:
    if result["error"] is not None:
        return Status.FAILED
    if result["images"]:
        return Status.SUCCEEDED
    # Of several pictures each one that is held becomes a job of its own.
    whole = len(job.ids) == 1 or all(entry["index"] is None for entry in result["blocked"])
    if is_held(result["blocked"]) and whole:
        return Status.HELD
    faulty = any(entry["fault"] for entry in result["blocked"])
    return Status.FAILED if faulty or not result["blocked"] else Status.REFUSED


def _approval(request: Mapping[str, Any]) -> Approval | None:
    given = request.get("approval")
    if given is None:
        return None
    return Approval(
        review=given["review"],
        rules=frozenset(given["rules"]),
        pictures=frozenset(given.get("pictures", ())),
        seed=given.get("seed"),
    )


def _seen(guard: Guard, refusal: Refusal) -> dict[str, Any]:
    """What ties a release to the very picture that reviewers will see."""
    if not refusal.picture_sha256:
        return {}
    record = guard.ledger.record(refusal.id)
    seed = None if record is None else record.facts.get("generation", {}).get("seed")
    return {"picture_sha256": refusal.picture_sha256} | ({} if seed is None else {"seed": seed})


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
