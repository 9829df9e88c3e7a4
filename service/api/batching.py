"""Works through batches, a few lines at a time, in whichever API process holds a batch's lease.

1. The input file is checked as a whole.
2. Pictures become jobs of the job table, a few at once, so that others are served in between; moderations are answered
   here.
3. Each answer is durable in a file of its own before its line counts as answered: a process that dies repeats at most
   the line at hand, and a picture's job is found again by its key.
4. The answers are put together into the output file and the error file.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from guardrails.errors import GuardrailsError, OptionError, StorageError
from guardrails.files import write_atomically, writing_atomically
from service.access.keys import SCOPES
from service.api.answers import images_response
from service.api.context import Caller, Context
from service.api.errors import ApiError, from_bug, from_guardrails, from_validation
from service.api.moderations import Moderator
from service.api.requests import GenerationRequest, ModerationRequest
from service.api.submission import limits_of, new_job
from service.batches.lines import GENERATIONS, MODERATIONS, BatchLine, InvalidFile, check_file, read_line
from service.batches.table import Batch, BatchStatus, Line, LineState
from service.jobs.model import Job
from service.jobs.table import QuotaExceeded, Refused

_log = logging.getLogger(__name__)

SCOPE_OF: Mapping[str, str] = {GENERATIONS: "generate", MODERATIONS: "moderate"}

_LEASE_SECONDS = 120.0
# After so long other batches have their turn; far below the lease, which one line must not outlast.
_TURN_SECONDS = 5.0
_REST_SECONDS = 0.2
_GIVEN_UP = {
    BatchStatus.CANCELLED: ("batch_cancelled", "The batch was cancelled before this request was answered."),
    BatchStatus.EXPIRED: ("batch_expired", "This request could not be answered before the batch expired."),
}


class _Later(Exception):
    """The line has to wait: too many jobs are open."""


class BatchRunner:
    """Drives batches; one in each API process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._name = uuid.uuid4().hex

    def run_due(self) -> None:
        """Give every batch that is nobody's one turn."""
        until = time.monotonic() + _TURN_SECONDS
        while not self._context.draining and time.monotonic() < until:
            batch = self._context.batches.claim(self._name, _LEASE_SECONDS)
            if batch is None:
                return
            try:
                self._take_turn(batch)
            finally:
                self._context.batches.rest(batch.id, self._name, _REST_SECONDS)

    def _take_turn(self, batch: Batch) -> None:
        table = self._context.batches
        if batch.status is BatchStatus.FINALIZING:
            self._finalize(batch)
            return
        caller = self._caller(batch)
        if not batch.ending and (caller is None or batch.expires_at < time.time()):
            batch = table.end_early(batch.id, BatchStatus.EXPIRED if caller else BatchStatus.CANCELLED)
        if batch.ending:
            self._wind_up(batch)
        elif batch.status is BatchStatus.VALIDATING:
            self._validate(batch)
        elif caller is not None:
            self._advance(batch, caller)

    def _caller(self, batch: Batch) -> Caller | None:
        """Whose batch it is; None when the key or the tenant may no longer ask this."""
        context = self._context
        if context.settings.auth == "none":
            return Caller(tenant=context.tenants.get(batch.tenant), key=batch.api_key, scopes=frozenset(SCOPES))
        try:
            key, tenant = context.keys.get(batch.api_key), context.tenants.get(batch.tenant)
        except OptionError:
            return None
        allowed = key.is_good(time.time()) and not tenant.suspended and SCOPE_OF[batch.endpoint] in key.scopes
        return Caller(tenant=tenant, key=key.id, scopes=key.scopes) if allowed else None

    def _validate(self, batch: Batch) -> None:
        path = self._context.files.path(batch.input_file)
        try:
            places = check_file(path, batch.endpoint, self._context.settings.batch_requests)
        except InvalidFile as error:
            self._context.batches.fail(batch, error.errors)
        else:
            self._context.batches.begin(batch, places)

    def _advance(self, batch: Batch, caller: Caller) -> None:
        table, until = self._context.batches, time.monotonic() + _TURN_SECONDS
        open_ = self._collect(batch)
        room = max(0, self._context.settings.batch_jobs - open_)
        waiting = table.lines(batch.id, LineState.WAITING, limit=room)
        for line in waiting:
            try:
                self._run(batch, line, caller)
            except _Later:
                return
            if time.monotonic() > until or self._context.draining:
                return
        if not open_ and not waiting:
            table.finalize(batch)

    def _collect(self, batch: Batch) -> int:
        """Write down the jobs that are over; how many are not."""
        open_ = 0
        for line in self._context.batches.lines(batch.id, LineState.SUBMITTED):
            try:
                job = self._context.table.get(line.job)
            except KeyError:
                self._answer(batch, line, ApiError(410, "expired", "the job of this request is no longer kept"))
                continue
            if job.status.is_over:
                self._answer_job(batch, line, job)
            else:
                open_ += 1
        return open_

    def _wind_up(self, batch: Batch) -> None:
        """Stop what runs, and give up what waits."""
        for line in self._context.batches.lines(batch.id, LineState.SUBMITTED):
            try:
                self._context.table.cancel(line.job)
            except KeyError:
                continue
        if self._collect(batch):
            return
        code, message = _GIVEN_UP[BatchStatus(batch.ending)]
        for line in self._context.batches.lines(batch.id, LineState.WAITING):
            self._write(batch, line, None, {"code": code, "message": message})
        self._context.batches.finalize(batch)

    def _run(self, batch: Batch, line: Line, caller: Caller) -> None:
        asked = self._read(batch, line)
        try:
            if batch.endpoint == GENERATIONS:
                self._submit(batch, line, asked, caller)
            else:
                moderator = Moderator(self._context, caller, ModerationRequest.model_validate(asked.body))
                self._write(batch, line, (200, f"req_{uuid.uuid4().hex}", moderator.answer()))
        except ValidationError as error:
            self._answer(batch, line, from_validation(error.errors()))
        except ApiError as error:
            self._answer(batch, line, error)
        except StorageError:
            # The disk or the database: nothing that is wrong with this line, which waits until they are back.
            raise
        except GuardrailsError as error:
            self._answer(batch, line, from_guardrails(error))
        except _Later:
            raise
        except Exception as error:
            # A bug. It must not stop the batch; what a traceback quotes of the request is not logged.
            _log.error("%s in line %d of %s", type(error).__name__, line.line, batch.id)
            self._answer(batch, line, from_bug())

    def _submit(self, batch: Batch, line: Line, asked: BatchLine, caller: Caller) -> None:
        body = GenerationRequest.model_validate(asked.body)
        if body.stream:
            raise ApiError(400, "invalid_value", "stream: a batch answers by its files", param="stream")
        job = new_job(self._context, caller, body, request_id=f"req_{uuid.uuid4().hex}")
        # No header holds a line break, so no request of a client can have this key.
        job = dataclasses.replace(job, idempotency_key=f"{batch.id}\n{line.line}")
        try:
            known, _ = self._context.table.submit(job, limits_of(self._context, caller.tenant))
        except QuotaExceeded:
            raise
        except Refused as error:
            raise _Later from error
        self._context.batches.set_line(batch.id, line.line, LineState.SUBMITTED, known.id)

    def _answer_job(self, batch: Batch, line: Line, job: Job) -> None:
        try:
            self._write(batch, line, (200, job.request_id, images_response(self._context, job)))
        except ApiError as error:
            self._answer(batch, line, error, job.request_id)

    def _answer(self, batch: Batch, line: Line, error: ApiError, request_id: str = "") -> None:
        self._write(batch, line, (error.status, request_id or f"req_{uuid.uuid4().hex}", {"error": error.body}))

    def _write(
        self,
        batch: Batch,
        line: Line,
        response: tuple[int, str, Mapping[str, Any]] | None,
        error: Mapping[str, str] | None = None,
    ) -> None:
        """Make an answer durable, then let its line count as answered."""
        names = ("status_code", "request_id", "body")
        written = {
            "id": f"batch_req_{uuid.uuid5(uuid.NAMESPACE_URL, f'{batch.id}/{line.line}').hex}",
            "custom_id": self._read(batch, line).custom_id,
            "response": None if response is None else dict(zip(names, response, strict=True)),
            "error": error,
        }
        write_atomically(self._part(batch, line), json.dumps(written).encode() + b"\n", mode=0o600)
        good = response is not None and response[0] == 200
        state = LineState.SUCCEEDED if good else LineState.FAILED
        self._context.batches.set_line(batch.id, line.line, state, line.job)

    def _finalize(self, batch: Batch) -> None:
        output = self._put_together(batch, LineState.SUCCEEDED, "output")
        errors = self._put_together(batch, LineState.FAILED, "errors")
        self._context.batches.finish(batch, output, errors)
        shutil.rmtree(self._context.settings.batches / batch.id, ignore_errors=True)

    def _put_together(self, batch: Batch, state: LineState, name: str) -> str | None:
        """The id of the file with all answers of one kind; None when there are none."""
        lines = self._context.batches.lines(batch.id, state)
        if not lines:
            return None
        files = self._context.files
        # Chosen by what it holds: a second try, after a crash, writes the same file once more.
        id = f"file-{uuid.uuid5(uuid.NAMESPACE_URL, f'{batch.id}/{name}').hex}"
        with writing_atomically(files.path(id), mode=0o600) as file:
            for line in lines:
                with self._part(batch, line).open("rb") as part:
                    shutil.copyfileobj(part, file)
        seconds = self._context.settings.file_seconds
        files.register(id, batch.tenant, name=f"{batch.id}_{name}.jsonl", purpose="batch_output", seconds=seconds)
        return id

    def _read(self, batch: Batch, line: Line) -> BatchLine:
        return read_line(self._context.files.path(batch.input_file), line.start, line.length)

    def _part(self, batch: Batch, line: Line) -> Path:
        return self._context.settings.batches / batch.id / f"{line.line:06d}"
